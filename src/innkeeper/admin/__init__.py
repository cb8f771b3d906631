"""The operator API, ``/v1``. ``app.create_admin`` builds it; bootstrap.py wires and serves it.

A request's way: routing.py (the route's declared scope, form of body and query) -> the endpoint in routes/ -> call.py
(one transaction: who asks, idempotency, the verb, the answer) -> commit -> response. Problems: problems.py.
"""
