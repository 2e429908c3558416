"""What holds an environment, in ``stelae.toml``: ``platform``. ``platform_checks`` has its sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stelae.domain.platform import PLAIN, PlatformChoice, PlatformKind
from stelae.spec.forms import Schema, key, ref, table, text

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_COMPONENT = r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*"
# A first part without a dot and without a port would be a folder of somebody's default registry.
_HOST = r"(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9-]+(?=:)|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"

WORDS: Schema = {
    "platform_kind": {
        "title": " or ".join(f'"{kind.value}"' for kind in PlatformKind),
        "enum": [kind.value for kind in PlatformKind],
    },
    "platform_word": {
        "title": '"local", "vm", or a table such as '
        '{ kind = "kubernetes", namespace = "shop", registry = "registry.example.com/apps" }',
        "enum": [PlatformKind.LOCAL.value, PlatformKind.VM.value],
    },
    "context": text("the name of a context of a kubeconfig", r"^[!-~]([ -~]{0,251}[!-~])?$"),
    "namespace": text("the name of a namespace: at most 63 of a to z, 0 to 9 and -", rf"^{_LABEL}$"),
    "registry": text(
        'where images are, without a scheme, such as "registry.example.com/apps"; "http://…" for one without TLS',
        rf"^(?=.{{1,180}}$)({PLAIN})?{_HOST}(/{_COMPONENT})*$",
    ),
    "gateway": text('a Gateway as "NAMESPACE/NAME"', rf"^{_LABEL}/(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*$"),
}
"""Kinds of value that only this key has."""

KEYS: Schema = {
    "platform": {
        **table(
            WORDS["platform_word"]["title"],
            {
                "kind": key("platform_kind", "What holds its instances."),
                "context": key(
                    "context", "Which cluster, of the controller's kubeconfig; without it its current one."
                ),
                "namespace": key("namespace", "Where in the cluster; it has to exist."),
                "registry": key("registry", "Where images are sent to, and where the cluster takes them from."),
                "gateway": key(
                    "gateway", "The Gateway whose routes share the requests out; without it a Service does."
                ),
            },
            required=["kind"],
            description="What holds its instances: this machine, machines on it, or a namespace of a cluster.",
            default=PlatformKind.LOCAL.value,
        ),
        "type": ["string", "object"],
        "if": {"type": "string"},
        "then": ref("platform_word"),
    },
}
"""The key, for the schema."""


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the key of a checked ``[env.NAME]`` says, as arguments of ``Environment``."""
    said = given.get("platform", PlatformKind.LOCAL.value)
    words: dict[str, Any] = {"kind": said} if isinstance(said, str) else dict(said)
    return {"platform": PlatformChoice(**{**words, "kind": PlatformKind(words["kind"])})}


def rendered(choice: PlatformChoice) -> dict[str, Any]:
    """Return this key as ``[env.NAME]`` would say it; what is not given is not there."""
    words = {name: getattr(choice, name) for name in ("context", "namespace", "registry", "gateway")}
    return {"platform": {"kind": choice.kind.value, **{name: word for name, word in words.items() if word}}}
