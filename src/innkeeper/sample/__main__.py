"""``python -m innkeeper.sample``: what app.yaml runs.

Whoever wakes a workspace waits for these imports. Python's collector would look through them as they come, a fifth of
what they cost, and find nothing.
"""

import gc
import sys

gc.disable()
from innkeeper.sample.server import main  # noqa: E402 - so that it is uncollected

gc.freeze()
gc.enable()
sys.exit(main())
