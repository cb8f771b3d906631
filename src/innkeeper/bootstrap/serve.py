"""Production entry points: one process, told by INN_* variables, until SIGTERM. Called by ``inn serve``."""

from typing import Literal

from innkeeper.adapters.local.importing import uncollected
from innkeeper.logs.setup import configure
from innkeeper.settings.environment import Environment

What = Literal["admin", "hub", "worker", "gateway", "postgres", "issuer", "outbox"]
"""The last three are for evaluations: production has a PostgreSQL, an issuer and a mail relay of its own."""


def serve(what: What) -> int:
    """Run it; the exit status."""
    environment = Environment()
    configure(form=environment.logs.form, level=environment.logs.level)
    match what:
        case "admin":
            with uncollected():
                from innkeeper.bootstrap.web import serve_admin

            serve_admin(environment.state, environment.house, environment.public, environment.listen)
        case "hub":
            with uncollected():
                from innkeeper.bootstrap.web import serve_hub

            serve_hub(
                environment.state,
                environment.house,
                environment.public,
                environment.identity,
                environment.listen,
            )
        case "worker":
            with uncollected():
                from innkeeper.bootstrap.working import work

            work(environment.state, environment.house, environment.domain, listen=environment.listen)
        case "outbox":
            with uncollected():
                from innkeeper.bootstrap.outbox import serve_outbox

            serve_outbox(environment.mail_folder, environment.listen)
        case "gateway":
            with uncollected():
                from innkeeper.bootstrap.gateway import serve_gateway

            return serve_gateway(environment.gateway, environment.domain)
        case "postgres":
            with uncollected():
                from innkeeper.bootstrap.evaluation import serve_postgres

            return serve_postgres(environment.postgres)
        case "issuer":
            with uncollected():
                from innkeeper.bootstrap.evaluation import serve_issuer

            serve_issuer(environment.issuer)
    return 0
