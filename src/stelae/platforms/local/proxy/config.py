"""HAProxy's configuration and map file, rendered from the table. The format is HAProxy 2.6's.

Every server starts as up when HAProxy starts, so only those that get requests are in the file as such; free
and draining slots are in it as disabled placeholders.
"""

from __future__ import annotations

import os
import pwd
import resource

from stelae.platforms.local.proxy.layout import FRONTEND, HOSTS, LISTENER_VARIABLE, SOCKET_VARIABLE
from stelae.platforms.local.proxy.table import Backend, Slot, Table, backend_name, server_name

PLACEHOLDER = "127.0.0.1:1 disabled"
_USER = "haproxy"
_MOST_CONNECTIONS = 50_000
_RESERVED_FILES = 500

# Retried are connections that were not made (any method: nothing was sent) and, for methods that change nothing,
# answers that stayed empty. Not retried: slow answers and 502s, which a second try only makes slower.
_HEAD = """\
global
  stats socket "unix@${{{socket}}}" mode 600 level admin
  stats timeout 10s
  maxconn {maxconn}
{user}
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout client-fin 10s
  timeout tunnel 1h
  timeout queue 10s
  timeout http-request 10s
  timeout http-keep-alive 10s
  option http-server-close
  option forwardfor
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response
  http-error status 502 content-type text/plain string "the instance broke off its answer\\n"
  http-error status 503 content-type text/plain string "no instance is ready\\n"
  http-error status 504 content-type text/plain string "the instance did not answer in time\\n"

frontend {frontend}
  bind "fd@${{{listener}}}"
  http-request disable-l7-retry unless {{ method GET HEAD OPTIONS }}
  use_backend %[req.fhdr(host),host_only,rtrim(.),map({hosts})]
  default_backend nowhere

backend nowhere
  http-request return status 404 content-type text/plain string "nothing is served under this name\\n"
"""


def render_config(table: Table, *, user: str, maxconn: int) -> bytes:
    """Return haproxy.cfg. HAProxy gives up root for *user* once its sockets are open; empty: it stays what it is."""
    head = _HEAD.format(
        socket=SOCKET_VARIABLE, listener=LISTENER_VARIABLE, frontend=FRONTEND, hosts=HOSTS, maxconn=maxconn,
        user=f"  user {user}\n" if user else "",
    )  # fmt: skip
    return (head + "".join(_backend(n, backend) for n, backend in enumerate(table.backends))).encode()


def render_hosts(table: Table) -> bytes:
    """Return the map file."""
    return "".join(f"{host} {backend_name(n)}\n" for host, n in sorted(table.hosts().items())).encode()


def proxy_user() -> str:
    """Return the user that HAProxy can run as: ``haproxy`` when we are root and there is one, else ours (empty)."""
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwnam(_USER).pw_name
    except KeyError:
        return ""


def connection_limit() -> int:
    """Return the connections that the limit of open files allows: two files each (client and instance)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(100, min(_MOST_CONNECTIONS, (hard - _RESERVED_FILES) // 2))


def _backend(number: int, backend: Backend) -> str:
    servers = "".join(f"  server {server_name(n)} {_server(slot)}\n" for n, slot in enumerate(backend.slots))
    return (
        f"\nbackend {backend_name(number)}\n  balance roundrobin\n"
        '  http-request return status 503 content-type text/plain string "no instance is ready\\n"'
        f" hdr Retry-After 1 if {{ nbsrv lt 1 }}\n{servers}"
    )


def _server(slot: Slot | None) -> str:
    if slot is None or slot.draining:
        return PLACEHOLDER
    return f"{slot.address}:{slot.port} weight {slot.weight}"
