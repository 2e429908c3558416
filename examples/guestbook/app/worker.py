"""A process without a port: ``python3 -m app.worker``. It says every few seconds that it lives.

Setting: HEARTBEAT, the seconds between two lines (5).
"""

from __future__ import annotations

import os
import signal
import sys
import time

from app.version import VERSION


def main() -> None:
    """Print a heartbeat until SIGTERM; then say so and end with status 0."""
    try:
        seconds = float(os.environ.get("HEARTBEAT", "5"))
    except ValueError as error:
        sys.exit(f"worker: HEARTBEAT: {error}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    beats = 0
    try:
        while True:
            beats += 1
            print(f"worker version {VERSION}: heartbeat {beats}", flush=True)
            time.sleep(seconds)
    finally:
        print("worker: ended", flush=True)


if __name__ == "__main__":
    main()
