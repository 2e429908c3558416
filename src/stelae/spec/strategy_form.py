"""The form of the key ``strategy`` of ``[env.NAME]``."""

from __future__ import annotations

from stelae.domain.strategy import StrategyKind
from stelae.spec.forms import YES, Schema, key, listed, number, ref, table, text
from stelae.spec.units import PERCENT_FORM, PERCENT_PATTERN

LATENCIES = ("p50", "p95", "p99")
"""The percentiles of latency that may have a limit."""

_NUMBER = r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$"
_TOKEN = r"^[A-Za-z0-9_-]{1,64}$"  # noqa: S105 - the form of a name
_KINDS = [
    kind.value for kind in (StrategyKind.ROLLING, StrategyKind.CANARY, StrategyKind.BLUE_GREEN, StrategyKind.RECREATE)
]

WORDS: Schema = {
    "kind": {
        "title": '"rolling", "canary", "blue-green" or "recreate"',
        "enum": _KINDS,
    },
    "batch": {
        "title": f"a number of instances from 1 to 1000, or {PERCENT_FORM}",
        "type": ["integer", "string"],
        "minimum": 1,
        "maximum": 1000,
        "pattern": PERCENT_PATTERN,
    },
    "part": text('a share from "0%" to "100%"', r"^(0|[1-9][0-9]?|100)%$"),
    "share": {**number(0, 99), "title": "a share of the requests from 0 to 99, in percent"},
    "manual": {"title": '"manual" or "auto"', "enum": ["manual", "auto"]},
    "header_name": text("the name of a header or a cookie", _TOKEN),
    "header_value": text("a value without spaces, quotes, commas and semicolons", r"^[!#-+\--:<-~]{1,200}$"),
    # The last bound up to which the router counts.
    "milliseconds": number(1, 60_000, "a number of milliseconds"),
    "limit": {"title": 'a number, such as 0.5 or "0.5"', "type": ["number", "string"], "pattern": _NUMBER},
    "query": text("a query that is not empty, of at most 2000 characters", r"^(?=.*\S).{1,2000}$"),
}
"""Kinds of value that only a strategy has."""

_GATE: Schema = {
    "soak": key("duration", "How long a step is held before the next one.", default="0s"),
    "gate": key("manual", "Whether a person lets a step go on (stelae approve).", default="auto"),
    "job": key("process_name", "A job of the image that must succeed before the next step."),
}

_STEP = {
    **table(
        "a share of the requests from 1 to 99 (percent), or a table with weight",
        {
            "weight": key("share", "The candidate's share of the requests, in percent."),
            **_GATE,
            "checks": listed(
                "a list of names of checks",
                ref("name"),
                description="Those of the checks that count; without it all.",
            ),
        },
        required=["weight"],
    ),
    "type": ["integer", "object"],
    "minimum": 0,
    "maximum": 99,
}

_MATCH = table(
    "a table with header or cookie",
    {
        "header": key("header_name", "The name of a header of the chosen requests."),
        "cookie": key("header_name", "The name of a cookie of the chosen requests."),
        "value": key("header_value", "What it must be; without it, anything."),
    },
)

_ABORT_ON = table(
    "a table",
    {
        "error_rate": {
            "title": "a share above 0 and at most 1, such as 0.01",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "The highest share of requests that the candidate may fail.",
        },
        **{
            f"{name}_ms": key("milliseconds", f"The longest latency that {name[1:]} % of the requests may have.")
            for name in LATENCIES
        },
        "compare": {
            **YES,
            "description": "Whether the candidate must not be worse than the old release either.",
            "default": True,
        },
        "requests": {
            **number(1, 1_000_000),
            "description": "How many requests of the candidate a verdict in its favour needs.",
            "default": 50,
        },
    },
    description="When the requests that the candidate answered speak against it: it goes back at once.",
)

_CHECK = table(
    "a table with name and prometheus or webhook",
    {
        "name": key("name", "What the check is called."),
        "prometheus": key("url", "The address of a Prometheus server."),
        "webhook": key("url", "Gets a POST, and answers with a verdict."),
        "query": key("query", "What Prometheus is asked; {{release}}, {{stable}} and {{environment}} are put in."),
        "least": key("limit", "The answer must be at least this."),
        "most": key("limit", "The answer must be at most this."),
        "interval": key("positive_duration", "Time between two questions.", default="10s"),
        "timeout": key("positive_duration", "How long an answer may take.", default="5s"),
        "failures": {
            **number(1, 100),
            "description": "So many in a row are against the candidate.",
            "default": 2,
        },
    },
    required=["name"],
)

STRATEGY: Schema = {
    **table(
        "the name of a strategy, or a table",
        {
            "kind": key("kind", "The shape of a rollout.", default="rolling"),
            "batch": key("batch", "How many instances, or which share of them, a rolling step adds.", default="25%"),
            "surge": key("part", "How far a step may go above the wanted instances.", default="100%"),
            "floor": key("part", "How many of the wanted instances must stay ready.", default="100%"),
            "steps": listed(
                "a list of 1 to 20 shares (percent) or tables with weight", _STEP, minItems=1, maxItems=20,
                description="The candidate's growing share of the requests, in a canary.",
            ),
            **_GATE,
            "preview": key("host", "A host name that leads to the candidate before it has all of the traffic."),
            "match": listed(
                "a list of at most 10 tables with header or cookie", _MATCH, maxItems=10,
                description="Whose requests go to the candidate whatever its share is.",
            ),
            "sticky": {**YES, "description": "Whether who came to the candidate stays with it.", "default": False},
            "abort_on": _ABORT_ON,
            "checks": listed(
                "a list of at most 10 tables with name", _CHECK, maxItems=10, description="Who is asked at each step."
            ),
            "min_healthy": key("duration", "How long a new instance must stay ready to count.", default="1s"),
            "progress": key("positive_duration", "The longest time a step may take, people left out.", default="10m"),
            "patience": key("positive_duration", "The longest time that a person is waited for.", default="24h"),
            "platform": key(
                "positive_duration", "The longest time the platform may be unreachable in a rollout.", default="5m"
            ),
        },
        description="How an environment moves to another release.",
    ),
    "type": ["string", "object"],
    "if": {"type": "string"},
    "then": ref("kind"),
}  # fmt: skip
"""The form of the key ``strategy``."""
