"""The contract of a platform for traffic: what it counts of each release, and routes that come before the weights.

``stelae.testing.contract.PlatformContract`` has these tests too; they are for platforms with
``Capability.TRAFFIC_COUNTS`` and ``Capability.ROUTES``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from stelae.domain.action import Verb
from stelae.domain.allocation import InstanceId, Route, RouteKind
from stelae.domain.observation import Phase
from stelae.domain.release import Release, ReleaseId
from stelae.domain.traffic import BOUNDS, Traffic
from stelae.platforms.port import Capability
from stelae.testing.contract_run import Contract
from stelae.testing.requests import Asked, Told

if TYPE_CHECKING:
    from stelae.testing.contract import Subject
    from stelae.testing.hand import Hand

OLD, NEW = InstanceId("web-old-1"), InstanceId("web-new-1")
PREVIEW = "next.shop.test.localhost"
FULL = 256


class TrafficContract(Contract):
    """The tests of counts and routes."""

    def test_the_requests_of_each_release_are_counted(self) -> None:
        """All that are over, by who answered; the next controller goes on from there."""

        async def body(subject: Subject) -> None:
            if Capability.TRAFFIC_COUNTS not in subject.platform.capabilities:
                return
            hand, two = await _two(subject)
            await hand.act(Verb.ROUTE, table={OLD: FULL, NEW: FULL // 3})
            before = (await hand.look()).traffic
            assert set(before) >= {two.old, two.new}, f"nothing is told of a release with traffic: {set(before)}"
            told = [await two.ask(Asked(fails=number % 5 == 0)) for number in range(20)]
            answered, failed = _by_release(told), _by_release(one for one in told if one.status >= 500)
            assert set(answered) == {two.old, two.new}, f"one release got everything: {answered}"
            first = (await hand.look()).traffic
            _is(_since(first, before), answered, failed)
            later = hand.moved_to(await subject.another())
            await two.ask(Asked())
            await two.ask(Asked(fails=True))
            seen = (await later.until_complete()).traffic
            both = _since(seen, first)
            assert sum(one.requests for one in both.values()) == 2, f"2 requests came, {both} were counted"
            assert sum(one.errors for one in both.values()) == 1, f"1 request failed, {both} were counted"

        self.run(body)

    def test_routes_come_before_the_weights(self) -> None:
        """By host, header and cookie, and for users who were there before; no other request is led."""

        async def body(subject: Subject) -> None:
            if Capability.ROUTES not in subject.platform.capabilities:
                return
            hand, two = await _two(subject)
            routes = [
                Route(kind=RouteKind.HOST, name=PREVIEW, release=two.new),
                Route(kind=RouteKind.HEADER, name="X-Channel", value="next", release=two.new),
                Route(kind=RouteKind.COOKIE, name="channel", value="next", release=two.new),
            ]
            await hand.act(Verb.ROUTE, table={OLD: FULL, NEW: 0}, routes=routes)
            seen = await hand.look()
            assert dict(seen.table) == {OLD: FULL, NEW: 0}, f"one that only routes lead to is told as {seen.table}"
            led = [
                Asked(host=PREVIEW), Asked(headers={"x-channel": "next"}),
                Asked(cookies={"a": "b", "channel": "next"}),
            ]  # fmt: skip
            others = [
                Asked(), Asked(headers={"x-channel": "other"}), Asked(cookies={"channel": "nextnext"}),
                Asked(headers={"x-other": "next"}), Asked(cookies={"other": "next"}),
            ]  # fmt: skip
            for asked in led:
                assert await two.all(asked) == {two.new}, f"{asked} was not led"
            for asked in others:
                assert await two.all(asked) == {two.old}, f"{asked} was led"
            await hand.act(Verb.ROUTE, table={OLD: FULL}, routes=routes)
            for asked in led:
                assert await two.all(asked) == {two.old}, "a route without an instance does not go by the weights"
            await hand.act(Verb.ROUTE, table={OLD: FULL, NEW: 0}, routes=())
            seen = await hand.look()
            assert dict(seen.table) == {OLD: FULL}, f"no route leads to it any more, and it is told as {seen.table}"
            for asked in led[1:]:
                assert await two.all(asked) == {two.old}, "a route that was taken away still leads"

        self.run(body)

    def test_a_user_stays_as_long_as_a_route_says_so(self) -> None:
        """Sticky: the router's own cookie, that leads nowhere without a route."""

        async def body(subject: Subject) -> None:
            if Capability.ROUTES not in subject.platform.capabilities:
                return
            hand, two = await _two(subject)
            sticky = [Route(kind=RouteKind.STICKY, release=two.new)]
            await hand.act(Verb.ROUTE, table={OLD: FULL, NEW: FULL}, routes=sticky)
            told = [await two.ask(Asked()) for _ in range(6)]
            kept = {one.release: dict(one.cookies) for one in told}
            assert set(kept) == {two.old, two.new}, f"one release got everything: {set(kept)}"
            assert not kept[two.old], "a user of the other release is kept too"
            assert kept[two.new], "nothing keeps the user"
            mine = Asked(cookies=kept[two.new])
            assert await two.all(mine) == {two.new}, "the user was not kept"
            await hand.act(Verb.ROUTE, table={OLD: FULL, NEW: 0}, routes=sticky)
            assert await two.all(mine) == {two.new}, "the user was not kept when the weight was gone"
            await hand.act(Verb.ROUTE, table={OLD: FULL}, routes=())
            last = await two.ask(mine)
            assert last.release == two.old, "the user is kept without a route"
            assert dict(last.cookies) == dict.fromkeys(kept[two.new], ""), "the cookie is not taken away"

        self.run(body)

    def test_what_only_a_route_leads_to_drains_too(self) -> None:
        """Drain: a request that was led is open until it ends."""

        async def body(subject: Subject) -> None:
            if Capability.ROUTES not in subject.platform.capabilities:
                return
            hand, two = await _two(subject)
            host = hand.env.config.routed_hosts[0] if hand.env.config else ""
            led = [Route(kind=RouteKind.HOST, name=host, release=two.new)]
            await hand.act(Verb.ROUTE, table={OLD: FULL, NEW: 0}, routes=led)
            async with subject.request():
                await hand.act(Verb.ROUTE, table={OLD: FULL}, routes=())
                seen = await hand.look()
                assert seen.instances[NEW].connections > 0, "the open request is not counted"
            await hand.until_drained(NEW)

        self.run(body)


class _Two:
    """The two releases, each with an instance that is ready, and who answers."""

    def __init__(self, hand: Hand, old: Release, new: Release, ask: Callable[[Asked], Awaitable[Told]]) -> None:
        self._hand = hand
        self.old, self.new = old.id, new.id
        self._ask = ask

    async def ask(self, asked: Asked) -> Told:
        """Send one request."""
        async with self._hand.within():
            told = await self._ask(asked)
        assert told.status == (500 if asked.fails else 200), f"{asked} was answered with {told.status}"
        return told

    async def all(self, asked: Asked) -> set[ReleaseId]:
        """Return the releases that answered, of a few times."""
        return {(await self.ask(asked)).release for _ in range(4)}


async def _two(subject: Subject) -> tuple[Hand, _Two]:
    assert subject.rival is not None, "a platform with counts or routes needs a second release that serves"
    assert subject.ask is not None, "a platform with counts or routes needs a way to ask"
    hand = subject.hand()
    await hand.launch(OLD, subject.serving)
    await hand.launch(NEW, subject.rival)
    for name in (OLD, NEW):
        await hand.until(name, Phase.READY)
    return hand, _Two(hand, subject.serving, subject.rival, subject.ask)


def _by_release(told: Iterable[Told]) -> Counter[ReleaseId]:
    return Counter(one.release for one in told)


def _since(after: Mapping[ReleaseId, Traffic], before: Mapping[ReleaseId, Traffic]) -> dict[ReleaseId, Traffic]:
    found = {}
    for release, traffic in after.items():
        interval = traffic.since(before.get(release, Traffic()))
        assert interval is not None, f"the counting of {release} began anew though nothing happened"
        found[release] = interval
    return found


def _is(counted: Mapping[ReleaseId, Traffic], answered: Counter[ReleaseId], failed: Counter[ReleaseId]) -> None:
    for release, traffic in counted.items():
        got, errors = answered[release], failed[release]
        assert traffic.requests == got, f"{release} answered {got} requests, {traffic.requests} were counted"
        assert traffic.errors == errors, f"{release} failed {errors} requests, {traffic.errors} were counted"
        assert len(traffic.latency) == len(BOUNDS) + 1, f"there are {len(traffic.latency)} buckets of latency"
        assert sum(traffic.latency) == got, (
            f"{release} answered {got} requests, their latencies are {traffic.latency}"
        )
