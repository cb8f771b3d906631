"""Helpers and fixtures shared by tests. Imported as `support.<module>` (pyproject puts tests/ on the path)."""
