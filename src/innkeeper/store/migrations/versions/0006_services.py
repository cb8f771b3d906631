"""The address of an activation that follows its pod: for gateways that have lost touch with the state database."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    # Past SQLAlchemy, which would read ":name" as a parameter.
    op.get_bind().connection.cursor().execute(script.encode())
