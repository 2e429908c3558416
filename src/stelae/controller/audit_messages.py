"""The messages of the audit: which event a receipt is for."""

from __future__ import annotations

from typing import Annotated

from stelae.controller.messages import Message, form

RecordRef = Annotated[
    str, form("a deployment, such as d-12, or the number of an event (see stelae history)", r"(?:d-)?[0-9]{1,15}")
]


class ReceiptQuery(Message, frozen=True):
    """The query of GET /v1/receipts"""

    ref: RecordRef


class ExportQuery(Message, frozen=True):
    """The query of GET /v1/log-exports"""

    evidence: bool = False
