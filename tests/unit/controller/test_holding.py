"""What holds environments: one platform where there are several, made when it is needed, and the way to a cluster."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from stelae.controller import holding
from stelae.controller.environments import Environments
from stelae.controller.kubeconfig import kubeconfig
from stelae.domain import event as ev
from stelae.domain.digest import digest_of
from stelae.domain.environment import Environment, EnvironmentId
from stelae.domain.errors import Failed, InvalidInput
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.release import Release
from stelae.domain.state import EnvironmentState
from stelae.images.layout import Layout
from stelae.platforms.port import Capability
from stelae.platforms.several import Platforms
from stelae.system.installation import Installation
from tests.unit.controller.site import TEST, FakePlatform, Site, on_site, spec

CLUSTER = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace="shop", registry="registry.example.com/apps")
CONFIG = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: here, context: {cluster: c, user: u}}]
"""
DISK = '[disk]\nbase = "debian:bookworm"\n[image]'
SHOP = 'processes = { web = 1 }\nplatform = { kind = "kubernetes", namespace = "shop", registry = "r.example.com" }'


class Nothing:
    """Has no secrets."""

    def read(self, environment: EnvironmentId, name: str, version: int) -> bytes:
        raise Failed("there is none")


class Fake(FakePlatform):
    """A platform that remembers who told it what."""

    def __init__(self, *can: Capability) -> None:
        super().__init__()
        self._can = frozenset(can)
        self.prepared: list[str] = []
        self.watchers = 0
        self.closed = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._can

    async def prepare(self, release: Release) -> None:
        self.prepared.append(release.environment)

    def watch(self, changed: object) -> None:
        self.watchers += 1

    async def close(self) -> None:
        self.closed = True


def test_each_environment_is_held_by_the_platform_that_it_names() -> None:
    here, there = Fake(Capability.SECRETS, Capability.EXACT_WEIGHTS), Fake(Capability.SECRETS, Capability.RATIO)
    platforms: list[Any] = [here, there]
    made: list[str] = []
    choices = {"shop/test": PlatformChoice(), "shop/big": CLUSTER}

    def cluster() -> Any:
        made.append("kubernetes")
        return platforms[1]

    both = Platforms(
        lambda name: choices[name], {PlatformKind.LOCAL: lambda: platforms[0], PlatformKind.KUBERNETES: cluster}
    )  # fmt: skip

    async def body() -> None:
        both.watch(lambda _: None)
        both.alarm(lambda _: None)
        await both.prepare(Release(app="shop", environment="test", image=digest_of(b"x")))
        assert (made, there.watchers) == ([], 0), "what nobody has asked for is not made"
        assert both.capabilities == here.capabilities
        await both.prepare(Release(app="shop", environment="big", image=digest_of(b"x")))
        await both.observe(EnvironmentState(id=EnvironmentId("shop/big")))
        assert (here.prepared, there.prepared, made) == (["test"], ["big"], ["kubernetes"])
        assert (here.watchers, there.watchers, len(there.alarms)) == (1, 1, 1), "who came first watches it too"
        assert list(there.running) == ["shop/big"]
        assert both.capabilities == {Capability.SECRETS}
        assert both.on(CLUSTER).capabilities == there.capabilities
        await both.close()
        assert (here.closed, there.closed) == (True, True)

    asyncio.run(body())


def test_a_kind_that_is_not_there_is_refused() -> None:
    with pytest.raises(Failed, match="no platform of kind kubernetes"):
        Platforms(lambda _: CLUSTER, {}).on(CLUSTER)


def test_what_an_environment_is_on_is_what_is_recorded_of_it(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        local: Any = Fake()
        machines: Any = Fake(Capability.ROUTES)
        asked: list[str] = []

        def made() -> Any:
            asked.append("vm")
            return machines

        given = Installation(state=tmp_path)
        await site.record.append([ev.ControllerStarted(version="1", boot="b")])
        found = holding.platforms(
            given, site.record, local, Layout.open(tmp_path / "images"), Nothing(), site.clock, nullcontext, made
        )  # fmt: skip
        release = Release(app="shop", environment="test", image=digest_of(b"x"))
        await found.prepare(release)  # of what nothing is recorded
        await site.apply(spec(test="processes = { web = 1 }"))
        await found.prepare(release)
        assert local.prepared == ["test", "test"]
        await site.apply(spec(test=SHOP))
        config = site.env().config
        assert config is not None
        assert Capability.RATIO in found.on(config.platform).capabilities
        assert asked == [], "what nobody has asked for is not made"
        await site.apply(spec(test='processes = { web = 1 }\nplatform = "vm"').replace("[image]", DISK))
        await found.prepare(release)
        assert (asked, machines.prepared, local.prepared) == (["vm"], ["test"], ["test", "test"])
        await found.close()

    on_site(tmp_path, body)


def test_the_identity_is_of_the_first_entry_and_stays(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.record.append([ev.ControllerStarted(version="1", boot="b")])
        first = holding.identity(site.record)
        await site.record.append([ev.ControllerStarted(version="2", boot="c")])
        assert holding.identity(site.record) == first
        assert len(first) == 12
        assert set(first) <= set("0123456789abcdef")

    on_site(tmp_path, body)


def test_nothing_of_a_cluster_is_imported_while_no_environment_names_one() -> None:
    code = (
        "import sys, stelae.controller.daemon, stelae.cli.entry\n"
        "sys.exit(', '.join(n for n in sys.modules if n.split('.')[0] in ('lightkube', 'httpx2', 'yaml')"
        " or n == 'stelae.platforms.kubernetes.platform') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_kubeconfig_is_the_controllers_and_never_a_persons(tmp_path: Path) -> None:
    installation = Installation(state=tmp_path)
    (tmp_path / "home" / ".kube").mkdir(parents=True)
    (tmp_path / "home" / ".kube" / "config").write_text(CONFIG)
    person = tmp_path / "home"
    with pytest.raises(InvalidInput, match="there is no kubeconfig") as refusal:
        kubeconfig(installation, {"HOME": str(person), "KUBECONFIG": str(person / ".kube" / "config")})
    assert refusal.value.where == str(tmp_path / "kubeconfig")
    (tmp_path / "kubeconfig").write_text(CONFIG)
    assert kubeconfig(installation, {}) == tmp_path / "kubeconfig"
    other = tmp_path / "other"
    with pytest.raises(InvalidInput, match="there is no kubeconfig"):
        kubeconfig(installation, {"STELAE_KUBECONFIG": str(other)})
    other.write_text(CONFIG)
    assert kubeconfig(installation, {"STELAE_KUBECONFIG": str(other)}) == other
    with pytest.raises(InvalidInput, match="names several files"):
        kubeconfig(installation, {"STELAE_KUBECONFIG": f"{other}:{other}"})


@pytest.mark.parametrize(
    ("text", "context", "says"),
    [
        (None, "", "there is no kubeconfig"),
        ("{", "", "this is no kubeconfig"),
        ("- 1", "", "this is no kubeconfig"),
        (CONFIG, "prod", "prod"),
        (CONFIG.replace("https://127.0.0.1:1", "ftp://x"), "", "names no server"),
        (CONFIG, "here", None),
        (CONFIG, "", None),
    ],
)
def test_a_cluster_that_cannot_even_be_asked_is_told_when_it_is_applied(
    text: str | None, context: str, says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STELAE_KUBECONFIG", raising=False)
    state = tmp_path / "state"
    state.mkdir()
    if text is not None:
        (state / "kubeconfig").write_text(text)

    async def body(site: Site) -> None:
        installation = Installation(state=state)
        site.environments = Environments(
            site.record, unasked=lambda choice: holding.problems(installation, choice)
        )  # fmt: skip
        named = f'context = "{context}", ' if context else ""
        done = await site.apply(spec(test=SHOP.replace("namespace", named + "namespace", 1)))
        assert done["applied"] == [TEST], "it may come later"
        if says is None:
            assert done["warnings"] == []
        else:
            [warning] = done["warnings"]
            assert warning.startswith("env.test: the cluster cannot be asked: ")
            assert says in warning
        assert (await site.apply(spec(other="processes = { web = 1 }")))["warnings"] == []

    on_site(tmp_path, body)


def test_an_environment_of_this_machine_asks_for_no_kubeconfig(tmp_path: Path) -> None:
    env = Environment(app="shop", name="test", processes={})
    assert holding.problems(Installation(state=tmp_path), env.platform) == []
