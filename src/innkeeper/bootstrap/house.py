"""Builds what the control layer works with: state database and ports. Called by web.py and working.py."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from innkeeper.adapters.http_health import HttpHealth
from innkeeper.adapters.keyfile import KeyFile
from innkeeper.adapters.local.mail import MailFolder
from innkeeper.adapters.mail_relay import MailRelay
from innkeeper.adapters.postgres import PostgresServers
from innkeeper.bootstrap.local import MAIL_SENDER, OPERATOR_MAIL, Local
from innkeeper.bootstrap.runtimes import RuntimesOfHouse
from innkeeper.control.house import House
from innkeeper.logs.redaction import Secret
from innkeeper.model.domain import Domain
from innkeeper.ports import Mailer
from innkeeper.settings import HouseSettings, StateSettings
from innkeeper.store.session import Database


@contextmanager
def opened_state(state: StateSettings, *, application: str) -> Generator[Database]:
    """The state database, closed at the end."""
    database = Database(state.dsn.reveal(), application=application, size=state.connections)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def opened_house(database: Database, house: HouseSettings, domain: Domain) -> Generator[House]:
    """Every port's implementation. Nothing outside is asked before it is needed."""
    with ExitStack() as stack:
        servers = PostgresServers()
        stack.callback(servers.close)
        runtimes = RuntimesOfHouse(house)
        stack.callback(runtimes.close)
        yield House(
            database=database,
            runtimes=runtimes,
            health=HttpHealth(),
            servers=servers,
            mailer=_mailer(house),
            box=KeyFile(house.key_file),
            domain=domain,
            operator_mail=house.operator_mail,
        )


def _mailer(house: HouseSettings) -> Mailer:
    if house.mail_relay is not None:
        return MailRelay(house.mail_relay.reveal(), sender=house.mail_sender, trusted=house.trusted)
    return MailFolder(house.mail_folder, sender=house.mail_sender)


def local_state(local: Local, *, connections: int) -> StateSettings:
    """The state database of local mode, as the application's role."""
    return StateSettings(Secret(local.state_dsn("innkeeper_app")), connections)


def local_house(local: Local) -> HouseSettings:
    """The rest of it."""
    return HouseSettings(
        key_file=local.key_file,
        runtime_folder=local.data.workspaces,
        mail_folder=local.data.outbox,
        mail_sender=MAIL_SENDER,
        operator_mail=OPERATOR_MAIL,
        audit_anchor_file=local.data.root / "audit-anchors.jsonl",
    )
