"""The messages of the audit: which event a receipt is for."""

from __future__ import annotations

from typing import Annotated

import msgspec

from stelae.controller.messages import Message, form
from stelae.ledger.policy import LONGEST

RecordRef = Annotated[
    str, form("a deployment, such as d-12, or the number of an event (see stelae history)", r"(?:d-)?[0-9]{1,15}")
]

Size = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
PolicyText = Annotated[str, form("a text without NUL", r"[^\x00]*", longest=LONGEST)]


class ReceiptQuery(Message, frozen=True):
    """The query of GET /v1/receipts"""

    ref: RecordRef
    witnessed: bool = False


class ConsistencyQuery(Message, frozen=True):
    """The query of GET /v1/consistency: how many events the older checkpoint has"""

    old: Size


class SetPolicy(Message, frozen=True):
    """POST /v1/witness-policy: a C2SP tlog-policy, "" for nobody"""

    text: PolicyText


class ExportQuery(Message, frozen=True):
    """The query of GET /v1/log-exports"""

    evidence: bool = False
