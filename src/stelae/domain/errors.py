"""The one tree of errors that a person may see.

    StelaeError
    ├── Failed        exit 1   the deployment, build or check failed
    ├── InvalidInput  exit 2   the input is wrong: usage, spec, API message, source
    ├── Refused       exit 3   policy says no
    ├── Conflict      exit 4   something else holds the environment, or the plan is stale
    └── Unreachable   exit 5   the controller, the platform or a part of the machine cannot be reached

Each says what happened (``message``), and what to do next (``hint``). Libraries raise; only the
command line's outermost frame prints and exits, and only the API's outermost frame answers.
"""

from __future__ import annotations


class StelaeError(Exception):
    """Base of every error that is meant for a person.

    ``message`` says what is wrong, where ``where`` (a file, a path in a document, an id) is given with
    it; ``hint`` says what to do next; ``details`` are further lines, most important first.
    """

    exit_code = 1
    kind = "error"

    def __init__(self, message: str, *, where: str = "", hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Failed(StelaeError):
    """The deployment, build or check ran and failed."""

    exit_code = 1
    kind = "failed"


class InvalidInput(StelaeError):
    """What the caller gave cannot be used; nothing was done."""

    exit_code = 2
    kind = "invalid"


class Refused(StelaeError):
    """A policy of the environment says no; the refusal is recorded."""

    exit_code = 3
    kind = "refused"


class Conflict(StelaeError):
    """Something else holds what was asked for, or what the caller saw is no longer so."""

    exit_code = 4
    kind = "conflict"


class Unreachable(StelaeError):
    """The controller, the platform or a part of the machine did not answer; try again later."""

    exit_code = 5
    kind = "unreachable"


BY_KIND: dict[str, type[StelaeError]] = {
    cls.kind: cls for cls in (Failed, InvalidInput, Refused, Conflict, Unreachable)
}
