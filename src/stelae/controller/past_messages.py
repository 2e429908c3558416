"""The messages of what is asked of the past."""

from __future__ import annotations

from typing import Annotated

import msgspec

from stelae.controller.messages import Message, OptionalEnvironmentRef, Ref, form

_MOMENT = r"[0-9]{1,16}|@[0-9]{1,15}|d-[0-9]{1,15}"
_WORDS = "microseconds since 1970, @ and the number of an event, or a deployment"

Moment = Annotated[str, form(_WORDS, rf"(?:{_MOMENT})")]
OptionalMoment = Annotated[str, form(_WORDS, rf"(?:{_MOMENT})?")]
OptionalRef = Annotated[
    str, form("a person, commit, image, release, deployment or instance", r"[^\x00-\x20]*", longest=200)
]


class HistoryQuery(Message, frozen=True):
    """The query of GET /v1/history"""

    environment: OptionalEnvironmentRef = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    everything: bool = False
    by: OptionalRef = ""
    of: OptionalRef = ""
    since: OptionalMoment = ""
    until: OptionalMoment = ""


class StateQuery(Message, frozen=True):
    """The query of GET /v1/state"""

    at: Moment
    environment: OptionalEnvironmentRef = ""


class WhereQuery(Message, frozen=True):
    """The query of GET /v1/where"""

    ref: Ref
    ever: bool = False
