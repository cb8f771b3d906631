"""Spare databases: made before a workspace asks for one, handed out with one row."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    # Past SQLAlchemy, which would read ":name" as a parameter.
    op.get_bind().connection.cursor().execute(script.encode())
