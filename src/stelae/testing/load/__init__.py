"""Traffic that counts: what a deployment must not drop, and the proof that it did not.

``Load`` sends requests at a steady rate and keeps every answer and failure; ``Collector`` counts the ids that
the application carried out, so that a lost or doubled one is seen; ``Echo`` holds a WebSocket and ``Download``
a long answer across a deployment. Each runs in a thread of its own, and is a context manager::

    with Collector("127.0.0.1") as collector, Load("127.0.0.1", 8080, host="guestbook.testing.localhost") as load:
        ...
    result = load.stop()
    assert not result.failures and not result.doubled(collector.counts()) and not result.lost(collector.counts())
"""

from stelae.testing.load.collector import Collector
from stelae.testing.load.download import Download, DownloadResult
from stelae.testing.load.generator import Load
from stelae.testing.load.result import Answer, Failure, LoadResult, Sighting, Trouble
from stelae.testing.load.websocket import Echo, EchoResult

__all__ = [
    "Answer",
    "Collector",
    "Download",
    "DownloadResult",
    "Echo",
    "EchoResult",
    "Failure",
    "Load",
    "LoadResult",
    "Sighting",
    "Trouble",
]
