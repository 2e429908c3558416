"""An installation's folder with all that a backup is of: two environments, images that are signed, secrets, keys."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path

from stelae.attest import signing
from stelae.attest.contents import Inspector
from stelae.attest.keys import Keys
from stelae.controller.audit import Audit
from stelae.controller.recovery.backup import Made, Options, back_up
from stelae.controller.secret_keys import SecretKeys
from stelae.controller.secret_store import SecretStore
from stelae.controller.secrets import Secrets
from stelae.domain import event as ev
from stelae.domain.digest import Digest
from stelae.domain.image import Source
from stelae.domain.units import SECOND, Instant
from stelae.images.layout import Layout, image_of
from stelae.system.installation import Installation
from tests.unit.attest.samples import build_of, image
from tests.unit.controller.site import TEST, Site, on_site, spec
from tests.unit.core.fixtures import WEB, WORKER

VALUE = b"zorkmid-recovery-77"
WEEK: Instant = 7 * 24 * 3600 * SECOND
WHO = {"actor": "ana", "host": "old.example.com"}
BOTH = spec(
    test='processes = { web = 2 }\nsecrets = ["PASSWORD"]\nstrategy = { kind = "rolling", min_healthy = "0s" }',
    production='processes = { web = 1 }\nstrategy = { kind = "rolling", min_healthy = "0s" }',
)
LONG = ev.BuildFailed(source=Source(commit="b" * 40), reason="no such package\n" * 5_000)


def now() -> Instant:
    """Some time after all that is recorded."""
    return WEEK


def installed(folder: Path, name: str = "stx") -> Installation:
    return Installation(name=name, state=folder / "state", run=folder / "run")


class Estate:
    """The installation below *folder*, over *site*."""

    def __init__(self, site: Site, own: Installation) -> None:
        self.site, self.own = site, own
        self.layout = Layout.open(own.images)
        self.audit = Audit(site.record, own)
        store = SecretStore(own.secrets, own.name, SecretKeys(own.keys, {}), lambda: site.record.state.names)
        self.secrets = Secrets(site.record, store)

    async def image(self, content: str, packages: int = 0) -> Digest:
        """Store, sign and record an image, with so many packages inside."""
        files = {b"app/version": content.encode()}
        for number in range(packages):
            about = json.dumps({"name": f"thing-{number}", "version": "1.2.3", "license": "MIT"})
            files[f"app/node_modules/thing-{number}/package.json".encode()] = about.encode()
        digest = image(self.layout, "shop", files, processes=(WEB, WORKER))
        keys = Keys(self.own.keys)
        key = keys.signing() or keys.make()
        keys.keep(key)
        built = build_of(self.layout, digest)
        inspector = Inspector(self.layout, self.own.cache / "contents")
        signed = await asyncio.to_thread(signing.attest, self.layout, inspector, built, key)
        trusted = [] if key.public.id in self.site.record.state.keys else [
            ev.KeyTrusted(key=key.public.id, pem=key.public.pem)
        ]  # fmt: skip
        await self.site.record.append(
            [
                *trusted,
                ev.ImageBuilt(image=image_of(self.layout, digest), source=Source(commit="a" * 40)),
                ev.ImageAttested(image=digest, key=key.public.id, commit="a" * 40, statements=signed.statements),
            ],
            actor="ana",
        )
        return digest

    async def secret(self, value: bytes = VALUE) -> None:
        text = base64.b64encode(value).decode()
        await self.secrets.set_secret("ana", {"environment": TEST, "name": "PASSWORD", "value": text})

    async def publish(self) -> None:
        await self.audit.receipt("0")


def on_estate(own: Installation, body: Callable[[Estate], Awaitable[None]]) -> None:
    """Run *body* with the installation *own*, which is made when it is not there."""
    own.state.mkdir(parents=True, exist_ok=True)

    async def run(site: Site) -> None:
        estate = Estate(site, own)
        await body(estate)
        await estate.publish()

    on_site(own.state, run)


async def furnish(estate: Estate) -> None:
    """Deploy two images after each other in one environment, the second in another as well; a build has failed with
    so many words that they are held beside the record."""
    site = estate.site
    await site.apply(BOTH)
    await site.record.append([LONG], actor="ana")
    await estate.secret()
    site.loops.start()
    one, two = await estate.image("one"), await estate.image("two")
    for digest, name in ((one, TEST), (two, TEST), (two, "shop/production")):
        await site.deploy(digest, name)
        await site.until(lambda: all(env.rollout is None for env in site.record.state.environments.values()))


def backed_up(own: Installation, **options: bool) -> tuple[bytes, Made]:
    """Return a backup of *own*, and what was made."""
    out = BytesIO()
    made = back_up(own, Options(actor="ana", host="old.example.com", **options), now, out)
    return out.getvalue(), made
