"""The contract of a platform, on the local one: real containers, a real HAProxy, real probes."""

from __future__ import annotations

from pathlib import Path

import pytest

from stelae.testing.contract import Body, PlatformContract
from tests.real.busybox import make_erofs
from tests.real.contract_parts import Parts, own_installation, run_on

pytestmark = pytest.mark.real


@pytest.fixture(scope="session")
def erofs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_erofs(tmp_path_factory.mktemp("erofs"))


class TestLocalPlatform(PlatformContract):
    @pytest.fixture(autouse=True)
    def _image(self, erofs: Path) -> None:
        self.image = erofs

    def run(self, body: Body) -> None:
        with own_installation() as installation:
            run_on(Parts(installation, self.image), body)
