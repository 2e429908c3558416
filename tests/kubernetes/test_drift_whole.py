"""Somebody with kubectl and a whole Stelae that holds an app on a real cluster: each is told within seconds, and
answered. And a person who looks into a copy of what runs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.kubernetes.ground import needed
from tests.kubernetes.whole import Whole

pytestmark = [pytest.mark.kubernetes, needed, pytest.mark.timeout(600)]

TESTING = """[env.testing]
platform = PLATFORM
processes = { web = 4 }
drift_storm = "60%"
strategy = { kind = "rolling", batch = "100%", min_healthy = "0s" }
"""
WITHIN = 5.0


@pytest.fixture
def whole(namespace: str) -> Iterator[Whole]:
    with Whole(namespace) as made:
        yield made


def _told(whole: Whole, *words: str) -> bool:
    text = whole.machine.cli("history", "testing").stdout
    return any(all(word in line for word in words) for line in text.splitlines())


def _seen(whole: Whole, *words: str) -> None:
    """Wait until a line of the history has *words*."""
    began = time.monotonic()
    whole.machine.until(f"told: {words}", lambda: _told(whole, *words))
    assert time.monotonic() - began < WITHIN, f"{words} took {time.monotonic() - began:.1f} s"


def _sound(whole: Whole) -> None:
    whole.machine.until("all serve", lambda: whole.machine.ready() == (4, 4), 60)
    whole.machine.until("all is right", lambda: whole.machine.cli("verify", check=False).returncode == 0, 60)


def test_kubectl_is_told_and_answered(whole: Whole) -> None:
    machine = whole.environments(TESTING).machine
    machine.cli("deploy", "testing")
    _sound(whole)
    (deployment,) = (each["metadata"]["name"] for each in whole.objects("deployments"))

    whole.kubectl("scale", f"deployment/{deployment}", "--replicas=6")
    _seen(whole, "was told to have 6 instances, not 4")
    _sound(whole)

    whole.kubectl("set", "env", f"deployment/{deployment}", "EVIL=1")
    _seen(whole, f"Deployment {deployment} is not as it was made", "env[EVIL]")
    _sound(whole)
    assert "EVIL" not in whole.kubectl("get", "deployment", deployment, "-o", "json")

    victim = whole.pods()[0]["metadata"]["name"]
    whole.kubectl("set", "image", f"pod/{victim}", "app=stelae.invalid/evil:1")
    _seen(whole, "spec.containers[app].image")
    machine.until("it is replaced", lambda: victim not in {pod["metadata"]["name"] for pod in whole.pods()}, 60)
    _sound(whole)

    name = whole.pods()[0]["metadata"]["name"]
    done = machine.cli("debug", name, "--", "python3", "-c", "import os; print('in', os.environ['STELAE_RELEASE'])")
    assert "in r-" in done.stdout, done
