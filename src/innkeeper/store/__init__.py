"""The state database: one module of functions per aggregate, SQL as text. A ``Session`` is the unit of work.

Functions take the caller's session and never commit; the edge or the reconciler owns the transaction.
"""
