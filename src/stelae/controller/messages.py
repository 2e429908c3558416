"""The API's messages: what a request's body and query may hold, checked before anything is done.

Strict: an unknown field, a wrong type, a text that is too long or not of its form is InvalidInput, and says where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import msgspec

from stelae.domain.errors import InvalidInput

MAX_BODY = 1 << 20
"""The largest JSON body, in bytes."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
"""An integer of JSON that is no longer than the largest that is taken."""

_FORMS: dict[str, str] = {}
"""What a text of each pattern is, in words."""


def form(words: str, pattern: str, *, shortest: int | None = None, longest: int | None = None) -> msgspec.Meta:
    """Return the rule for a text of *pattern*; an error says *words* instead of the pattern."""
    pattern = rf"\A{pattern}\Z"
    _FORMS[pattern] = words
    return msgspec.Meta(pattern=pattern, min_length=shortest, max_length=longest)


_NAME = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME_FORM = "a name of a to z, 0 to 9 and -, a letter first"
_ENVIRONMENT_FORM = "an environment as APP/ENV, both " + _NAME_FORM

Name = Annotated[str, form(_NAME_FORM, _NAME)]
OptionalName = Annotated[str, form(_NAME_FORM, rf"(?:{_NAME})?")]
EnvironmentRef = Annotated[str, form(_ENVIRONMENT_FORM, rf"{_NAME}/{_NAME}")]
OptionalEnvironmentRef = Annotated[str, form(_ENVIRONMENT_FORM, rf"(?:{_NAME}/{_NAME})?")]
Repository = Annotated[
    str,
    form("letters, digits, dot, dash and underscore", r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"),
]
Commit = Annotated[str, form("a full object id, 40 or 64 hexadecimal digits", r"(?:[0-9a-f]{40}|[0-9a-f]{64})")]
# What a person types may be a prefix: which image or release it names is the use case's to say.
OptionalImage = Annotated[
    str,
    form(
        "the digest of an image or its first digits, at least 4 (see stelae history)",
        r"(?:(?:sha256:)?[0-9a-f]{4,64})?",
    ),
]
OptionalRelease = Annotated[
    str,
    form(
        "the id of a release or how it begins, such as r-7k2m9q (see stelae history)", r"(?:(?:r-)?[0-9a-z]{1,52})?"
    ),
]
OptionalInstance = Annotated[
    str, form("the name of an instance, such as web-7k2m9q-1 (see stelae history)", r"(?:[a-z0-9][a-z0-9.-]{0,127})?")
]
DeploymentId = Annotated[str, form("the id of a deployment, such as d-12 (see stelae history)", r"d-[0-9]{1,15}")]
Key = Annotated[
    str, form("a key of at most 100 letters, digits, dots, dashes and underscores", r"[A-Za-z0-9._-]{0,100}")
]
Text = Annotated[str, form("a text without NUL", r"[^\x00]*", longest=1000)]
Ref = Annotated[
    str, form("a commit, image, release, deployment or instance", r"[^\x00-\x20]+", shortest=1, longest=200)
]
Path = Annotated[str, form("a text without NUL", r"[^\x00]*", longest=4096)]
OptionalCommit = Annotated[
    str, form("a full object id, 40 or 64 hexadecimal digits", r"(?:[0-9a-f]{40}|[0-9a-f]{64})?")
]
PlanIndex = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""A place in the record: a number that JSON carries exactly everywhere."""
Spec = Annotated[str, msgspec.Meta(max_length=MAX_BODY)]
SecretName = Annotated[str, form("the name of a secret, such as npmrc", r"[a-z0-9][a-z0-9._-]{0,63}")]
SecretValue = Annotated[str, form("the content in base64", r"[A-Za-z0-9+/]*={0,2}", longest=90_000)]
Secrets = Annotated[dict[SecretName, SecretValue], msgspec.Meta(max_length=10)]
RegistryName = Annotated[
    str, form("the name of an image in a registry, as HOST/PATH[:TAG][@DIGEST]", r"[!-~]+", shortest=1, longest=500)
]
FileContent = Annotated[str, form("the content of a file in base64", r"[A-Za-z0-9+/]*={0,2}", longest=90_000)]
CertificateName = Annotated[
    str, form("the name of a file *.crt, *.cert or *.key", r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.(?:crt|cert|key)")
]
Certificates = Annotated[dict[CertificateName, FileContent], msgspec.Meta(max_length=10)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Artifact = Literal["image", "disk"]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every message: no field beyond those that are named."""

    def plain(self) -> dict[str, Any]:
        """Return the message as a JSON object."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value


class Nothing(Message, frozen=True):
    """An empty message."""


class Missing(Message, frozen=True):
    """POST /v1/sources/missing"""

    repository: Repository
    objects: Annotated[list[Commit], msgspec.Meta(max_length=10_000)]


class Build(Message, frozen=True):
    """POST /v1/builds"""

    repository: Repository
    commit: Commit
    path: Path = ""
    subject: Text = ""
    versioned: bool = True
    offline: bool = False
    artifact: Artifact = "image"
    secrets: Secrets = {}


class Lock(Message, frozen=True):
    """POST /v1/locks"""

    repository: Repository
    commit: Commit
    path: Path = ""
    upgrade: bool = False
    secrets: Secrets = {}


class Reproduce(Message, frozen=True):
    """POST /v1/reproductions"""

    ref: Ref
    offline: bool = False
    secrets: Secrets = {}


class Check(Message, frozen=True):
    """POST /v1/checks"""

    repository: Repository
    commit: Commit
    path: Path = ""
    offline: bool = False
    artifact: Artifact = "image"
    secrets: Secrets = {}


class Push(Message, frozen=True):
    """POST /v1/pushes"""

    ref: Ref
    name: RegistryName
    artifact: Artifact = "image"
    authfile: FileContent = ""
    certificates: Certificates = {}
    insecure: bool = False


class Pull(Message, frozen=True):
    """POST /v1/pulls"""

    name: RegistryName
    artifact: Artifact = "image"
    authfile: FileContent = ""
    certificates: Certificates = {}
    insecure: bool = False


class Apply(Message, frozen=True):
    """POST /v1/environments/apply"""

    spec: Spec
    dry_run: bool = False
    environment: OptionalName = ""


class Deploy(Message, frozen=True):
    """POST /v1/deployments"""

    environment: EnvironmentRef
    image: OptionalImage = ""
    disk: OptionalImage = ""
    release: OptionalRelease = ""
    strategy: OptionalName = ""
    supersede: bool = False
    wait: bool = False
    emergency: Text = ""
    irreversible: bool = False
    plan: PlanIndex | None = None
    key: Key = ""
    reason: Text = ""


class Rollback(Message, frozen=True):
    """POST /v1/rollbacks"""

    environment: EnvironmentRef
    to: OptionalRelease = ""
    irreversible: bool = False
    plan: PlanIndex | None = None
    key: Key = ""
    reason: Text = ""


class Plan(Message, frozen=True):
    """POST /v1/plans: a deployment of an image, of a release, or of the image that was built from ``commit`` at
    ``path``; or a rollback, to ``release`` or the one before. ``spec`` is a stelae.toml whose difference is told too.
    """

    environment: EnvironmentRef
    image: OptionalImage = ""
    release: OptionalRelease = ""
    commit: OptionalCommit = ""
    path: Path = ""
    strategy: OptionalName = ""
    supersede: bool = False
    rollback: bool = False
    spec: Spec = ""


class Abort(Message, frozen=True):
    """POST /v1/aborts, /v1/pauses, /v1/resumptions and /v1/hurries"""

    environment: EnvironmentRef
    reason: Text = ""


class Scale(Message, frozen=True):
    """POST /v1/scales"""

    environment: EnvironmentRef
    processes: Annotated[dict[Name, Count], msgspec.Meta(min_length=1, max_length=100)]


class App(Message, frozen=True):
    """POST /v1/down and /v1/start: an app, or ``""`` for all."""

    app: OptionalName = ""


class Collect(Message, frozen=True):
    """POST /v1/gc"""

    dry_run: bool = False


class RepositoryQuery(Message, frozen=True):
    """The query of POST /v1/sources"""

    repository: Repository


class AppQuery(Message, frozen=True):
    """The query of GET /v1/environments"""

    app: OptionalName = ""


class EnvironmentQuery(Message, frozen=True):
    """The query of GET /v1/status"""

    environment: OptionalEnvironmentRef = ""


class ShowQuery(Message, frozen=True):
    """The query of GET /v1/show"""

    ref: Ref


class DocumentQuery(Message, frozen=True):
    """The query of GET /v1/documents"""

    ref: Ref
    kind: Literal["sbom", "provenance"]


class DiffQuery(Message, frozen=True):
    """The query of GET /v1/diffs"""

    old: Ref
    new: Ref


class ImportKey(Message, frozen=True):
    """POST /v1/keys: a private or a public key"""

    pem: Annotated[str, form("a key in PEM", r"[^\x00]*", longest=10_000)]


class Revoke(Message, frozen=True):
    """POST /v1/revocations"""

    ref: Ref
    reason: Text


class LogsQuery(Message, frozen=True):
    """The query of GET /v1/logs"""

    environment: EnvironmentRef
    instance: OptionalInstance = ""
    release: OptionalRelease = ""
    process: OptionalName = ""
    follow: bool = False


class DeploymentPath(Message, frozen=True):
    """The id in the paths below /v1/deployments"""

    id: DeploymentId


_M = TypeVar("_M", bound=Message)


def decode(data: bytes, kind: type[_M]) -> _M:
    """Return JSON *data* as a message of *kind*; raises InvalidInput that says what is wrong and where."""
    try:
        message = msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(_words(str(error)), where="request") from error
    except RecursionError as error:
        raise InvalidInput("the message is nested too deeply", where="request") from error
    # What two readers could understand differently is not understood: msgspec takes the last of two equal names.
    json.loads(data or b"{}", object_pairs_hook=_once)
    return message


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"{twice}: the name comes twice", where="request")


def convert(values: Mapping[str, str], kind: type[_M]) -> _M:
    """Return the texts of a query or a path as a message of *kind*; raises InvalidInput."""
    try:
        return msgspec.convert({name: _value(text, kind, name) for name, text in values.items()}, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(_words(str(error)), where="query") from error


def _value(text: str, kind: type[Message], name: str) -> object:
    """Return *text* as the value that it is the JSON of, where *kind* has no text there."""
    if _NUMBER.fullmatch(text) and name in _of(kind, int):
        return int(text)
    if text in ("true", "false") and name in _of(kind, bool):
        return text == "true"
    return text


@cache
def _of(kind: type[Message], value: type) -> frozenset[str]:
    """The names of the fields of *kind* that hold a *value*."""
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if hint is value)


_PLAIN = {
    r"`(?:str|object|array)` of length >= (\d+)": r"at least \1 of it",
    r"`str` of length <= (\d+)": r"a text of at most \1 characters",
    r"`array` of length <= (\d+)": r"a list of at most \1",
    r"`object` of length <= (\d+)": r"at most \1 of it",
    r"`int` >= (-?\d+)": r"a number of at least \1",
    r"`int` <= (-?\d+)": r"a number of at most \1",
    "`str`": "a text", "`int`": "a whole number", "`float`": "a fraction", "`bool`": "true or false",
    "`object`": "a JSON object", "`array`": "a list", "`null`": "nothing",
}  # fmt: skip


def _words(message: str) -> str:
    """Say msgspec's message as people do: where first, then what was expected."""
    text, _, place = message.partition(" - at ")
    for pattern, words in _FORMS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    for code, words in _PLAIN.items():
        text = re.sub(code, words, text)
    text = text[:1].lower() + text[1:] if text.startswith(("Expected", "Object")) else text
    where = place.replace("`key` in ", "").replace("[...]", "").replace("$.", "").replace("`", "")
    return f"{where}: {text}" if where else text.replace("`", '"')
