"""Archives of images as an enemy would make them: each kind by name, made into an empty folder.

``LAYERS`` are tars of one layer, wrapped in an image that is otherwise right; ``IMAGES`` are images that are wrong
themselves. Each of ``REFUSED`` must end in a typed error, the others are harmless and may come in.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stelae.images.decompress import zstd
from stelae.images.layout import CONFIG, INDEX, LAYER, MANIFEST

F, D, S, L = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = F, link: str = "", data: bytes = b"evil", mode: int = 0o755, **pax: str) -> Entry:
    """Return one entry of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.pax_headers = {name.replace("__", "."): value for name, value in pax.items()}
    info.size = len(data) if kind == F else 0
    return info, data


def tar(entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of *entries*, whatever they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return out.getvalue()


def _million() -> bytes:
    # The checksum of a header is the sum of its bytes: only the digits of the name differ.
    head = bytearray(entry("0000000", data=b"")[0].tobuf(tarfile.USTAR_FORMAT))
    total = int(bytes(head[148:154]), 8)
    rest = bytes(head[7:148]), bytes(head[154:])
    digits = (b"%07d" % number for number in range(1_000_000))
    blocks = (name + rest[0] + b"%06o" % (total + sum(name) - 7 * 48) + rest[1] for name in digits)
    return b"".join(blocks) + bytes(1024)


def _long_names() -> bytes:
    folder = "/".join(["n" * 250] * 8)
    return tar([entry(f"{folder}/{n:05d}", data=b"") for n in range(40_000)], tarfile.GNU_FORMAT)


def _header(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(tar([entry("victim", data=b"x" * 600)], tarfile.USTAR_FORMAT))
    change(data)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def _put(at: int, value: bytes) -> Callable[[bytearray], None]:
    return lambda data: data.__setitem__(slice(at, at + len(value)), value)


def layers(outside: Path) -> dict[str, tuple[bytes, bool]]:
    """Return the layers: name to the tar and whether it must be refused; *outside* is what nothing may reach."""
    away = str(outside)
    up = "../" * 30 + away.lstrip("/")
    refused = {
        "path-traversal": tar([entry(up + "/evil")]),
        "path-traversal-inside": tar([entry("a", D), entry("a/../../evil")]),
        "path-absolute": tar([entry(away + "/evil")]),
        "path-double-slash": tar([entry("//evil")]),
        "path-empty-part": tar([entry("a//b")]),
        "path-dot-part": tar([entry("a/./b")]),
        "path-is-the-root": tar([entry(".")]),
        "path-in-pax-header": tar([entry("fine", path=up + "/evil")]),
        "path-with-nul": tar([entry("fine", path="ev\0il")]),
        "path-too-long": tar([entry("d/" * 2100 + "x")]),
        "name-too-long": tar([entry("x" * 256)]),
        "symlink-then-through-it": tar([entry("way", S, away), entry("way/evil")]),
        "symlink-relative-then-through-it": tar([entry("way", S, up), entry("way/evil")]),
        "symlink-over-a-folder": tar([entry("way", D), entry("way/a"), entry("way", S, away)]),
        "symlink-to-nothing": tar([entry("way", S, "")]),
        "symlink-endless": tar([entry("way", S, "x" * 5000)]),
        "hardlink-absolute": tar([entry("way", L, away + "/secret")]),
        "hardlink-traversal": tar([entry("way", L, up + "/secret")]),
        "hardlink-to-a-symlink": tar([entry("a", S, away + "/secret"), entry("b", L, "a")]),
        "hardlink-to-a-folder": tar([entry("a", D), entry("b", L, "a")]),
        "hardlink-to-itself": tar([entry("a", L, "a")]),
        "hardlink-forwards": tar([entry("a", L, "b"), entry("b")]),
        "device-character": tar([entry("null", tarfile.CHRTYPE)]),
        "device-block": tar([entry("disk", tarfile.BLKTYPE)]),
        "fifo": tar([entry("pipe", tarfile.FIFOTYPE)]),
        "type-unknown": tar([entry("odd", b"Z")]),
        "twice": tar([entry("a"), entry("a")]),
        "twice-in-disguise": tar([entry("a"), entry("./a")]),
        "file-becomes-folder": tar([entry("a"), entry("a/b")]),
        "folder-becomes-file": tar([entry("a", D), entry("a/b"), entry("a")]),
        "sparse-gnu": tar([entry("s", tarfile.GNUTYPE_SPARSE)]),
        "sparse-pax-huge": tar([entry("s", GNU__sparse__major="1", GNU__sparse__realsize="9" * 15)]),
        "size-beyond-the-file": _header(_put(124, b"77777777777\0")),
        "size-negative": _header(_put(124, b"\xff" * 11 + b"\xfb")),
        "size-not-a-number": tar([entry("a", size="9" * 40)]),
        "owner-negative": _header(_put(108, b"\xff" * 7 + b"\xfb")),
        "owner-too-large": tar([entry("a", uid="4294967295")]),
        "header-endless": tar([entry("a", comment="v" * 1_000_000)]),
        "attributes-endless": tar([entry("a", SCHILY__xattr__user__x="v" * 70_000)]),
        "header-broken": _header(_put(0, b"x"))[:300],
        "cut-off": tar([entry("a", data=b"x" * 4000)])[:2000],
        "not-a-tar": b"#!/bin/sh\n" * 100,
        "whiteout-of-the-root": tar([entry(".wh..wh..opq", data=b"")]),
        "whiteout-upwards": tar([entry("a/.wh...", data=b"")]),
        "whiteout-of-nothing": tar([entry(".wh.", data=b"")]),
        "whiteout-of-a-whiteout": tar([entry("a/.wh..wh.plnk", data=b"")]),
        "whiteout-as-a-symlink": tar([entry(".wh.a", S, away)]),
        "whiteout-as-a-folder": tar([entry("a/.wh.b/c")]),
        "million-files": _million(),
        "long-names": _long_names(),
    }
    harmless = {
        "setuid": tar([entry("su", mode=0o6755)]),
        "symlink-out": tar([entry("way", S, away)]),
        "symlink-loop": tar([entry("a", S, "b"), entry("b", S, "a")]),
        "names-not-utf8": tar([entry(b"caf\xe9".decode("utf-8", "surrogateescape")), entry("caf\u00e9")]),
        "names-of-the-shell": tar([entry("$(touch evil)"), entry("-rf"), entry("a\nb"), entry("\x1b[31m")]),
        "names-that-differ-by-case": tar([entry("README"), entry("readme")]),
        "attributes-of-the-overlay": tar([entry("d", D, SCHILY__xattr__trusted__overlay__redirect=away)]),
        "attributes-of-the-host": tar([entry("a", SCHILY__xattr__security__selinux="root")]),
        "times-odd": tar([entry("a", mtime="-5.5", atime="9" * 18)]),
    }
    return {
        **{name: (data, True) for name, data in refused.items()},
        **{name: (data, False) for name, data in harmless.items()},
    }


def blob(folder: Path, data: bytes) -> dict[str, Any]:
    """Store *data* in the layout at *folder* and return what names it."""
    name = hashlib.sha256(data).hexdigest()
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(data)
    return {"digest": f"sha256:{name}", "size": len(data)}


def image(
    folder: Path, layer: bytes, *, stored: bytes | None = None, kind: str = LAYER, count: int = 1,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:  # fmt: skip
    """Write an OCI layout with one image of *layer*, which is stored as *stored*; *change* may alter its manifest."""
    diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id] * count},
        "history": [{"created_by": "evil"}] * count,
    }  # fmt: skip
    manifest: dict[str, Any] = {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, **blob(folder, json.dumps(config).encode())},
        "layers": [{"mediaType": kind, **blob(folder, layer if stored is None else stored)}] * count,
    }  # fmt: skip
    change(manifest)
    named = {"mediaType": MANIFEST, **blob(folder, json.dumps(manifest).encode())}
    _index(folder, [named])


def _index(folder: Path, named: list[dict[str, Any]], text: bytes | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": named}
    (folder / "index.json").write_bytes(text if text is not None else json.dumps(document).encode())


def _alter(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        target: Any = manifest
        *way, last = path.split(".")
        for part in way:
            target = target[int(part)] if isinstance(target, list) else target[part]
        target[last] = value

    return change


def images(folder: Path, outside: Path) -> dict[str, Path]:
    """Write the images that are wrong themselves below *folder*; all must be refused."""
    good = tar([entry("a")])
    made: dict[str, Path] = {}

    def new(name: str, **how: Any) -> None:
        made[name] = folder / name
        image(folder / name, good, **how)

    new("manifest-names-a-path", change=_alter("layers.0.digest", f"sha256:../../../{outside}/secret"))
    new("manifest-names-a-missing-layer", change=_alter("layers.0.digest", "sha256:" + "0" * 64))
    new("manifest-with-a-wrong-size", change=_alter("layers.0.size", 5))
    new("manifest-with-a-negative-size", change=_alter("layers.0.size", -5))
    new("manifest-with-no-layers-list", change=_alter("layers", {"a": 1}))
    new("config-is-the-layer", change=lambda m: m.update(config=m["layers"][0]))
    new("config-with-other-layers", stored=tar([entry("b")]))
    new("layer-with-another-content", stored=gzip.compress(tar([entry("b")])), kind=LAYER + "+gzip")
    new("layers-without-end", count=20_000)
    new("gzip-cut-off", stored=gzip.compress(good)[:-9], kind=LAYER + "+gzip")
    new("gzip-with-a-tail", stored=gzip.compress(good) + b"tail", kind=LAYER + "+gzip")
    zeros = tar([entry("zeros", data=bytes(300_000_000))])
    made["bomb-gzip"] = folder / "bomb-gzip"
    image(made["bomb-gzip"], zeros, stored=gzip.compress(zeros, 6), kind=LAYER + "+gzip")
    made["bomb-zstd"] = folder / "bomb-zstd"
    image(made["bomb-zstd"], zeros, stored=zstd.compress(zeros), kind=LAYER + "+zstd")
    del zeros
    for name, text in {
        "index-not-json": b"{", "index-deep": b"[" * 200_000, "index-huge": b'{"a":"' + b"x" * 8_000_000 + b'"}',
        "index-of-numbers": b'{"schemaVersion":2,"manifests":[1,2]}', "index-empty": b'{"manifests":[]}',
    }.items():  # fmt: skip
        made[name] = folder / name
        _index(made[name], [], text)
    return made | _archives(folder, good, outside)


def _archives(folder: Path, good: bytes, outside: Path) -> dict[str, Path]:
    image(folder / "good", good)
    inside = [(path, path.relative_to(folder / "good")) for path in (folder / "good").rglob("*") if path.is_file()]
    files = [entry(str(name), data=path.read_bytes()) for path, name in inside]
    kinds = {
        "archive-with-traversal": [*files, entry("../" * 30 + str(outside).lstrip("/") + "/evil")],
        "archive-with-an-absolute-path": [*files, entry(f"{outside}/evil")],
        "archive-with-a-symlink": [entry("blobs", S, str(outside)), *files],
        "archive-with-a-hardlink": [*files, entry("link", L, f"{outside}/secret")],
        "archive-with-a-device": [*files, entry("null", tarfile.CHRTYPE)],
        "archive-with-too-much": [*files, *(entry(f"x{n}", data=b"") for n in range(20_000))],
        "archive-of-nothing": [],
    }
    made = {}
    for name, entries in kinds.items():
        made[name] = folder / f"{name}.tar"
        made[name].write_bytes(tar(entries))
    made["archive-compressed-bomb"] = folder / "bomb.tar"
    made["archive-compressed-bomb"].write_bytes(gzip.compress(bytes(100_000_000), 6))
    return made
