"""A mirror, a store and a builder in a folder, to build what a test repository holds."""

from __future__ import annotations

from pathlib import Path

from stelae.build import client_git
from stelae.build.builder import Builder, BuildRequest, BuildResult
from stelae.build.mirror import Mirror
from stelae.domain.digest import Digest
from stelae.images.layer_tar import read_layer
from stelae.images.layout import Layout
from stelae.images.tree import Tree

from .repository import Repository

SPEC = """
[app]
name = "shop"

[image]
base = "{base}"
{image}

[process.web]
command = ["/app/serve"]
port = 8000
{process}

[env.testing]
processes = {{ web = 1 }}
"""


def spec(image: str = "", *, base: str = "scratch", process: str = "") -> str:
    """Return the text of a stelae.toml."""
    return SPEC.format(base=base, image=image, process=process)


class Workshop:
    """Builds from repositories; ``lines`` are what the last build said."""

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.mirror = Mirror(folder / "sources")
        self.layout = Layout.open(folder / "images")
        self.cache = cache or folder / "cache"
        self.builder = Builder(self.layout, self.mirror, self.cache, folder / "inputs")
        self.lines: list[str] = []

    def send(self, repository: Repository, path: str = "") -> BuildRequest:
        """Send the repository's commit, as the command line does."""
        checkout = client_git.describe(repository.folder / path)
        needed = self.mirror.missing(checkout.repository, checkout.objects())
        if needed:
            with client_git.Pack(checkout, needed) as pack:
                self.mirror.receive(checkout.repository, pack)
        return BuildRequest(repository=checkout.repository, commit=checkout.commit, path=checkout.path)

    def build(self, repository: Repository, path: str = "") -> BuildResult:
        """Send and build."""
        self.lines = []
        return self.builder.build(self.send(repository, path), self.lines.append)

    def tree(self, digest: Digest) -> Tree:
        """Return all that the image holds."""
        result = Tree()
        for layer in self.layout.layers(digest):
            result = result.merge(read_layer(self.layout.blob_path(layer)))
        return result

    def leftovers(self) -> list[str]:
        """Return what a build left in the work folder and unfinished in the store."""
        work = [path.name for path in (self.cache / "work").glob("*")]
        return work + [path.name for path in (self.layout.folder / "blobs" / "sha256").glob(".*")]
