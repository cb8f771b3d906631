"""``inn secrets``: the key-encryption keys under which the state database's secrets are sealed."""

import sys

from innkeeper.cli.command import Inn, Wait, command, noun
from innkeeper.cli.follow import follow

secrets = noun("Secrets sealed at rest: their keys, and changing them.")

_COLUMNS = ("key", "present", "sealing", "secrets", "activation_keys", "kept_answers")


@command(secrets, "status")
def status(inn: Inn) -> None:
    """Every key that is in the key file or still needed, and what is sealed under it."""
    inn.show(inn.client.get("/v1/secrets")["items"], _COLUMNS)


@command(secrets, "new-key")
def new_key(inn: Inn) -> None:
    """Print a fresh line for the key file, a secret; nothing is changed. docs/operations.md says where it goes."""
    from innkeeper.adapters.keyfile import new_line

    line = new_line().strip()
    inn.done(line, {"line": line, "key": line.partition(" ")[0]})


@command(secrets, "reseal")
def reseal(inn: Inn, wait: Wait = False) -> None:
    """Seal everything again under the first key of the key file; workspaces run, wake and sleep meanwhile."""
    operation = inn.client.post("/v1/secrets/reseal").body
    if not wait:
        inn.done(f"sealing again; follow it with inn operation follow {operation['id']}", operation)
        return
    ended = follow(inn.waiting(), operation["id"], title="reseal")
    inn.done(f"everything is sealed under key {operation['detail']['key']}", ended)
    if inn.people:
        older = ", ".join(operation["detail"]["older"])
        if older:
            sys.stdout.write(
                f"once every process has read this key file, the lines of {older} may be removed from it\n"
            )
