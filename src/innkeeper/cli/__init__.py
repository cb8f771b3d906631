"""The command ``inn``. Talks to the admin API; ``dev``, ``serve`` and ``db`` run the product itself."""
