"""How many fall asleep in an hour; sealing again, one at a time."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    # Past SQLAlchemy, which would read ":name" as a parameter.
    op.get_bind().connection.cursor().execute(script.encode())
