"""The contract of a platform that keeps sets, on a real cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.contract_sets import SetsContract
from stelae.testing.set_subject import Body, release
from tests.kubernetes.ground import IMAGE, namespace, needed

pytestmark = [pytest.mark.kubernetes, needed]

SERVE = "echo begins; trap 'exit 0' TERM; nc -ll -p 8000 -e echo ok & wait"
SCRIPTS = {
    "serving": SERVE,
    "rival": SERVE,
    "hanging": "trap '' TERM; echo begins; while true; do sleep 0.1; done",
    "exiting": "echo begins; exit 3",
    "talking": """echo begins; while read -r line; do
        case "$line" in exit*) exit "${line#exit }";; esac; echo "got $line"; done""",
    "telling": """echo begins; cd /run/secrets; for name in *; do
        echo "$name $(wc -c < $name) $(sha256sum < $name | cut -d' ' -f1)"; done
        echo "TEXT=$(printf %s "$TEXT" | sha256sum | cut -d' ' -f1)"
        trap 'exit 0' TERM; while true; do sleep 0.1; done""",
}
RELEASES = {name: release(name, ("sh", "-c", script)) for name, script in SCRIPTS.items()}


class TestCluster(SetsContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def run_sets(self, body: Body) -> None:
        async def whole() -> None:
            async with namespace(self.folder, "contract") as place:
                choice = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=place.name, registry="registry/shop")
                controllers = Controllers(choice, lambda: place.cluster(INSTALLATION), IMAGE)
                await controllers.run(body, RELEASES, place.way.cut)

        asyncio.run(whole())
