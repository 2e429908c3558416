"""How many times as long everything may take here: 1, and more on a machine that is emulated (tests/vm)."""

from __future__ import annotations

import os

from stelae.platforms.local.proxy import router

PATIENCE = float(os.environ.get("STELAE_TEST_PATIENCE", "1"))

if PATIENCE != 1:  # HAProxy is as slow there as all the rest
    router._PATIENCE *= PATIENCE
    router._START_PATIENCE *= PATIENCE
