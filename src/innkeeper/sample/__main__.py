"""``python -m innkeeper.sample``: what app.yaml runs."""

import sys

from innkeeper.sample.server import main

sys.exit(main())
