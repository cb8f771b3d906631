"""PostgreSQL servers that hold workspaces' databases: the ports DatabaseServer and DatabaseServers.

server.py is the way in. Every act goes through journal.py (who may act, and what was intended), says what hardening.py
and extensions.py hold, and fails with what errors.py translates. The admin database of each instance is made by
prepare.py.
"""

from innkeeper.adapters.postgres.server import PostgresServer, PostgresServers

__all__ = ["PostgresServer", "PostgresServers"]
