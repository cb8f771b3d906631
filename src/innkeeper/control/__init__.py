"""Verbs that people and gateways ask with, and the reconciler that converges what they asked for.

Verbs change rows and never the outside; steps change the outside through ports and record what they did.
"""
