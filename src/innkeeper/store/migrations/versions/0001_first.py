"""The first schema. Migrations are SQL beside their revision, forward only: N-1 must run on N (invariant I13)."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    # Past SQLAlchemy, which would read ":name" as a parameter.
    op.get_bind().connection.cursor().execute(script.encode())
