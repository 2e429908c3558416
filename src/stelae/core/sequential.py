"""Sequential tests on counts: how strongly they speak against an assumption, however often one looks.

The evidence is a likelihood ratio, averaged over a few alternatives. As long as the assumption is true it is (at
most) a martingale that begins at 1, so that by Ville's inequality the probability that it *ever* reaches 1 / alpha is
at most alpha. It depends on the counts alone, so there is nothing to keep from one look to the next. All functions
return its natural logarithm: compare it with ``least(alpha)``.

Sources: A. Wald, *Sequential Tests of Statistical Hypotheses* (1945); H. Robbins, *Statistical Methods Related to
the Law of the Iterated Logarithm* (1970), for mixtures; R. Turner, A. Ly, P. Grünwald, *Generic E-variables for exact
sequential k-sample tests that allow for optional stopping* (2024), for two samples. docs/analysis.md says what is
made of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

ALTERNATIVES = ((2.0, 0.2), (6.0, 0.3), (20.0, 0.5))
"""How many times as often it is bad when the assumption is false, and what part of the evidence is given to that.
Most goes to the worst one: what is a little worse need not be found in seconds."""

_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Sample:
    """How many of ``total`` requests were ``bad``: 0 <= bad <= total."""

    bad: int
    total: int

    @property
    def share(self) -> float:
        """The part that was bad, 0.0 when there were none at all."""
        return self.bad / self.total if self.total else 0.0


def least(alpha: float) -> float:
    """Return the evidence that is reached with a probability of *alpha* at most while the assumption is true."""
    return -math.log(alpha)


def above(sample: Sample, limit: float) -> float:
    """Return the evidence against: each request is bad with a probability of at most *limit* (above 0, below 1),
    whatever the ones before it were."""
    good = sample.total - sample.bad
    odds = limit / (1 - limit)
    terms = []
    for times, weight in ALTERNATIVES:
        share = times * odds / (1 + times * odds)
        terms.append(
            math.log(weight)
            + sample.bad * math.log(share / limit)
            + good * (math.log1p(-share) - math.log1p(-limit))
        )  # fmt: skip
    return _log_sum(terms)


def worse(new: Sample, old: Sample) -> float:
    """Return the evidence against: at any moment, a request of *new* is bad no more often than one of *old*.

    Only the bad requests count: each is one of *new* with, at most, the probability of *new*'s part of all requests.
    How often requests are bad, and that this changes in between, plays no part. That part must be steady over the
    interval, as it is within one step of a rollout. 0.0 when there is nothing to compare.
    """
    total, bad = new.total + old.total, new.bad + old.bad
    if not new.total or not old.total or not bad:
        return 0.0
    return _log_sum(
        math.log(weight) + new.bad * math.log(times) - bad * math.log((times * new.total + old.total) / total)
        for times, weight in ALTERNATIVES
    )


def highest(sample: Sample, nats: float) -> float:
    """Return the highest probability of being bad that *sample* leaves possible: for any higher one, so few bad ones
    have a probability of at most exp(-*nats*) (the Chernoff bound). 1.0 when it says nothing."""
    if not sample.total:
        return 1.0
    low, high = sample.share, 1.0
    while high - low > _CLOSE:
        middle = (low + high) / 2
        if sample.total * _divergence(sample.share, middle) > nats:
            high = middle
        else:
            low = middle
    return high


def _divergence(share: float, other: float) -> float:
    """The Kullback-Leibler divergence of two coins, 0 < *other* < 1."""
    found = share * math.log(share / other) if share else 0.0
    return found + ((1 - share) * math.log((1 - share) / (1 - other)) if share < 1 else 0.0)


def _log_sum(terms: Iterable[float]) -> float:
    logs = list(terms)
    top = max(logs)
    return top + math.log(sum(math.exp(term - top) for term in logs))
