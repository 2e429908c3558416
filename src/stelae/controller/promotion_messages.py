"""The API's messages of promotion: approve, reject, promote, and whose word counts."""

from __future__ import annotations

from typing import Annotated

from stelae.controller.messages import (
    EnvironmentRef,
    Key,
    Message,
    OptionalName,
    PlanIndex,
    Text,
    form,
)

OptionalDeployment = Annotated[
    str, form("the id of a deployment, such as d-12 (see stelae history)", r"(?:d-[0-9]{1,15})?")
]
Pem = Annotated[str, form("a key in PEM", r"[^\x00]*", longest=10_000)]


class Approve(Message, frozen=True):
    """POST /v1/approvals: of exactly ``deployment``; of none where that is empty"""

    environment: EnvironmentRef
    deployment: OptionalDeployment = ""
    reason: Text = ""


class Reject(Message, frozen=True):
    """POST /v1/rejections: of exactly ``deployment``; of none where that is empty"""

    environment: EnvironmentRef
    reason: Text
    deployment: OptionalDeployment = ""


class Promote(Message, frozen=True, rename={"origin": "from"}):
    """POST /v1/promotions: of the image that is verified in ``from``"""

    origin: EnvironmentRef
    to: EnvironmentRef
    strategy: OptionalName = ""
    supersede: bool = False
    irreversible: bool = False
    wait: bool = False
    emergency: Text = ""
    plan: PlanIndex | None = None
    key: Key = ""
    reason: Text = ""


class Trust(Message, frozen=True):
    """POST /v1/verifiers: the word of the key's owner on what was verified in ``verifies`` counts"""

    pem: Pem
    verifies: EnvironmentRef
