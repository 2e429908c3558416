"""What the repository promises about itself: locks without hosts, scripts that are quick, a wheel that works."""

from __future__ import annotations

import re
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

import stelae

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "examples/guestbook/requirements.lock", "scripts/uv.lock")
_PIN = re.compile(r"([a-z0-9-]+)==(\S+)((?: ;[^\\]*)?)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def pins(lock: str) -> dict[str, str]:
    """Return the names and versions in *lock*, every line of which must be a pin with hashes."""
    text = (ROOT / lock).read_text()
    assert _PIN.sub("", text) == ""
    return {match[1]: match[2] for match in _PIN.finditer(text)}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_pins_with_hashes_and_nothing_else(lock: str) -> None:
    assert pins(lock)


def test_the_lock_holds_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[<>=!~\[; ]", item)[0].lower() for item in wanted}
    assert names <= pins("requirements.lock").keys()


def test_the_changelog_has_the_version() -> None:
    version = re.escape(stelae.__version__)
    assert re.search(rf"^## \[?({version}|Unreleased)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text()))
        assert named
        assert named <= targets


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").iterdir() if not path.suffix))
def test_the_scripts_are_shell_that_stops_at_errors(script: str) -> None:
    path = ROOT / "scripts" / script
    assert path.stat().st_mode & 0o111
    assert "\nset -euo pipefail\n" in path.read_text()
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.real
def test_system_packages_are_checked_quickly() -> None:
    times = []
    for _ in range(3):
        begun = time.monotonic()
        done = subprocess.run([ROOT / "scripts/system-packages"], check=True, capture_output=True)
        times.append(time.monotonic() - begun)
        assert done.stdout == b"", "something was missing and was installed"
    assert min(times) < 0.2


@pytest.mark.network
def test_the_wheel_works_without_the_clone() -> None:
    done = subprocess.run(
        [ROOT / "scripts/check-wheel"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"stelae {stelae.__version__}\n"
