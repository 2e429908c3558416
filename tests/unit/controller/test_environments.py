"""What environments are: applied as a whole, taken down, and started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.controller.environments import Environments
from stelae.controller.people import strangers
from stelae.controller.plans import Plans
from stelae.domain import event as ev
from stelae.domain.errors import Conflict, InvalidInput
from stelae.domain.state import Outcome
from tests.unit.controller.site import ONE, PRODUCTION, STAGING, TEST, Site, on_site, spec

A, B = '["a.example.com"]', '["b.example.com"]'


def _two(staging: str, production: str) -> str:
    both = "processes = {{ web = 1 }}\nhosts = {}"
    return spec(staging=both.format(staging), production=both.format(production))


def test_apply_tells_the_difference_and_a_second_time_there_is_none(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        dry = await site.apply(dry_run=True)
        assert (dry["applied"], site.ledger.size) == ([], 0)
        done = await site.apply()
        assert (done["changes"], done["applied"]) == (dry["changes"], [TEST])
        assert await site.apply() == {"changes": [], "applied": [], "warnings": []}

    on_site(tmp_path, body)


def test_who_cannot_approve_is_told_when_it_is_applied_and_planned(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        site.environments = Environments(site.record, strangers=strangers)
        site.plans = Plans(site.record, site.environments, site.clock)
        groups = "approvals = { root = 1, nosuchgroup = 1 }"
        named = 'approvals = 1\napprovers = ["nobody", "root", "nobodythere", "group:root", "group:none"]'
        text = spec(staging=f"{{0}}\n{groups}", production=f"{{0}}\n{named}").replace(
            "{0}", "processes = { web = 1 }"
        )
        done = await site.apply(text, dry_run=True)
        assert done["warnings"] == [
            "env.staging: this machine has no group 'nosuchgroup', so nobody in it can approve",
            "env.production: this machine has no group 'none', so nobody in it can approve",
            "env.production: root approves nothing: it is nobody in particular",
            "env.production: this machine has no user 'nobodythere', who could approve",
        ]
        assert (await site.apply(text))["warnings"] == done["warnings"]
        image = await site.image("one")
        request = {"environment": STAGING, "image": image, "release": "", "commit": "", "path": "", "strategy": ""}
        found = await site.plans.plan({**request, "supersede": False, "rollback": False, "spec": ""})
        assert found["warnings"] == done["warnings"][:1]

    on_site(tmp_path, body)


def test_hosts_change_places_within_one_file(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(_two(A, B))
        await site.apply(_two(B, A))
        hosts = {env.id: env.config.hosts for env in site.record.state.environments.values() if env.config}
        assert hosts == {STAGING: ("b.example.com",), PRODUCTION: ("a.example.com",)}

    on_site(tmp_path, body)


def test_a_host_of_an_environment_that_stays_as_it_is_is_refused_and_nothing_is_applied(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply(_two(A, B))
        with pytest.raises(InvalidInput, match=r"'a\.example\.com' belongs to shop/staging"):
            await site.apply(_two(B, A), environment="production")
        with pytest.raises(InvalidInput, match=r"'b\.example\.com' belongs to shop/production"):
            await site.apply(spec(test="processes = { web = 1 }", other=f"processes = {{ web = 1 }}\nhosts = {B}"))
        assert len(site.events(ev.EnvironmentApplied)) == 2

    on_site(tmp_path, body)


def test_an_environment_that_the_file_does_not_have_is_named_with_those_that_it_has(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        with pytest.raises(InvalidInput, match="no environment 'prod'") as refusal:
            await site.apply(environment="prod")
        assert "test" in refusal.value.hint

    on_site(tmp_path, body)


def test_a_count_that_the_file_did_not_change_keeps_what_scale_made_of_it(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        await site.deployments.scale("ana", {"environment": TEST, "processes": {"web": 5}})
        await site.apply(ONE + 'settings = { LEVEL = "info" }\n')
        assert site.env().wanted == {"web": 5}
        await site.apply(spec(test="processes = { web = 3 }"))
        assert site.env().wanted == {"web": 3}

    on_site(tmp_path, body)


def test_down_ends_a_rollout_and_start_serves_the_stable_release_again(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        first, second = await site.image("v1"), await site.image("v2")
        await site.apply()
        site.loops.start()
        await site.deploy(first)
        await site.until(lambda: site.env().rollout is None and len(site.env().table) == 2)
        name = (await site.deploy(second))["deployment"]
        assert await site.environments.down("ana", "") == {"stopped": [TEST]}
        assert site.env().deployments[name].outcome is Outcome.CANCELLED
        assert not site.platform.running[TEST]
        assert await site.environments.down("ana", "") == {"stopped": [TEST]}, "down is down"
        with pytest.raises(InvalidInput, match="there is no app 'test'") as refused:  # an environment's name
            await site.environments.down("ana", "test")
        assert refused.value.hint == "apps are shop"
        assert await site.environments.start("ana", "blog") == {"started": []}
        assert await site.environments.start("ana", "shop") == {"started": [TEST]}
        await site.until(lambda: len(site.env().table) == 2)
        assert await site.environments.start("ana", "") == {"started": []}

    on_site(tmp_path, body)


def test_the_loops_look_when_somebody_asks_even_if_the_client_left(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        await site.apply()
        await site.stable(await site.image("v1"))
        site.loops.start()
        await site.until(lambda: len(site.env().table) == 2)
        await asyncio.sleep(0.05)
        await site.record.append([ev.Scaled(process="web", count=3)], actor="ana", environment=TEST)
        async with asyncio.timeout(2):  # far below the look that is made at rest
            await site.until(lambda: len(site.env().table) == 3)

    on_site(tmp_path, body)


CLUSTER = (
    'processes = { web = 2 }\nstrategy = { kind = "rolling", min_healthy = "0s" }\n'
    'platform = { kind = "kubernetes", namespace = "shop", registry = "registry.example.com/apps" }'
)


def test_another_platform_is_refused_while_anything_is_held_and_that_is_recorded(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        moved = spec(test=CLUSTER)
        await site.apply()
        await site.apply(moved)
        await site.apply()  # nothing was there yet
        site.loops.start()
        await site.deploy(await site.image("v1"))
        with pytest.raises(Conflict, match="is held by its present platform"):
            await site.apply(moved)  # under way
        await site.until(lambda: site.env().rollout is None and len(site.env().table) == 2)
        with pytest.raises(Conflict, match="is held by its present platform") as refusal:
            await site.apply(moved)
        assert "stelae down shop" in refusal.value.hint
        assert [event.request for event in site.events(ev.RequestRefused)] == ["apply", "apply"]
        with pytest.raises(Conflict):
            await site.apply(moved, dry_run=True)
        assert site.env().config is not None
        await site.apply(spec(test="processes = { web = 3 }"))  # anything else may change
        await site.environments.down("ana", "shop")
        changes = (await site.apply(moved))["changes"]
        assert {"environment": TEST, "path": "platform.kind", "old": "local", "new": "kubernetes"} in changes

    on_site(tmp_path, body)


def test_what_a_cluster_holds_takes_no_address_here(tmp_path: Path) -> None:
    async def body(site: Site) -> None:
        site.environments = Environments(site.record, addresses=3)
        await site.apply(spec(test=CLUSTER, staging=CLUSTER, production="processes = { web = 3 }"))
        with pytest.raises(InvalidInput, match="4 instances, and there are 3 addresses"):
            await site.apply(spec(production="processes = { web = 4 }"))

    on_site(tmp_path, body)
