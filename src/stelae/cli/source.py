"""From a commit in this folder to an image: send what the controller lacks, then have it built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stelae.build import client_git
from stelae.cli.interrupted import goes_on
from stelae.cli.screen import Screen
from stelae.cli.words import short_commit, short_digest, size, span
from stelae.controller.client import Client, Json

_ASK_AT_ONCE = 10_000


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
    ids = client_git.objects(source)
    missing: list[str] = []
    for start in range(0, len(ids), _ASK_AT_ONCE):
        question = {"repository": source.repository, "objects": ids[start : start + _ASK_AT_ONCE]}
        missing += client.post("/v1/sources/missing", question)["missing"]
    if not missing:
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="stelae-pack-") as folder:
        pack = Path(folder) / "pack"
        client_git.write_pack(source, missing, pack)
        client.upload("/v1/sources", pack, repository=source.repository)


def build(
    client: Client, screen: Screen, folder: Path, ref: str, *, dirty: bool, offline: bool = False,
    secrets: Mapping[str, str] | None = None,
) -> Json:  # fmt: skip
    """Build the source at *ref*, with *secrets* by name in base64, and return the controller's answer with
    ``commit`` and ``subject``. With *offline* the controller fetches nothing."""
    with checkout(folder, ref, dirty=dirty) as source, goes_on("the build was stopped and nothing was deployed"):
        screen.line(f'  building {short_commit(source.commit)} "{source.subject}"')
        send(client, source)
        request = {
            "repository": source.repository, "commit": source.commit, "path": source.path,
            "subject": source.subject[:1000], "versioned": source.versioned,
            **({"offline": True} if offline else {}),
            **({"secrets": dict(secrets)} if secrets else {}),
        }  # fmt: skip
        result = client.follow("POST", "/v1/builds", request, lambda p: screen.status("  " + str(p.get("text", ""))))
        screen.line(f"  {_image_line(result)}")
        if not result["locked"]:
            screen.line("  nothing is locked: the next build elsewhere may take newer packages; see stelae lock")
        return {**result, "commit": source.commit, "subject": source.subject, "versioned": source.versioned}


def build_here(
    client: Client, screen: Screen, ref: str = "", *, dirty: bool = False, offline: bool = False,
    secrets: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Build the source in the working folder at *ref* (HEAD by default), and show the image."""
    result = build(client, screen, Path.cwd(), ref or "HEAD", dirty=dirty, offline=offline, secrets=secrets)
    screen.line(str(result["image"]))
    screen.result(result)


def build_twice(
    client: Client, screen: Screen, folder: Path, ref: str, *, dirty: bool, offline: bool, secrets: Mapping[str, str]
) -> Json:
    """Have the source at *ref* built twice in clean places, and return how the results differ."""
    with checkout(folder, ref, dirty=dirty) as source, goes_on("nothing was changed"):
        screen.line(f'  building {short_commit(source.commit)} "{source.subject}" twice')
        send(client, source)
        request = {
            "repository": source.repository, "commit": source.commit, "path": source.path, "offline": offline,
            "secrets": dict(secrets),
        }  # fmt: skip
        return client.follow("POST", "/v1/checks", request, lambda p: screen.status("  " + str(p.get("text", ""))))


def _image_line(result: Json) -> str:
    layers = result.get("layers", [])
    made = [layer for layer in layers if not layer["cached"]]
    new = ", ".join(f"{layer['name']} {size(layer['size'])}" for layer in made) or "nothing new"
    cached = f"{len(layers) - len(made)} of {len(layers)} layers cached"
    return f"image {short_digest(result['image'])}   {new}, {cached}   {span(int(result['seconds'] * 1_000_000))}"
