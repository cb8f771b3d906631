"""Alembic's entry: runs the migrations over psycopg in one transaction. Called by store/schema.py only."""

import psycopg
from alembic import context
from sqlalchemy import create_engine, pool

dsn: str = context.config.attributes["dsn"]
engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=pool.NullPool)

with engine.connect() as connection:
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
