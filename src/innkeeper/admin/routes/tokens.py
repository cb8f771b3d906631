"""/v1/tokens."""

from starlette.responses import Response

from innkeeper.admin import routing, views
from innkeeper.admin.call import Reply, TheCall
from innkeeper.admin.paging import PageSize, PageToken, page
from innkeeper.admin.schemas import tokens as s
from innkeeper.control import tokens as verbs
from innkeeper.model import durations
from innkeeper.model.token import Scope
from innkeeper.store import tokens as store
from innkeeper.store.session import Session

router = routing.router("tokens")


def create_token(call: TheCall, body: s.NewToken) -> Response:
    """A new token; its text is in this answer only."""

    def effect(session: Session, actor: str) -> Reply:
        life = durations.parse(body.expires_in, field="expires_in")
        token, text = verbs.create(session, actor=actor, name=body.name, scopes=body.scopes, life=life)
        return Reply(views.token(token, text), 201)

    return call.once(effect)


def list_tokens(call: TheCall, page_size: PageSize = 0, page_token: PageToken = "") -> Response:
    """All tokens, ended ones too, in order of id."""
    return call.read(
        lambda session: page(
            session,
            call,
            size=page_size,
            token=page_token,
            fetch=lambda after, limit: store.page(session, after=after[0] if after else "", limit=limit),
            place=lambda row: [row.id],
            show=views.token,
        )
    )


def revoke_token(call: TheCall, token: str) -> Response:
    """End a token now."""
    return call.once(lambda session, actor: Reply(views.token(verbs.revoke(session, actor=actor, token_id=token))))


routing.add(router, "POST", "/tokens", create_token, scope=Scope.ADMIN, answer=s.MadeToken, status=201)
routing.add(router, "GET", "/tokens", list_tokens, scope=Scope.ADMIN, answer=s.Tokens)
routing.add(router, "DELETE", "/tokens/{token}", revoke_token, scope=Scope.ADMIN, answer=s.Token)
