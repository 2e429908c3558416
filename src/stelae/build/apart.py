"""A process in a mount namespace of its own, in which something is mounted first.

A thread leaves the namespace of all others (unshare(2)), mounts, and starts the process there, which takes several
programs less than ``unshare`` and ``mount`` do. The thread lives as long as the process: whoever asks to be ended
with his parent (prctl(2), PR_SET_PDEATHSIG) means the thread. Nothing else may run in it: it has paths of its own.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from stelae.domain.errors import Failed
from stelae.system.mount import MS_PRIVATE, MS_REC, mount

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def started(
    prepare: Callable[[], None], start: Callable[[], subprocess.Popen[bytes]]
) -> Iterator[subprocess.Popen[bytes]]:
    """Give the process that *start* returns, in a namespace where *prepare* has mounted something; both are called in
    the thread, whose folder and umask are its own. It has ended when the ``with`` ends, or is about to: the caller
    sees to that. Raises what the two raise, and Failed."""
    made: Future[subprocess.Popen[bytes]] = Future()
    over = threading.Event()

    def live() -> None:
        try:
            if _LIBC.unshare(_CLONE_FS | _CLONE_NEWNS) != 0:
                number = ctypes.get_errno()
                raise Failed(f"a sandbox could not be made: {os.strerror(number)}", hint="stelae doctor tells more")
            mount("none", Path("/"), "", MS_REC | MS_PRIVATE)
            prepare()
            process = start()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            made.set_exception(error)
            return
        made.set_result(process)
        over.wait()

    thread = threading.Thread(target=live, name="build-apart", daemon=True)
    thread.start()
    try:
        yield made.result()
    finally:
        over.set()
        thread.join()
