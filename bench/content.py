"""What is built by every tool alike: an example, a Dockerfile of the same content, and wheels on this machine."""

from __future__ import annotations

import base64
import hashlib
import http.server
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.real.machine import ROOT

BASE = "stelae-bench-base"
PIP_BASE = "stelae-bench-base-pip"
SOURCE, DEPENDENCY, NOTHING = "one source file changed", "one dependency changed", "nothing changed"

_INSTALL = (
    "python3 -m pip install --quiet --no-index --find-links {index} --require-hashes --no-deps --no-cache-dir"
    " --disable-pip-version-check --break-system-packages --root-user-action=ignore -r requirements.lock"
)
_MODULES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An example of the repository: the file of it whose version changes, whether it has dependencies, and the
    Dockerfile of the same image ("{index}" is where wheels are found)."""

    name: str
    file: str
    wheels: bool
    dockerfile: str

    @property
    def changes(self) -> tuple[str, ...]:
        """What can change in it."""
        return (SOURCE, DEPENDENCY, NOTHING) if self.wheels else (SOURCE, NOTHING)

    def copy(self, folder: Path) -> None:
        """Copy the example's files into *folder*, which is there."""
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "examples" / self.name, folder, ignore=skip, dirs_exist_ok=True)

    def change(self, folder: Path, what: str, wheels: Wheels, number: int) -> None:
        """Change *what* in the copy in *folder* to version *number*."""
        if what == SOURCE:
            path = folder / self.file
            path.write_text(
                re.sub(r'^VERSION = ".*"$', f'VERSION = "{number}"', path.read_text(), flags=re.MULTILINE)
            )
        elif what == DEPENDENCY:
            (folder / "requirements.lock").write_text(wheels.lock(number))


GUESTBOOK = Example(
    name="guestbook", file="app/version.py", wheels=True,
    dockerfile=f"""FROM {PIP_BASE}
WORKDIR /app
COPY requirements.lock .
RUN {_INSTALL}
COPY . .
RUN python3 -m compileall -q --invalidation-mode unchecked-hash app
CMD ["python3", "-m", "app"]
""",
)  # fmt: skip
SWIFT = Example(
    name="swift", file="swift/__main__.py", wheels=False,
    dockerfile=f'FROM {BASE}\nWORKDIR /app\nCOPY . .\nCMD ["python3", "-I", "-S", "swift"]\n',
)  # fmt: skip


class Wheels:
    """The wheels of the guestbook in *folder*, served at ``url``, and one more dependency in as many versions as are
    asked for."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._lock = (ROOT / "examples" / "guestbook" / "requirements.lock").read_text()
        self.url = url
        words = ["--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *words, "--dest", folder, "-r", "requirements.lock"],
            cwd=ROOT / "examples" / "guestbook", check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def lock(self, number: int) -> str:
        """Return the guestbook's lock with version *number* of the other dependency, whose wheel is made."""
        name, version = "stelae_bench_dependency", f"1.{number}"
        path = self._folder / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        code = f"VERSION = {number}\n" + "def same(x):\n    return x\n\n" * 50
        files = {f"{name}/part{part}.py": code for part in range(_MODULES)}
        files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        record = "".join(f"{file},sha256={_digest(text)},{len(text)}\n" for file, text in files.items())
        if not path.exists():
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
                for file, text in files.items():
                    wheel.writestr(file, text)
                wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return f"{self._lock}stelae-bench-dependency=={version} --hash=sha256:{digest}\n"


def _digest(text: str) -> str:
    """Return the digest of *text* in the form of RECORD (PEP 376)."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def wheels(folder: Path) -> Iterator[Wheels]:
    """Make *folder* and serve the wheels in it."""
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Wheels(folder, f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
