"""The image of a Dockerfile: what buildah makes of it, brought into one form.

The layers of the last FROM stay as they are. What the Dockerfile changes over them is one layer, written by our own
writer, so that order, times and the forms of tar play no part: steps that give the same files give the same digest.
What is in folders that are memory when the image runs, logs and caches, and what names the moment or the machine, is
left out (``_VOLATILE``).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stelae.build import buildah, dockerfile, dockerignore
from stelae.build.base import make_base
from stelae.build.base_image import parse_reference, restored
from stelae.build.bench import Bench
from stelae.build.cache import Made
from stelae.build.config import FILE_TIME, LayerFile, architecture
from stelae.build.files_layer import chosen, files_tree
from stelae.build.inputs import plain, told
from stelae.build.lock import AGAIN, StageLock
from stelae.build.mirror import Entry, check_path
from stelae.build.sandbox import ENVIRONMENT, Rules, lay_out
from stelae.build.source import Source
from stelae.build.spool import Spool
from stelae.build.wish import Wish
from stelae.domain.digest import Digest, digest_of
from stelae.domain.errors import InvalidInput
from stelae.domain.inputs import Input, InputKind
from stelae.domain.recipe import Recipe, Steps
from stelae.images import content
from stelae.images.layer_tar import read_layer
from stelae.images.layout import Layout
from stelae.images.registry import resolve
from stelae.images.tree import Kind, Tree

_WHERE = "image.dockerfile"
# What makes programs that are asked to give the same bytes each time.
_ARGUMENTS = {name: ENVIRONMENT[name] for name in ("SOURCE_DATE_EPOCH", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE")}
_VOLATILE = re.compile(
    rb"(dev|proc|run|sys|tmp|var/tmp|var/cache/(apt|ldconfig)|var/lib/apt/lists|var/log/apt)/.*"
    rb"|etc/(hostname|hosts|resolv\.conf|machine-id|\.pwd\.lock|(passwd|group|shadow|gshadow|subuid|subgid)-)"
    rb"|var/log/(alternatives|bootstrap|dpkg)\.log|var/lib/dbus/machine-id"
    rb"|var/lib/dpkg/(lock|lock-frontend|(status|available|diversions|statoverride)-old|triggers/Lock)",
    re.DOTALL,
)


def make_bases(bench: Bench, source: Source, locked: StageLock | None, wish: Wish) -> Made:
    """Return the images that the Dockerfile of *source* names, as facts: ``images`` (the layers of each) and
    ``inputs``. Tags are what the lock says; a new lock asks the registry.

    Raises InvalidInput for a tag without a lock, and what ``make_base`` raises.
    """
    found: dict[str, Made] = {}
    text = _dockerfile(source)
    names = dockerfile.images(text, source.spec.recipe.dockerfile)
    for name in dict.fromkeys(names.values()):
        found[name] = _base(bench, name, locked, wish)
    extra = {item.name for item in locked.of(InputKind.IMAGE)} - set(found) if locked and wish is Wish.LOCKED else ()
    for name in sorted(extra):
        raise InvalidInput(f"stelae.lock is stale: {name} is locked, and not used any more", hint=AGAIN)
    return Made(
        facts={
            "inputs": plain(item for made in found.values() for item in told(made.facts)),
            "images": {name: [[layer.digest, layer.size] for layer in made.layers] for name, made in found.items()},
        },
        cached=all(made.cached for made in found.values()),
    )


def make_dockerfile(bench: Bench, source: Source, bases: Made) -> Made:
    """Return the layers of the Dockerfile of *source*, whose images are *bases*; facts: what it says of processes
    (``env``, ``command``, ``user``, ``workdir``). Raises what ``buildah.build`` raises."""
    recipe, text = source.spec.recipe, _dockerfile(source)
    kept = _context(bench, source)
    key: dict[str, Any] = {
        "dockerfile": digest_of(text), "images": bases.facts["images"], "inputs": bases.facts["inputs"],
        "context": [[entry.path.decode("utf-8", "surrogateescape"), entry.mode, entry.blob] for entry in kept],
        "network": recipe.network, "secrets": list(recipe.secrets), "architecture": architecture(),
        "buildah": buildah.version(), "time": FILE_TIME, "arguments": _ARGUMENTS,
        "volatile": _VOLATILE.pattern.decode(),
    }  # fmt: skip
    return bench.cache.once("dockerfile", key, lambda: _built(bench, source, text, kept, bases))


def _built(bench: Bench, source: Source, text: bytes, kept: Sequence[Entry], bases: Made) -> Made:
    recipe, place = source.spec.recipe, bench.work / "dockerfile"
    place.mkdir()
    tree = files_tree(kept, source.reader, b"", Tree(), Spool(bench.work / "context.spool"))
    dated = Tree(tree.limits)
    for path, node in tree.items():
        dated.add(path, replace(node, mtime=FILE_TIME))
    lay_out(dated, place / buildah.CONTEXT)
    (place / buildah.DOCKERFILE).write_bytes(dockerfile.with_arguments(text, _ARGUMENTS))
    folders = {
        item.name: _laid_out(bench, item, place / buildah.BASES / str(number))
        for number, item in enumerate(told(bases.facts))
    }
    images = {word: folders[name] for word, name in dockerfile.images(text, recipe.dockerfile).items()}
    rules = Rules(
        limits=recipe.limits, group=bench.group, names=recipe.secrets, secrets=bench.secrets, where=recipe.dockerfile
    )  # fmt: skip
    bench.progress(f"dockerfile: {recipe.dockerfile}, {len(kept)} files")
    order = buildah.Order(images=images, rules=rules, network=recipe.network)
    layout = Layout(buildah.build(order, place, bench.progress))
    made = _normal(bench, recipe, layout, bases)
    shutil.rmtree(place)
    return made


def _normal(bench: Bench, recipe: Recipe, layout: Layout, bases: Made) -> Made:
    (image,) = layout.images()
    layers = layout.layers(image.digest)
    below = _below(layers, bases)
    lower = bench.roots.tree(below)
    upper = lower
    for digest in layers[len(below) :]:
        upper = upper.merge(read_layer(layout.blob_path(digest), skip_devices=True))
    changed = _steady(Tree.diff(lower, upper))
    bench.secrets.refuse(changed, recipe.dockerfile)
    config = layout.config(image.digest).get("config", {})
    command = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    return Made(
        layers=(*below, *bench.written(changed)),
        facts={
            "env": config.get("Env") or [], "command": command,
            "user": list(_user(config.get("User") or "", upper, recipe.dockerfile)),
            "workdir": config.get("WorkingDir") or "/",
        },
    )  # fmt: skip


def _below(layers: Sequence[Digest], bases: Made) -> list[LayerFile]:
    """Return the layers of that image, of *bases*, which *layers* begin with."""
    found: list[LayerFile] = []
    for items in bases.facts["images"].values():
        base = [LayerFile(digest=Digest(digest), size=size) for digest, size in items]
        if [layer.digest for layer in base] == list(layers[: len(base)]) and len(base) > len(found):
            found = base
    return found


def _steady(changed: Tree) -> Tree:
    """Return *changed* without what is volatile."""
    result = Tree(changed.limits)
    # Hard links come after the files that they name.
    for path, node in sorted(changed.items(), key=lambda item: (item[1].kind is Kind.LINK, item[0])):
        if not _VOLATILE.fullmatch(path):
            lost = node.kind is Kind.LINK and node.target not in result
            result.add(path, changed.resolve(path) if lost else node)
    return result


def _user(text: str, tree: Tree, where: str) -> tuple[int, int]:
    """Return the numbers of the user *text* (``NAME|UID[:GROUP|GID]``) in the image *tree*; raises InvalidInput."""
    name, _, group = text.partition(":")
    name = name or "0"
    uid, gid = (int(name), 0) if name.isdecimal() else (-1, 0)
    for fields in _fields(tree, b"etc/passwd"):
        if len(fields) >= 4 and name in (fields[0], fields[2]) and fields[2].isdecimal() and fields[3].isdecimal():
            uid, gid = int(fields[2]), int(fields[3])
            break
    if group:
        named = {fields[0]: fields[2] for fields in _fields(tree, b"etc/group") if len(fields) >= 3}
        number = group if group.isdecimal() else named.get(group, "")
        gid = int(number) if number.isdecimal() else -1
    if min(uid, gid) < 0:
        raise InvalidInput(f"USER {text}: the image has no such user or group", where=where)
    return uid, gid


def _fields(tree: Tree, path: bytes) -> list[list[str]]:
    if path not in tree or tree.resolve(path).kind is not Kind.FILE:
        return []
    text = content.read(tree.resolve(path).content).decode("utf-8", "replace")
    return [line.split(":") for line in text.splitlines()]


def _laid_out(bench: Bench, item: Input, folder: Path) -> Path:
    """Make *folder* a layout of an image that buildah can read: the store of inputs is not for its eyes."""
    if not restored(bench.inputs, item.digest, folder):
        raise InvalidInput(f"the store of inputs has not all of {item.name}", hint="build it once as a base")
    for blob in (folder / "blobs" / "sha256").iterdir():
        target = blob.resolve()
        blob.unlink()
        try:
            os.link(target, blob)
        except OSError:  # another file system
            shutil.copy(target, blob)
    for path in (folder.parent, folder, folder / "blobs", folder / "blobs" / "sha256"):
        path.chmod(0o755)
    for path in (folder / "index.json", folder / "oci-layout"):
        path.chmod(0o644)
    return folder


def _base(bench: Bench, name: str, locked: StageLock | None, wish: Wish) -> Made:
    """Return the image *name* as a base, as an input of that name."""
    held = None
    if locked is not None and wish is not Wish.NEWEST:
        held = next((item for item in locked.of(InputKind.IMAGE) if item.name == name), None)
    base, plain_name, tag = _named(name)
    if "@" not in base and not base.startswith("/"):
        digest = held.digest if held is not None else _asked(bench, base, name, wish)
        base = f"{base}@{digest}"
    mine = None
    if held is not None and wish is Wish.LOCKED:
        mine = StageLock(base="", inputs=(replace(held, name=plain_name, version=tag),))
    steps = Steps(base=f"oci:{base}")
    made = make_base(bench.cache, steps, bench.inputs, mine, bench.work, bench.progress, wish=wish)
    named = [replace(item, name=name, version=tag) for item in told(made.facts)]
    return replace(made, facts={**made.facts, "inputs": plain(named)})


def _named(name: str) -> tuple[str, str, str]:
    """Return what *name* is called as a base, and the name and version of the input that it then is."""
    path = name.removeprefix("oci:")
    if name.startswith("oci:/"):
        plain_name, _, tag = path.partition(":")
        return path, plain_name, tag or "-"
    if "@" in name:
        found = parse_reference(name)
        return name, found.name, found.tag or "-"
    plain_name, tag = name, "latest"
    if ":" in name.rpartition("/")[2]:
        plain_name, _, tag = name.rpartition(":")
    return f"{plain_name}:{tag}", plain_name, tag


def _asked(bench: Bench, base: str, name: str, wish: Wish) -> Digest:
    if wish is Wish.LOCKED:
        raise InvalidInput(
            f"FROM {name} names no digest, and stelae.lock has none for it", where=_WHERE,
            hint="run stelae lock and commit stelae.lock, or write FROM NAME@sha256:DIGEST",
        )  # fmt: skip
    bench.inputs.demand(f"what {name} is now")
    return resolve(base, where=_WHERE)


def _context(bench: Bench, source: Source) -> list[Entry]:
    """Return the files of the commit that the Dockerfile may see."""
    entries = chosen(bench.mirror.export(source.repository, source.tree), None, ())
    names = (f"{source.spec.recipe.dockerfile}.dockerignore", *dockerignore.NAMES)
    known = {entry.path: entry for entry in entries}
    for name in names:
        entry = known.get(name.encode())
        if entry is None:
            continue
        found = source.reader.get(entry.blob)
        try:
            ignored = dockerignore.ignoring(found.data.decode() if found is not None else "")
        except ValueError as error:
            raise InvalidInput(str(error), where=name) from error
        return [item for item in entries if not ignored(item.path)]
    return entries


def _dockerfile(source: Source) -> bytes:
    path = source.spec.recipe.dockerfile
    item = source.reader.get(f"{source.tree}:{check_path(path)}")
    if item is None or item.kind != "blob":
        raise InvalidInput(f"the commit has no file {path}", where=_WHERE)
    return item.data
