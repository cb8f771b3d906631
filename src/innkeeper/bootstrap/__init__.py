"""The only wiring: settings in, running things out. One module a process, so that each imports only what it runs.

``dev`` puts local mode together (called by ``inn dev``), ``child`` is what its Python children run, ``prepare`` brings
a data directory up to date; ``house``, ``web``, ``working`` and ``gateway`` build what local mode and ``inn serve``
share.
"""
