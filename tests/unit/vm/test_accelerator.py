"""Whether KVM is used: only where a machine that was tried by it said so itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from stelae.domain.errors import Failed, Unreachable
from stelae.platforms.vm import accelerator
from stelae.system.command import Output


def tried(monkeypatch: pytest.MonkeyPatch, outcome: Callable[[], int]) -> str:
    def run(argv: list[str], **_: object) -> Output:
        assert argv[argv.index("-accel") + 1] == "kvm"
        return Output(status=outcome(), stdout=b"", stderr=b"")

    monkeypatch.setattr(accelerator, "KVM", Path("/dev/null"))
    monkeypatch.setattr(accelerator, "run", run)
    return accelerator.kvm_problem()


def refuse(error: Exception) -> int:
    raise error


def test_only_the_status_that_the_machine_chose_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch, lambda: 33) == ""
    for status in (0, 1, -6, 32):
        assert tried(monkeypatch, partial(int, status)).endswith(f"ended with status {status}")


def test_one_that_does_nothing_and_no_kvm_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "did nothing" in tried(monkeypatch, lambda: refuse(Failed("did not end")))
    assert "not installed" in tried(monkeypatch, lambda: refuse(Unreachable("qemu is not installed")))
    monkeypatch.setattr(accelerator, "KVM", Path("/nowhere/kvm"))
    assert accelerator.kvm_problem() == "there is no /nowhere/kvm"


def test_it_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def sound() -> str:
        asked.append(1)
        return ""

    monkeypatch.setattr(accelerator, "kvm_problem", sound)
    accelerator.accelerator.cache_clear()
    assert [accelerator.accelerator(), accelerator.accelerator()] == ["kvm", "kvm"]
    assert asked == [1]
    accelerator.accelerator.cache_clear()
