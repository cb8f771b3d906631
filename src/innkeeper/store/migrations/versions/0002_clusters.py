"""Clusters: rows, the one each activation is on, and workspaces that are being moved off one."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    # Past SQLAlchemy, which would read ":name" as a parameter.
    op.get_bind().connection.cursor().execute(script.encode())
