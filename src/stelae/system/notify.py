"""Tell the service manager that the service answers (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from stelae.domain.errors import Failed


def take_notifier() -> Callable[[], None]:
    """Return what tells the service manager that this process is ready; it does nothing where none asked for that.

    Its socket is taken out of the environment, so that no program which is started later talks to it. What is
    returned raises Failed when the manager does not listen.
    """
    address = os.environ.pop("NOTIFY_SOCKET", "")
    # A leading @ stands for the zero byte of an abstract socket.
    target = "\0" + address[1:] if address.startswith("@") else address

    def ready() -> None:
        if not target:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(b"READY=1", target)
        except OSError as error:
            raise Failed(f"the service manager does not listen: {error.strerror}", where=address) from error

    return ready
