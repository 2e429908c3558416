"""The API's messages about drift."""

from __future__ import annotations

from typing import Annotated

import msgspec

from stelae.controller.messages import EnvironmentRef, Message, OptionalEnvironmentRef, form

InstanceName = Annotated[str, form("the name of an instance, such as web-7k2m9q-1", r"[a-z0-9][a-z0-9.-]{0,127}")]
Reason = Annotated[str, form("a reason, without NUL", r"[^\x00]*[^\x00\s][^\x00]*", longest=1000)]


class Inspect(Message, frozen=True):
    """POST /v1/inspections: an environment, or ``""`` for all."""

    environment: OptionalEnvironmentRef = ""


class Replace(Message, frozen=True):
    """POST /v1/replacements: these instances, and with ``drifted`` all that drifted."""

    environment: EnvironmentRef
    reason: Reason
    instances: Annotated[tuple[InstanceName, ...], msgspec.Meta(max_length=500)] = ()
    drifted: bool = False
