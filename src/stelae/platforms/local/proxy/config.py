"""HAProxy's configuration and map file, rendered from the table. The format is HAProxy 2.6's.

Every server starts as up when HAProxy starts, so only those that get requests are in the file as such; free
and draining slots are in it as disabled placeholders.
"""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Mapping

from stelae.domain.allocation import RouteKind
from stelae.domain.traffic import BOUNDS
from stelae.platforms.local.proxy.counts import COUNTERS, FAULTS, TABLE, TOKEN_LENGTH
from stelae.platforms.local.proxy.layout import (
    FRONTEND,
    HOSTS,
    LISTENER_VARIABLE,
    PATTERNS,
    SCRIPT,
    SOCKET_VARIABLE,
    backend_name,
    server_name,
)
from stelae.platforms.local.proxy.routes import COOKIE, LETTERS
from stelae.platforms.local.proxy.table import Backend, Slot, Table

PLACEHOLDER = "127.0.0.1:1 disabled"
_USER = "haproxy"
_KEPT = "Path=/; HttpOnly; SameSite=Lax"
_MOST_CONNECTIONS = 50_000
_RESERVED_FILES = 500
_MOST_RELEASES = 10_000  # that are counted; then those that were not asked for longest are forgotten

# Retried are connections that were not made (any method: nothing was sent) and, for methods that change nothing,
# answers that stayed empty. Not retried: slow answers and 502s, which a second try only makes slower.
_HEAD = """\
global
  stats socket "unix@${{{socket}}}" mode 600 level admin
  stats timeout 10s
  maxconn {maxconn}
  lua-load {script}
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
  http-request set-var(txn.once) bool(true) unless {{ method GET HEAD OPTIONS }}
{routing}{counting}
backend {counts}
  stick-table type string len {key} size {releases} store gpc({counters})

backend nowhere
  http-request return status 404 content-type text/plain string "nothing is served under this name\\n"
"""


# What a request is led by: the kinds of routes that its environment has, in the order of the domain. The headers are
# looked at only where there are routes by them. A route without a server that can be used is no route.
_ROUTING = f"""\
  http-request set-var(txn.at) date(0,us)
  http-request set-var(txn.host) req.fhdr(host),host_only,rtrim(.)
  http-request set-var(txn.main) var(txn.host),map({HOSTS})
  http-request set-var(txn.kinds) var(txn.main),concat(/routes),map({HOSTS})
  http-request set-var(txn.cookie) req.cook({COOKIE})
  http-request set-var(txn.kept) var(txn.main),concat(/user/,txn.cookie),map({HOSTS}) if {{ var(txn.cookie) -m found }}
  acl routed var(txn.to) -m found
  acl by_host var(txn.kinds) -m sub {LETTERS[RouteKind.HOST]}
  acl by_header var(txn.kinds) -m sub {LETTERS[RouteKind.HEADER]}
  acl by_cookie var(txn.kinds) -m sub {LETTERS[RouteKind.COOKIE]}
  acl by_user var(txn.kinds) -m sub {LETTERS[RouteKind.STICKY]}
  http-request set-var(txn.to) var(txn.main),concat(/host/,txn.host),map({HOSTS}) if by_host
  http-request set-var(txn.lines) req.hdrs if by_header or by_cookie
  http-request set-var(txn.to) str({LETTERS[RouteKind.HEADER]}/),concat(,txn.main,/),concat(,txn.lines),map_reg({PATTERNS}) if by_header !routed
  http-request set-var(txn.to) str({LETTERS[RouteKind.COOKIE]}/),concat(,txn.main,/),concat(,txn.lines),map_reg({PATTERNS}) if by_cookie !routed
  http-request set-var(txn.to) var(txn.kept) if by_user !routed
  use_backend %[var(txn.to)] if routed {{ var(txn.to),nbsrv gt 0 }}
  use_backend %[var(txn.main)] if {{ var(txn.main) -m found }}
  default_backend nowhere
"""  # noqa: E501

# Rules for answers are also asked for 100, 102 and 103, after which the real answer comes. A request that no instance
# answered has no answer of the kind that these rules are for, only one that HAProxy made, with 502, 503 or 504.
_COUNTING = f"""\
  acl final status ge 200
  acl final status 101
  acl answered var(txn.answered) -m found
  acl stays var(txn.stays) -m found
  http-response set-var(txn.us) date(0,us),sub(txn.at) if final
  http-response set-var(txn.server) srv_name
  http-response set-var(txn.token) be_name,concat(/,txn.server),map({HOSTS}) if final
  http-response set-var(txn.answered) bool(true) if final
  http-response set-var(txn.stays) var(txn.main),concat(/user/,txn.token),map({HOSTS}) if final by_user
  http-response add-header Set-Cookie "{COOKIE}=%[var(txn.token)]; {_KEPT}" if stays !{{ var(txn.token),strcmp(txn.cookie) eq 0 }}
  http-response add-header Set-Cookie "{COOKIE}=; Max-Age=0; {_KEPT}" if final {{ var(txn.cookie) -m found }} !{{ var(txn.kept) -m found }} !stays
  http-response track-sc0 var(txn.token) table {TABLE} if final
  http-after-response allow if answered or {{ status lt 500 }} or {{ var(txn.unanswered) -m found }}
  http-after-response set-var(txn.server) srv_name
  http-after-response set-var(txn.token) be_name,concat(/,txn.server),map({HOSTS})
  http-after-response set-var(txn.unanswered) lua.unanswered
"""  # noqa: E501


# An instance that hangs up without a word on a request that is sent once, on a connection on which its client had
# asked before: HAProxy closes that connection too, and gives no answer to count by. So such a request is counted when
# the instance's side is over with nothing read from it. Only where HAProxy does not try again: the rules have to wait
# for that moment, or for the first bytes, and HAProxy 2.6 cannot send a request again when they wait. The delay is
# how long they may; it is never used up.
_HANGS_UP = f"""\
  tcp-response inspect-delay 1d
  tcp-response content accept unless {{ var(txn.once) -m found }}
  tcp-response content accept if {{ res.len gt 0 }}
  tcp-response content set-var(txn.server) srv_name
  tcp-response content set-var(txn.token) be_name,concat(/,txn.server),map({HOSTS})
  tcp-response content set-var(txn.unanswered) lua.unanswered
"""


def _buckets() -> str:
    """Return the rules that count an answer in the bucket of its latency: a range of microseconds each."""
    ranges = zip(["", *(bound + 1 for bound in BOUNDS)], [*BOUNDS, ""], strict=True)
    rules = "".join(
        f"  http-response sc-inc-gpc({n},0) if {{ var(txn.us) -m int {low}:{high} }}\n"
        for n, (low, high) in enumerate(ranges)
    )
    return f"{rules}  http-response sc-inc-gpc({FAULTS},0) if {{ status ge 500 }}\n"


def render_config(table: Table, *, user: str, maxconn: int) -> bytes:
    """Return haproxy.cfg. HAProxy gives up root for *user* once its sockets are open; empty: it stays what it is."""
    head = _HEAD.format(
        socket=SOCKET_VARIABLE, listener=LISTENER_VARIABLE, frontend=FRONTEND, maxconn=maxconn, script=SCRIPT,
        routing=_ROUTING, counting=_COUNTING + _buckets(), counts=TABLE, key=TOKEN_LENGTH + 1,
        releases=_MOST_RELEASES, counters=COUNTERS,
        user=f"  user {user}\n" if user else "",
    )  # fmt: skip
    return (head + "".join(_backend(n, backend) for n, backend in enumerate(table.backends))).encode()


def render_map(entries: Mapping[str, str]) -> bytes:
    """Return a map file."""
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items())).encode()


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
        f" hdr Retry-After 1 if {{ nbsrv lt 1 }}\n{_HANGS_UP}{servers}"
    )


def _server(slot: Slot | None) -> str:
    if slot is None or slot.draining:
        return PLACEHOLDER
    return f"{slot.address}:{slot.port} weight {slot.weight}"
