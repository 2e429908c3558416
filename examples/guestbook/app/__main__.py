"""Serve the guestbook: ``python3 -m app``.

On SIGTERM it takes no new connections, finishes the requests that are open, and exits with status 0.
Settings: PORT (8000), COLLECTOR_URL (empty: entries are kept in memory). The page names STELAE_INSTANCE, which Stelae
sets, or else the host.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

import uvicorn

from app.store import open_store
from app.version import VERSION
from app.web import create_app


def main() -> None:
    """Serve until SIGTERM."""
    try:
        store = open_store(os.environ.get("COLLECTOR_URL", ""))
        port = int(os.environ.get("PORT", "8000"))
    except ValueError as error:
        sys.exit(f"guestbook: {error}")
    instance = os.environ.get("STELAE_INSTANCE") or socket.gethostname()
    # uvicorn ends well on SIGTERM and then sends the signal to itself again, which would end this process by
    # the signal (or, as the first process of a container, not at all). With this handler it ends with status 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        create_app(store, instance),
        host="0.0.0.0",
        port=port,
        loop="asyncio",
        http="h11",
        ws="websockets-sansio",
        lifespan="off",
        access_log=False,
        server_header=False,
        headers=[("x-version", VERSION), ("x-instance", instance)],
    )


if __name__ == "__main__":
    main()
