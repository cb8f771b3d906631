"""The sample application: a guest book that keeps everything in its own PostgreSQL database.

It is a tenant like any other: it knows nothing of Innkeeper, only the environment that app.yaml describes, and nothing
in the product imports it. It starts fast, because waking is what it is there to show.
"""
