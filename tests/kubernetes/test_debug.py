"""Debug sessions on a real cluster: the shell that a person gets, and the end of one whose controller is away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import environment_id
from stelae.domain.observation import Phase
from stelae.domain.platform import PlatformChoice, PlatformKind
from stelae.domain.run import Window
from stelae.platforms.kubernetes import kinds, names
from stelae.platforms.kubernetes.debugging import SHELL
from stelae.platforms.kubernetes.pods import label
from stelae.testing.contract_debug import rest, until_said
from stelae.testing.contract_kubernetes import INSTALLATION, Controllers
from stelae.testing.hand_sets import SetHand
from stelae.testing.set_subject import release
from tests.kubernetes.ground import IMAGE, namespace, needed

pytestmark = [pytest.mark.kubernetes, needed]

NAME = InstanceId("debug-first-1")


def test_a_person_gets_a_prompt_and_is_in_no_service(tmp_path: Path) -> None:
    async def whole() -> None:
        async with namespace(tmp_path, "debug") as place:
            choice = PlatformChoice(kind=PlatformKind.KUBERNETES, namespace=place.name, registry="registry")
            controllers = Controllers(choice, lambda: place.cluster(INSTALLATION), IMAGE)
            platform = await controllers.another()
            made = release("shell", SHELL)
            hand = SetHand(platform, environment_id(made.app, made.environment), (made,), choice)
            client = place.cluster(INSTALLATION)
            try:
                terminal = await hand.debug(NAME, made, Window(rows=24, columns=80))
                await until_said(terminal, b"$ ")
                await terminal.write(b"echo $((6 * 7)); touch /new\r")
                assert b"42" in await until_said(terminal, b"Read-only file system")
                (pod,) = await client.list(kinds.POD)
                assert label(pod, names.PROCESS) == "", "a Service may lead to it"
                assert pod["spec"]["activeDeadlineSeconds"] > 0, "it never ends where no controller runs"
                await terminal.write(b"exit 5\r")
                await rest(terminal)
                terminal.close()
                found = await hand.until(NAME, Phase.EXITED)
                assert found.exit is not None
                assert found.exit.code == 5
            finally:
                await client.close()
                await platform.close()

    asyncio.run(whole())
