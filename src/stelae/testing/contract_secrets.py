"""The contract of a platform for secrets: an instance reads what was set, byte for byte, or it does not start.

``stelae.testing.contract.PlatformContract`` has these tests too; they are for platforms with ``Capability.SECRETS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from stelae.controller.secret_store import LARGEST
from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.platforms.port import Capability
from stelae.testing.contract_run import Contract

if TYPE_CHECKING:
    from stelae.testing.contract import Subject

TELLING = InstanceId("web-telling-1")
VERSION = 7
VALUES: Mapping[str, bytes] = {
    "TEXT": b"postgres://u:p w@h/d?x=\"'$`\\",
    "lines.pem": b"-----BEGIN-----\nabc\r\n\n-----END-----\n\n",
    "binary": bytes(range(256)),
    "largest": b"\xffx" * (LARGEST // 2),
    "newline": b"\n",
}
"""What the release ``telling`` of a subject has; ``TEXT`` is an environment variable too."""


class Given:
    """The source of secrets of a platform under test: it has ``VALUES``, in version ``VERSION``."""

    def read(self, environment: EnvironmentId, name: str, version: int) -> bytes:
        """See ``SecretSource.read``."""
        if version != VERSION or name not in VALUES:
            raise Failed(f"secret {name} version {version} cannot be read: its file is gone")
        return VALUES[name]


class SecretsContract(Contract):
    """The tests of secrets."""

    def test_an_instance_reads_its_secrets_byte_for_byte(self) -> None:
        """As files, whatever is in them; and as environment variables where that was asked for."""

        async def body(subject: Subject) -> None:
            hand = subject.hand()
            if Capability.SECRETS not in hand.capabilities:
                return
            assert subject.telling is not None, "a platform with secrets needs a release that tells of them"
            await hand.launch(TELLING, subject.telling)
            wanted = {f"{name} {len(value)} {sha256(value).hexdigest()}" for name, value in VALUES.items()}
            wanted.add(f"TEXT={sha256(VALUES['TEXT']).hexdigest()}")
            for line in wanted:
                await hand.until_said(TELLING, line)
            said = [line.text for line in await hand.output(TELLING)]
            assert set(said) == {"begins", *wanted}, f"it has other secrets than its release: {said}"

        self.run(body)

    def test_an_instance_whose_secret_cannot_be_read_does_not_start(self) -> None:
        """The launch fails and says which one; nothing is left of it."""

        async def body(subject: Subject) -> None:
            if Capability.SECRETS not in subject.platform.capabilities:
                return
            assert subject.telling is not None
            lost = replace(subject.telling, secrets={**subject.telling.secrets, "TEXT": VERSION + 1})
            hand = subject.hand(lost)
            problem = ""
            try:
                await hand.launch(TELLING, lost)
            except Failed as error:
                problem = str(error)
            assert "secret TEXT version 8 cannot be read" in problem, f"the launch was told as {problem!r}"
            assert TELLING not in (await hand.look()).instances, "it is there all the same"
            assert not await subject.left(), "something is left of it"

        self.run(body)
