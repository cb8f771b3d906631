"""The only way in for customer traffic: HAProxy's configuration and the agent beside it.

``config`` renders what HAProxy reads, ``agent`` is the process that fills HAProxy's maps from the route table, counts,
acknowledges and wakes. Both are started by the supervisor or by ``inn serve gateway``. Nothing here imports FastAPI,
SQLAlchemy or the store: the agent is one small process per HAProxy.
"""
