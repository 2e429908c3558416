"""The contract of a platform, where each instance is an emulated machine: the suite that the local one passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.images.disks import DiskFiles
from stelae.testing.contract import Body, PlatformContract
from tests.machines.kit import MachineParts, make_disk
from tests.real.contract_parts import own_installation, run_on

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DiskFiles]:
    folder = tmp_path_factory.mktemp("disk")
    return folder / "image.erofs", make_disk(folder)


class TestMachines(PlatformContract):
    @pytest.fixture(autouse=True)
    def _made(self, made: tuple[Path, DiskFiles]) -> None:
        self.image, self.files = made

    def run(self, body: Body) -> None:
        with own_installation() as installation:
            run_on(MachineParts(installation, self.image, self.files), body)
