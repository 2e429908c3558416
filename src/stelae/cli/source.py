"""From a commit in this folder to an image: send what the controller lacks, then have it built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from stelae.build import client_git
from stelae.cli.interrupted import goes_on
from stelae.cli.screen import Screen
from stelae.cli.words import short_commit, short_digest, size, span
from stelae.controller.client import Client, Json

TYPE_CHECKING = False  # typing's own would import typing
if TYPE_CHECKING:
    from pathlib import Path

IMAGE, DISK = "image", "disk"
"""What can be asked for: the image alone, or a disk of it too."""

_MACHINES = "vm"
"""The kind of platform whose instances boot disks."""

_ASK_AT_ONCE = 10_000
_LARGE = 50_000_000
"""New layers of so many bytes together take seconds until they can be mounted."""


@contextmanager
def checkout(folder: Path, ref: str, *, dirty: bool) -> Iterator[client_git.Checkout]:
    """Give the commit that *ref* names, or with *dirty* the working tree as a commit that no branch holds.

    Raises InvalidInput for HEAD when the working tree differs from it, and for a ref with *dirty*.
    """
    if dirty:
        with client_git.snapshot(folder) as taken:
            yield taken
    else:
        found = client_git.describe(folder, ref)
        client_git.refuse_dirty(found)
        yield found


def send(client: Client, source: client_git.Checkout) -> None:
    """Make the controller's mirror hold all that a build of *source* needs."""
    ids = source.objects()
    missing: list[str] = []
    for start in range(0, len(ids), _ASK_AT_ONCE):
        question = {"repository": source.repository, "objects": ids[start : start + _ASK_AT_ONCE]}
        missing += client.post("/v1/sources/missing", question)["missing"]
    if missing:
        with source.pack(missing) as pack:
            client.upload("/v1/sources", pack, repository=source.repository)


def build(
    client: Client, screen: Screen, folder: Path, ref: str, *, dirty: bool, offline: bool = False,
    secrets: Mapping[str, str] | None = None, artifact: str = IMAGE,
) -> Json:  # fmt: skip
    """Build the source in *folder* at *ref* (HEAD when it is ""), as ``build_checkout``."""
    with checkout(folder, ref or "HEAD", dirty=dirty) as source:
        return build_checkout(client, screen, source, offline=offline, secrets=secrets, artifact=artifact)


def build_checkout(
    client: Client, screen: Screen, source: client_git.Checkout, *, offline: bool = False,
    secrets: Mapping[str, str] | None = None, artifact: str = IMAGE,
) -> Json:  # fmt: skip
    """Build *source*, with *secrets* by name in base64, and return the controller's answer with ``commit`` and
    ``subject``. With *offline* the controller fetches nothing. With ``disk`` for *artifact* the image is made into a
    disk too."""
    with goes_on("the build was stopped and nothing was deployed"):
        screen.line(f'  building {short_commit(source.commit)} "{source.subject}"')
        send(client, source)
        request = {
            "repository": source.repository, "commit": source.commit, "path": source.path,
            "subject": source.subject[:1000], "versioned": source.versioned,
            **({"offline": True} if offline else {}),
            **({"artifact": artifact} if artifact != IMAGE else {}),
            **({"secrets": dict(secrets)} if secrets else {}),
        }  # fmt: skip
        result = client.follow("POST", "/v1/builds", request, lambda p: screen.status("  " + str(p.get("text", ""))))
        screen.line(f"  {_image_line(result)}")
        disk = result["disk"]
        if disk is not None:
            screen.line(f"  {_disk_line(disk)}")
        if not result["locked"] or (disk is not None and not disk["locked"]):
            screen.line("  nothing is locked: the next build elsewhere may take newer packages; see stelae lock")
        return {**result, "commit": source.commit, "subject": source.subject, "versioned": source.versioned}


def show_built(screen: Screen, result: Json) -> None:
    """Show the image of *result*, what ``build`` returned, and the disk where one was asked for."""
    screen.line(str(result["image"]))
    if result["disk"] is not None:
        screen.line(str(result["disk"]["disk"]))
    screen.result(result)


def build_to_deploy(
    client: Client, screen: Screen, folder: Path, ref: str, environment: str, *, dirty: bool,
    secrets: Mapping[str, str],
) -> dict[str, str]:  # fmt: skip
    """Build the source in *folder* as ``build``, into what *environment* runs, say what comes next where that takes
    long, and return the image, and the disk if any, as a deployment is asked for with them. A name that is wrong is
    told before."""
    rows = client.get("/v1/status", environment=environment)["environments"]
    kinds = {f"{row['app']}/{row['environment']}": row["platform"]["kind"] for row in rows}
    artifact = DISK if kinds.get(environment) == _MACHINES else IMAGE
    result = build(client, screen, folder, ref, dirty=dirty, secrets=secrets, artifact=artifact)
    new = [layer["size"] for layer in result["layers"] if not layer["cached"]]
    if sum(new) >= _LARGE:
        count = f"{len(new)} new layer{'' if len(new) == 1 else 's'}"
        screen.status(f"preparing the image: {count}, {size(sum(new))}")
    disk = {"disk": str(result["disk"]["disk"])} if result["disk"] else {}
    return {"image": str(result["image"]), **disk}


def build_twice(
    client: Client, screen: Screen, folder: Path, ref: str, *, dirty: bool, offline: bool,
    secrets: Mapping[str, str], artifact: str = IMAGE,
) -> Json:  # fmt: skip
    """Have the source at *ref* ("" is HEAD) built twice in clean places, into a disk too where *artifact* says so,
    and return how the results differ."""
    with checkout(folder, ref or "HEAD", dirty=dirty) as source, goes_on("nothing was changed"):
        screen.line(f'  building {short_commit(source.commit)} "{source.subject}" twice')
        send(client, source)
        request = {
            "repository": source.repository, "commit": source.commit, "path": source.path, "offline": offline,
            "secrets": dict(secrets), **({"artifact": artifact} if artifact != IMAGE else {}),
        }  # fmt: skip
        return client.follow("POST", "/v1/checks", request, lambda p: screen.status("  " + str(p.get("text", ""))))


def _disk_line(disk: Json) -> str:
    made = f"{size(disk['size'])}, kernel {disk['kernel']}" if disk["created"] else "nothing new"
    return f"disk  {short_digest(disk['disk'])}   {made}   {span(int(disk['seconds'] * 1_000_000))}"


def _image_line(result: Json) -> str:
    layers = result.get("layers", [])
    made = [layer for layer in layers if not layer["cached"]]
    new = ", ".join(f"{layer['name']} {size(layer['size'])}" for layer in made) or "nothing new"
    cached = f"{len(layers) - len(made)} of {len(layers)} layers cached"
    return f"image {short_digest(result['image'])}   {new}, {cached}   {span(int(result['seconds'] * 1_000_000))}"
