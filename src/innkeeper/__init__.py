"""Innkeeper: the control plane that gives every customer of a single-tenant application a workspace of their own.

The layers, high to low: cli, bootstrap, (admin, hub, outbox, gateway, worker, adapters, settings), control, store,
ports, model. docs/architecture.md walks through them; import-linter holds them.
"""
