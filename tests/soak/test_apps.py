"""Three applications that other people wrote, each on a whole machine, and cloned and built on another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.real.apps import FRONTAIL, JUPYTERLAB, NODE_RED, App, build_offline, built_elsewhere, machine_of, prove
from tests.real.frontail import mirror, source
from tests.real.machine import Machine
from tests.real.test_languages import debian
from tests.unit.build.workshop import Workshop

pytestmark = [pytest.mark.real, pytest.mark.network, pytest.mark.timeout(1800)]
__all__ = ["debian"]


@pytest.mark.parametrize("app", [JUPYTERLAB, NODE_RED], ids=lambda app: app.name)
def test_an_app_of_others_is_built_run_and_made_again_anywhere(app: App) -> None:
    with machine_of(app) as machine:
        image = prove(machine, app)
        assert build_offline(machine) == image
        assert built_elsewhere(machine.app) == image


@pytest.mark.skipif(
    None in map(shutil.which, ("buildah", "docker-registry", "npm")), reason="needs buildah, a registry and npm"
)
def test_an_app_of_others_is_built_by_its_own_dockerfile(debian: Workshop, tmp_path: Path) -> None:
    with mirror(tmp_path, debian) as home, Machine(seed=False) as machine:
        image = prove(source(machine).start(HOME=str(home)), FRONTAIL)
        assert build_offline(machine) == image
        assert built_elsewhere(machine.app, HOME=str(home)) == image
