"""What is known of a cluster is what is there, or it is said that it is not: whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed, InvalidInput, Unreachable
from stelae.platforms.kubernetes import connection, kinds, names
from stelae.platforms.kubernetes.backoff import Backoff, retry_after
from stelae.platforms.kubernetes.cache import Store
from stelae.platforms.kubernetes.cluster import Cluster, connect
from stelae.platforms.kubernetes.kinds import Object
from stelae.platforms.kubernetes.watch import Timing
from stelae.testing.kubernetes import Double
from stelae.testing.kubernetes import double as double_module

SPACE = "shop"
PLACE, OTHER = EnvironmentId("shop/production"), EnvironmentId("shop/staging")
QUICK = Timing(opens=0.3, settles=0.05, shortest=0.0, looks=0.2)
Body = Callable[[Double, Cluster], Awaitable[None]]


def config(name: str, place: EnvironmentId = PLACE, installation: str = "h3", **data: str) -> Object:
    """A ConfigMap of an environment."""
    metadata = {"name": name, "labels": names.labels(installation, place)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def service(name: str, place: EnvironmentId = PLACE, *, port: int = 80) -> Object:
    """A Service that selects nothing."""
    metadata = {"name": name, "namespace": SPACE, "labels": names.labels("h3", place)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": port}]}}


def play(folder: Path, body: Body, *, timing: Timing = QUICK, started: bool = True, **double: Any) -> None:
    """Have *body* done with a double and a cluster that follows it."""

    async def all_of_it() -> None:
        async with asyncio.timeout(60), Double(SPACE, **double) as there:
            cluster = there.cluster(folder, SPACE, installation="h3", timing=timing)
            if started:
                await cluster.start()
                await cluster.synced()
                await until(
                    lambda: there.server.streams == len(kinds.WATCHED) - len(there.api.missing & kinds.OPTIONAL)
                )
            await body(there, cluster)

    asyncio.run(all_of_it())


async def until(true: Callable[[], object]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def known(cluster: Cluster, kind: kinds.Kind = kinds.SERVICE) -> list[str]:
    """The names of what the cache holds."""
    return sorted(each["metadata"]["name"] for each in cluster.cache.all(kind))


def knows(cluster: Cluster, *services: str) -> Callable[[], bool]:
    """What asks whether the cache holds just *services*."""
    return lambda: known(cluster) == list(services)


def test_only_what_is_ours_is_known_and_of_secrets_only_that_they_are_there(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": config("s")["metadata"],
            "stringData": {"k": "hush"},
        }
        await cluster.apply(secret)
        await cluster.apply(config("ours", word="hush"))
        await cluster.apply(config("theirs", installation="another"))
        other = double.cluster(tmp_path, SPACE, installation="h3")
        await other.start()
        await other.synced()
        for each in (cluster, other):
            assert known(each, kinds.CONFIG_MAP) == ["ours"]
            assert each.cache.secrets(PLACE)[0]["metadata"]["name"] == "s"
            assert "hush" not in repr(each.cache.stores)
            assert b"hush" not in repr([store.objects for store in each.cache.stores.values()]).encode()
        there = await cluster.get(kinds.SECRET, "s")
        assert there is not None
        assert there["data"] == {"k": "aHVzaA=="}

    play(tmp_path, body)


def test_a_writer_reads_what_it_wrote_however_late_the_watch_is(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        changed: list[EnvironmentId] = []
        cluster.watch(changed.append)
        double.faults.drop_watches()
        for store in cluster.cache.stores.values():
            assert store.objects == {}
        await cluster.apply(service("a"))
        assert known(cluster) == ["a"]
        await cluster.patch(kinds.SERVICE, "a", {"metadata": {"annotations": {"n": "1"}}})
        found = cluster.cache.get(kinds.SERVICE, "a")
        assert found is not None
        assert found["metadata"]["annotations"] == {"n": "1"}
        await cluster.delete(kinds.SERVICE, "a")
        assert known(cluster) == []
        await cluster.synced()
        await asyncio.sleep(0.2)
        assert known(cluster) == []
        await cluster.apply(service("a", OTHER))
        await until(lambda: cluster.cache.services(OTHER))
        assert cluster.cache.environments() == {OTHER}

    play(tmp_path, body)


def test_each_change_is_told_for_the_environments_that_it_is_news_for(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        changed: list[EnvironmentId] = []
        cluster.watch(changed.append)
        double.controllers.paused = True
        double.table.put(kinds.SERVICE, service("a"))
        await until(lambda: changed == [PLACE])
        double.table.put(kinds.SERVICE, service("a", OTHER))
        await until(lambda: changed == [PLACE, PLACE, OTHER])
        assert not cluster.cache.services(PLACE)
        double.table.put(kinds.SERVICE, service("a", OTHER) | {"metadata": {"name": "a", "namespace": SPACE}})
        await until(lambda: changed == [PLACE, PLACE, OTHER, OTHER])
        assert known(cluster) == []

    play(tmp_path, body)


def test_a_watch_that_breaks_goes_on_where_it_was_and_lists_nothing_again(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        lists = double.calls["list", "services"]
        for number in range(5):
            double.faults.drop_watches()
            double.table.put(kinds.SERVICE, service(f"s{number}"))
            double.table.put(kinds.SERVICE, service("again", port=80 + number))
            double.table.remove(kinds.SERVICE, SPACE, f"s{number - 1}")
            await until(knows(cluster, "again", f"s{number}"))
        assert double.calls["list", "services"] == lists
        assert double.calls["watch", "services"] >= 6
        await cluster.synced()

    play(tmp_path, body)


def test_a_watch_that_the_server_ends_is_opened_again_and_nothing_is_called_unknown(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        fresh = [cluster.cache.fresh]
        for number in range(25):
            double.table.put(kinds.SERVICE, service(f"s{number}"))
            await asyncio.sleep(0.1)
            fresh.append(cluster.cache.fresh)
        assert all(fresh)
        await until(lambda: len(known(cluster)) == 25)
        assert double.calls["list", "services"] == 1
        assert double.calls["watch", "services"] >= 3

    play(tmp_path, body, timing=Timing(lasts=0.5, opens=20.0, shortest=0.0))


def test_a_watch_of_which_nothing_comes_is_opened_anew_and_nothing_is_called_unknown(tmp_path: Path) -> None:
    """No server promises when a bookmark comes."""

    async def body(double: Double, cluster: Cluster) -> None:
        double.faults.bookmarks = 1000.0
        double.controllers.paused = True
        told: list[EnvironmentId] = []
        cluster.watch(told.append)
        double.table.put(kinds.SERVICE, service("s"))
        await until(lambda: double.calls["watch", "configmaps"] >= 4)
        assert told == [PLACE], "and the only news is the Service"
        assert cluster.cache.fresh
        assert double.calls["list", "configmaps"] == 1

    play(tmp_path, body, timing=Timing(opens=20.0, shortest=0.0, silence=0.2))


def test_a_version_that_is_too_old_is_listed_anew_and_what_went_meanwhile_is_gone(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        for name in ("stays", "goes"):
            double.table.put(kinds.SERVICE, service(name))
        await until(lambda: len(known(cluster)) == 2)
        changed: list[EnvironmentId] = []
        cluster.watch(changed.append)
        double.table.remove(kinds.SERVICE, SPACE, "goes")
        double.table.put(kinds.SERVICE, service("comes", OTHER))
        double.faults.expire()
        await until(lambda: known(cluster) == ["comes", "stays"])
        await cluster.synced()
        assert double.calls["list", "services"] == 2
        assert {PLACE, OTHER} <= set(changed)

    play(tmp_path, body)


def test_bookmarks_keep_a_watch_young_on_which_nothing_happens(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        double.faults.bookmarks = 0.05
        double.faults.drop_watches()
        await cluster.synced()
        for number in range(10):
            double.table.put(kinds.NODE, {"metadata": {"name": f"node-{number}"}})
        young = [follower for follower in cluster._followers if follower._version]
        await until(lambda: all(follower._version == str(double.table.version) for follower in young))
        double.table._oldest = double.table.version - 1  # whoever is where it was at first is too old now
        opened = double.calls["watch", "services"]
        double.faults.drop_watches()
        await until(lambda: double.calls["watch", "services"] > opened)
        await cluster.synced()
        assert double.calls["list", "services"] == 1

    play(tmp_path, body)


def test_a_list_comes_in_pages_and_is_whole(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        for number in range(1200):
            labelled = service(f"s{number:04}")
            double.table.put(
                kinds.SERVICE,
                labelled if number % 2 else {"metadata": {"name": f"s{number:04}", "namespace": SPACE}, "spec": {}},
            )
        await cluster.start()
        await cluster.synced()
        assert len(known(cluster)) == 600
        assert double.calls["list", "services"] == 2

    play(tmp_path, body, started=False)


class Forgetful(dict[str, tuple[int, list[Object]]]):
    """Pages of which the first that is asked for is not there any more."""

    asked = False

    def __contains__(self, token: object) -> bool:
        before, self.asked = self.asked, True
        return before and super().__contains__(token)


def test_pages_that_are_too_old_are_asked_for_from_the_first(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        for number in range(700):
            double.table.put(kinds.SERVICE, service(f"s{number:04}"))
        double.api.pages = Forgetful()
        await cluster.start()
        await cluster.synced()
        assert len(known(cluster)) == 700
        assert double.calls["list", "services"] == 4

    play(tmp_path, body, started=False)


def test_a_server_that_is_away_is_unknown_and_what_was_known_stays(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        await cluster.apply(service("a"))
        told: list[EnvironmentId] = []
        cluster.watch(told.append)
        await double.faults.down()
        await until(lambda: not cluster.cache.fresh)
        assert told == [PLACE]
        with pytest.raises(Unreachable, match="services"):
            await cluster.synced(0.05)
        assert known(cluster) == ["a"]
        double.table.remove(kinds.SERVICE, SPACE, "a")
        double.table.put(kinds.SERVICE, service("b"))
        await double.faults.up()
        await cluster.synced()
        assert known(cluster) == ["b"]
        assert told[-1] == PLACE

    play(tmp_path, body)


def test_a_server_that_hangs_is_unknown_as_soon_as_a_watch_has_to_be_opened_again(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        double.faults.freeze()
        double.faults.drop_watches()
        await until(lambda: not cluster.cache.fresh)
        double.faults.thaw()
        await cluster.synced()

    play(tmp_path, body)


def test_a_watch_that_ended_and_is_not_open_again_soon_is_unknown(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        double.faults.slow = 4.0
        await until(lambda: not cluster.cache.fresh)
        assert "could not be watched again for 0.3 seconds" in cluster.cache.problem
        double.faults.slow = 0.0
        await cluster.synced()

    play(tmp_path, body, timing=Timing(lasts=1.0, opens=0.3, settles=0.05, shortest=0.0))


def test_a_request_without_an_answer_makes_what_the_watches_told_doubtful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is frozen keeps its connections: nothing that comes of a watch would tell."""

    async def body(double: Double, cluster: Cluster) -> None:
        monkeypatch.setattr(connection, "_ALTOGETHER", 0.0)
        monkeypatch.setattr(cluster._connection._client, "timeout", httpx2.Timeout(0.2))
        double.faults.freeze()
        assert cluster.cache.fresh
        with pytest.raises(Unreachable):
            await cluster.get(kinds.POD, "a")
        await until(lambda: not cluster.cache.fresh)
        double.faults.thaw()
        await cluster.synced()

    play(tmp_path, body)


def test_a_watch_that_may_not_be_is_unknown_and_says_why(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        double.faults.forbidden = frozenset({("list", "pods")})
        await cluster.start()
        with pytest.raises(Unreachable, match='pods: pods is forbidden: User "stelae" cannot list resource "pods"'):
            await cluster.synced(1)
        double.faults.forbidden = frozenset()
        await cluster.synced()

    play(tmp_path, body, started=False)


def test_a_cluster_without_routes_is_known_and_they_are_found_when_they_come(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        assert not await cluster.has(kinds.ROUTE)
        assert await cluster.has(kinds.DEPLOYMENT)
        double.api.missing = frozenset()
        assert await cluster.has(kinds.ROUTE)
        metadata = {"name": "r", "namespace": SPACE, "labels": names.labels("h3", PLACE), "generation": 1}
        double.table.put(kinds.ROUTE, {"metadata": metadata, "spec": {}})
        await until(lambda: cluster.cache.routes(PLACE))

    play(tmp_path, body, gateway=False)


def test_what_is_throttled_is_asked_again_when_the_server_says(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        loop = asyncio.get_running_loop()
        double.faults.throttle(1, after=1)
        began = loop.time()
        await cluster.create(config("a"))
        assert loop.time() - began >= 1
        double.faults.fail(2)
        await cluster.apply(config("b"))
        double.faults.fail(1)
        with pytest.raises(Unreachable, match="currently unable"):
            await cluster.create(config("c"))
        assert known(cluster, kinds.CONFIG_MAP) == ["a", "b"]

    play(tmp_path, body)


def test_an_answer_that_was_lost_is_asked_for_again_unless_the_act_cannot_be_repeated(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        double.faults.lose_answers(1)
        await cluster.apply(config("a"))
        double.faults.lose_answers(1)
        with pytest.raises(Unreachable, match="create ConfigMap b"):
            await cluster.create(config("b"))
        await until(lambda: known(cluster, kinds.CONFIG_MAP) == ["a", "b"])
        assert double.calls["create", "configmaps"] == 1
        assert double.calls["patch", "configmaps"] == 2
        double.faults.lose_answers(1)
        assert not await cluster.delete(kinds.CONFIG_MAP, "a")  # it was, by the first order
        assert known(cluster, kinds.CONFIG_MAP) == ["b"]

    play(tmp_path, body)


def test_what_the_server_sends_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label or an annotation may have any character in it, an answer may be another program's."""

    async def body(double: Double, cluster: Cluster) -> None:
        strange = service("a")
        strange["metadata"]["annotations"] = {"x": "a\u0085b\u2028c\r\x1cd"}
        double.table.put(kinds.SERVICE, strange)
        double.table.put(kinds.SERVICE, service("b"))
        await until(lambda: known(cluster) == ["a", "b"])
        found = cluster.cache.get(kinds.SERVICE, "a")
        assert found is not None
        assert found["metadata"]["annotations"] == {"x": "a\u0085b\u2028c\r\x1cd"}
        double.controllers.paused = True
        nonsense = [b"no JSON", b"3", b'{"type": "ADDED", "object": 3}', b"\xff\xfe",
                    b'{"type": "WHAT", "object": {"metadata": {}}}',
                    b'{"type": "ADDED", "object": {"metadata": {"name": 3, "labels": []}}}',
                    b'{"type": "ADDED", "object": {"metadata": {"name": "z", "labels": [3]}}}', b"[" * 100_000,
                    b'{"type": "ERROR", "object": {"code": "x"}}']  # fmt: skip
        right = double_module._line
        for line in nonsense:
            monkeypatch.setattr(double_module, "_line", lambda *_, line=line: line + b"\n")
            double.table.put(kinds.SERVICE, service("c"))
            await until(lambda: not cluster.cache.fresh)
            monkeypatch.setattr(double_module, "_line", right)
            await cluster.synced()
            assert known(cluster) == ["a", "b", "c"]

    play(tmp_path, body)


def test_an_answer_without_an_end_is_not_read_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(_: Double, cluster: Cluster) -> None:
        await cluster.apply(config("a", text="x" * 5000))
        monkeypatch.setattr(connection, "_WHOLE", 4000)
        with pytest.raises(Unreachable, match="get ConfigMap a: the answer is longer than 4000 bytes"):
            await cluster.get(kinds.CONFIG_MAP, "a")
        monkeypatch.setattr(connection, "_WHOLE", 10)
        with pytest.raises(Unreachable, match="longer than 10 bytes"):
            await cluster.get(kinds.CONFIG_MAP, "b")  # also what is refused

    play(tmp_path, body)


def test_calls_grow_with_changes_and_not_with_what_is_there(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        before = sum(double.calls.values())
        for number in range(500):
            double.table.put(kinds.SERVICE, service(f"s{number}"))
        await until(lambda: len(known(cluster)) == 500)
        await asyncio.sleep(0.3)
        assert sum(double.calls.values()) == before
        assert before == 2 * len(kinds.WATCHED)

    play(tmp_path, body)


def test_an_older_version_of_an_object_changes_nothing() -> None:
    store = Store(kinds.SERVICE)

    def version(number: int, uid: str = "1") -> Object:
        found = service("a")
        return found | {"metadata": found["metadata"] | {"resourceVersion": str(number), "uid": uid}}

    assert store.put(version(5)) == {PLACE}
    assert store.put(version(5)) == set()
    assert store.put(version(4)) == set()
    assert store.gone(version(3, "0")) == set()
    assert store.replace([], 4) == set()
    assert list(store.objects) == ["a"]
    store.removed("a", "1")
    assert store.put(version(6)) == set()
    assert store.put(version(8, "2")) == {PLACE}
    assert store.gone(version(7)) == set()
    assert list(store.objects) == ["a"]
    assert store.replace([], 9) == {PLACE}
    assert store.environments() == set()


def test_pauses_grow_up_to_a_limit_and_are_never_shorter_than_the_server_says() -> None:
    backoff = Backoff(lambda: 1.0)
    pauses = [backoff.pause() for _ in range(12)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 15
    assert backoff.pause(30) >= 30
    assert backoff.pause(1e9) < 100
    backoff.reset()
    assert Backoff(lambda: 0.0).pause() == 0.05
    assert [retry_after(text) for text in (None, "", "3", "x", "-1", "inf", "nan")] == [0, 0, 3, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{", "clusters: 3", json.dumps({"clusters": [], "contexts": [], "users": []}),
     json.dumps({"clusters": [{"name": "c", "cluster": {"server": "ftp://x"}}], "current-context": "c",
                 "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                 "users": [{"name": "u", "user": {}}]})],
)  # fmt: skip
def test_a_kubeconfig_that_is_none_is_said_to_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InvalidInput) as raised:
        connect("", SPACE, installation="h3", jitter=lambda: 0.0, kubeconfig=path)
    assert str(path) in str(raised.value)
    with pytest.raises(InvalidInput):
        connect("none", SPACE, installation="h3", jitter=lambda: 0.0, kubeconfig=tmp_path / "none")


def test_a_login_that_was_renewed_in_the_kubeconfig_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"

    def log_in(token: str, server: str = "http://127.0.0.1:1") -> None:
        cluster = {"name": "c", "cluster": {"server": server}}
        user = {"name": "u", "user": {"token": token}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        found = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}
        path.write_text(json.dumps(found))

    sent: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.headers["Authorization"])
        return httpx2.Response(200 if sent[-1] == "Bearer new" else 401, json={})

    async def body() -> None:
        log_in("old")
        found = connection.Connection(connection.read("", path), lambda: 0.0, lambda: connection.read("", path))
        auth, transport = found._client.auth, httpx2.MockTransport(answer)
        found._client = httpx2.AsyncClient(base_url=found.server, auth=auth, transport=transport)
        for token, server in (("old", found.server), ("theirs", "http://127.0.0.1:2"), ("new", found.server)):
            log_in(token, server)
            with pytest.raises(Unreachable, match="login"):
                await found.ask("GET", "/version", "ask")
        await found.ask("GET", "/version", "ask")
        assert sent == ["Bearer old"] * 3 + ["Bearer new"], "another server's login was sent"
        await found.close()

    asyncio.run(body())


def test_a_log_that_is_not_there_fails_and_a_server_that_is_not_is_unreachable(tmp_path: Path) -> None:
    async def body(double: Double, cluster: Cluster) -> None:
        with pytest.raises(Failed):
            _ = [line async for line in cluster.logs("none", follow=True)]
        await double.faults.down()
        with pytest.raises(Unreachable):
            _ = [line async for line in cluster.logs("none")]
        with pytest.raises(Unreachable):
            await cluster.attach("none", "app", tty=False)

    play(tmp_path, body)
