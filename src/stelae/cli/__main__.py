"""``python -m stelae.cli``: how ``stelae up`` starts a controller with this very interpreter."""

from __future__ import annotations

import sys

from stelae.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
