"""The endpoints, one module a noun. Each module has ``router``; ``app.py`` includes them all."""
