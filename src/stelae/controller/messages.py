"""The API's messages: what a request's body and query may hold, checked before anything is done.

Strict: an unknown field, a wrong type, a text that is too long or not of its form is InvalidInput, and says where.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from stelae.domain.errors import InvalidInput

MAX_BODY = 1 << 20
"""The largest JSON body, in bytes."""

_NAME = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"

Name = Annotated[str, msgspec.Meta(pattern=rf"\A{_NAME}\Z")]
OptionalName = Annotated[str, msgspec.Meta(pattern=rf"\A(?:{_NAME})?\Z")]
EnvironmentRef = Annotated[str, msgspec.Meta(pattern=rf"\A{_NAME}/{_NAME}\Z")]
OptionalEnvironmentRef = Annotated[str, msgspec.Meta(pattern=rf"\A(?:{_NAME}/{_NAME})?\Z")]
Repository = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
Commit = Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")]
# What a person types may be a prefix: which image or release it names is the use case's to say.
OptionalImage = Annotated[str, msgspec.Meta(pattern=r"\A(?:(?:sha256:)?[0-9a-f]{4,64})?\Z")]
OptionalRelease = Annotated[str, msgspec.Meta(pattern=r"\A(?:(?:r-)?[0-9a-z]{1,52})?\Z")]
OptionalInstance = Annotated[str, msgspec.Meta(pattern=r"\A(?:[a-z0-9][a-z0-9-]{0,127})?\Z")]
DeploymentId = Annotated[str, msgspec.Meta(pattern=r"\Ad-[0-9]{1,15}\Z")]
Key = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{0,100}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=1000, pattern=r"\A[^\x00]*\Z")]
Ref = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"\A[^\x00-\x20]+\Z")]
Path = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"\A[^\x00]*\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=1000)]


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


class Lock(Message, frozen=True):
    """POST /v1/locks"""

    repository: Repository
    commit: Commit
    path: Path = ""


class Apply(Message, frozen=True):
    """POST /v1/environments/apply"""

    spec: str
    dry_run: bool = False
    environment: OptionalName = ""


class Deploy(Message, frozen=True):
    """POST /v1/deployments"""

    environment: EnvironmentRef
    image: OptionalImage = ""
    release: OptionalRelease = ""
    strategy: OptionalName = ""
    supersede: bool = False
    key: Key = ""
    reason: Text = ""


class Rollback(Message, frozen=True):
    """POST /v1/rollbacks"""

    environment: EnvironmentRef
    to: OptionalRelease = ""
    key: Key = ""
    reason: Text = ""


class Abort(Message, frozen=True):
    """POST /v1/aborts"""

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


class HistoryQuery(Message, frozen=True):
    """The query of GET /v1/history"""

    environment: OptionalEnvironmentRef = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    everything: bool = False


class ShowQuery(Message, frozen=True):
    """The query of GET /v1/show"""

    ref: Ref


class StateQuery(Message, frozen=True):
    """The query of GET /v1/state"""

    at: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    environment: OptionalEnvironmentRef = ""


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
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(_words(str(error)), where="request") from error
    except RecursionError as error:
        raise InvalidInput("the message is nested too deeply", where="request") from error


def convert(values: dict[str, str], kind: type[_M]) -> _M:
    """Return the texts of a query as a message of *kind*; raises InvalidInput."""
    try:
        return msgspec.convert(values, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(_words(str(error)), where="query") from error


def _words(message: str) -> str:
    """Say msgspec's message with the path as people write it (``$.processes[...]`` is ``processes``)."""
    return message.replace("`$.", "`").replace("`", '"')
