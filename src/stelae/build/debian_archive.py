"""Ask a Debian archive: which packages a base is made of now, and for the file of a package of a known version.

The answer comes from apt, which checks the archive's signature and every digest; mmdebstrap says which archives and
keys belong to a suite, and makes apt a place of its own. Nothing is installed here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

from stelae.build import debs
from stelae.build.config import FILE_TIME
from stelae.build.inputs import Inputs
from stelae.domain.digest import hex_of
from stelae.domain.errors import Failed, InvalidInput, StelaeError, Unreachable
from stelae.domain.inputs import Input, InputKind

MIRROR_VARIABLE = "STELAE_DEBIAN_MIRROR"
"""The environment variable that names another archive than mmdebstrap's own for the suite."""

SECONDS = 1800

_PASSED = ("http_proxy", "https_proxy", "no_proxy", "APT_CONFIG")
_DATE = re.compile(r"^Date: (.+)$", re.MULTILINE)
_LINES = 20
_NOISE = re.compile(r"I: |W: Download is performed unsandboxed|E: command failed|E: mmdebstrap failed")

# mmdebstrap runs it when apt is configured and nothing is downloaded. $2: where what is downloaded goes, $3: a
# source of packages that are preferred, $4: what apt-get is to do; then its words.
_HOOK = r"""set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
root=$1 out=$2 kept=$3 verb=$4; shift 4
if [ -n "$kept" ]; then
  echo "deb [trusted=yes] $kept ./" >"$root/etc/apt/sources.list.d/kept.list"
  printf 'Package: *\nPin: origin ""\nPin-Priority: 1001\n' >"$root/etc/apt/preferences.d/kept"
fi
cd "$out"
apt-get update --error-on=any -qq
# It takes the place of usrmerge where the archive has it, which would bring all of Perl.
if [ "$verb" = install ] && apt-cache show --no-all-versions usr-is-merged >/dev/null 2>&1; then
  set -- usr-is-merged "$@"
fi
mkdir "$root/fetched" "$root/fetched/partial"
cd "$root/fetched"
set -- -o APT::Install-Recommends=false -o Dir::Cache::archives="$root/fetched" "$verb" "$@"
apt-get -qq --yes --download-only "$@"
find "$root/fetched" -maxdepth 1 -name '*.deb' -exec mv -t "$out" {} +
for list in "$root"/var/lib/apt/lists/*Release; do
  case $list in *_kept_*) ;; *) grep -m1 '^Date: ' "$list" >>"$out/dates" ;; esac
done
"""


class GoneError(Failed):
    """The archive has a version no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a base is made of, sorted, and the date of the archive that says so (ISO 8601, UTC)."""

    debs: tuple[Input, ...]
    archive: str


def resolve(
    suite: str, packages: Sequence[str], kept: Mapping[Input, Path], inputs: Inputs, work: Path,
    progress: Callable[[str], None],
) -> Offer:  # fmt: skip
    """Ask the archive of *suite* what its essential packages and *packages* come to, and keep the files.

    *kept* are packages that are preferred to what the archive has, and their files, all in one folder.
    Raises InvalidInput when the archive has no such suite or package, Unreachable when it does not answer, Failed
    otherwise.
    """
    progress(f"base: asking the archive of {suite}")
    out = _ask(suite, work, _index(kept), "install", ("?essential", *packages))
    found = [_kept(inputs, path) for path in sorted(out.glob("*.deb"))]
    return Offer(debs=tuple(sorted(found)), archive=_newest((out / "dates").read_text()))


def fetch(
    suite: str, missing: Sequence[Input], inputs: Inputs, work: Path, progress: Callable[[str], None]
) -> None:  # fmt: skip
    """Bring the packages *missing* into the store of inputs. Raises as ``resolve``, GoneError when the archive has
    one of them no more, InvalidInput when its bytes are others."""
    progress(f"base: fetching {len(missing)} package{'s' * (len(missing) > 1)} of {suite}")
    words = [f"{item.name}:{item.architecture}={item.version}" for item in missing if item.architecture != "all"]
    words += [f"{item.name}={item.version}" for item in missing if item.architecture == "all"]
    out = _ask(suite, work, "", "download", words)
    paths = {(deb.name, deb.version): deb.path for deb in map(debs.read, sorted(out.glob("*.deb")))}
    for item in missing:
        if (item.name, item.version) not in paths:
            raise Failed(f"the archive gave no {item.name} {item.version}")
        inputs.get(item, lambda item=item: paths[item.name, item.version])  # type: ignore[misc]


def _kept(inputs: Inputs, path: Path) -> Input:
    deb = debs.read(path)
    return Input(
        kind=InputKind.DEB, name=deb.name, version=deb.version, architecture=deb.architecture,
        digest=inputs.keep(path),
    )  # fmt: skip


def _index(kept: Mapping[Input, Path]) -> str:
    """Write the list by which apt finds *kept* and return where it is, as apt wants it ("" when there are none).

    Source: Debian's repository format, "Packages" indices.
    """
    if not kept:
        return ""
    paragraphs = [
        f"{debs.control(path).strip()}\nFilename: ./{path.name}\nSize: {path.stat().st_size}\n"
        f"SHA256: {hex_of(item.digest)}\n"
        for item, path in kept.items()
    ]
    folder = next(iter(kept.values())).parent
    (folder / "Packages").write_text("\n".join(paragraphs))
    return f"copy:{quote(str(folder))}"


def _newest(dates: str) -> str:
    found = [parsedate_to_datetime(text) for text in _DATE.findall(dates)]
    if not found:
        raise Failed("the archive does not say of which date it is")
    return max(found).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(archive: str, other: str) -> int:
    """Return how many days lie between the dates of two archives, as ``Offer.archive`` has them."""
    first, second = (datetime.fromisoformat(text) for text in (archive, other))
    return (second - first).days


def _ask(suite: str, work: Path, kept: str, verb: str, words: Sequence[str]) -> Path:
    """Run the hook and return the folder that holds what it brought."""
    out = work / f"apt-{verb}"
    out.mkdir()
    hook = work / f"apt-{verb}.sh"
    hook.write_text(_HOOK)
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    line = 'set -f; sh "$STELAE_HOOK" "$1" "$STELAE_OUT" "$STELAE_KEPT" $STELAE_WORDS'
    argv = [
        "timeout", "--kill-after=30", str(SECONDS), "sh", "-c", 'umask 022; exec "$@"', "sh",
        "mmdebstrap", "--mode=root", "--variant=custom", "--format=null", '--aptopt=Acquire::Languages "none"',
        f"--setup-hook={line}", suite, "/dev/null", *([mirror] if mirror else []),
    ]  # fmt: skip
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "TZ": "UTC",
        "TMPDIR": str(work), "SOURCE_DATE_EPOCH": str(FILE_TIME), "DEBIAN_FRONTEND": "noninteractive",
        "STELAE_HOOK": str(hook), "STELAE_OUT": str(out), "STELAE_KEPT": kept,
        "STELAE_WORDS": " ".join([verb, *words]),
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
    }  # fmt: skip
    done = subprocess.run(
        argv, env=environment, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
        raise _error(suite, done.returncode, lines)
    return out


def _error(suite: str, status: int, lines: list[str]) -> StelaeError:
    text, details = "\n".join(lines), tuple([line for line in lines if not _NOISE.match(line)][-_LINES:])
    if "No space left on device" in text:
        return Failed("the disk is full", hint="stelae gc frees space; then build again")
    gone = re.search(r"Version '([^']+)' for '([^']+)' was not found", text)
    if gone:
        return GoneError(
            f"the archive has {gone[2]} {gone[1]} no more, and it is not in the store of inputs", details=details,
            hint="stelae lock --upgrade takes what the archive has now",
        )  # fmt: skip
    missing = re.search(r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate", text)
    if missing:
        name = missing[1] or missing[2]
        return InvalidInput(f"{suite} has no package called {name}", where="image.packages", details=details)
    if "unmet dependencies" in text:
        return Failed(
            "the packages do not fit together", details=details,
            hint="what is locked may be too old for what was added: stelae lock --upgrade",
        )  # fmt: skip
    if re.search(
        r"Could not (resolve|connect)|Temporary failure|Failed to fetch|Connection (timed out|refused)", text
    ):
        return Unreachable(
            "the Debian archive does not answer", details=details,
            hint=f"check the network, or name another archive in {MIRROR_VARIABLE}",
        )  # fmt: skip
    if "does not have a Release file" in text:  # and nothing was unreachable, of which apt says it, too
        return InvalidInput(f"the archive has no suite called {suite}", where="image.base", details=details)
    if status == 127:
        return Unreachable("mmdebstrap is not installed", hint="stelae doctor says what is missing")
    if status == 124:
        return Failed(f"mmdebstrap did not end within {SECONDS // 60} min", details=details)
    return Failed(f"mmdebstrap ended with status {status}", details=details)
