"""Take in each image of the corpus in a process of its own, and say what became of it and what memory it took."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from stelae.domain.errors import StelaeError
from stelae.images.layer_tar import read_layer
from stelae.images.layout import Layout
from stelae.images.materialise import materialise


def main(corpus: Path, work: Path) -> None:
    """Import every image below *corpus*, lay out the layers of those that come in, and print one line each."""
    layout = Layout.open(work / "store")
    for source in sorted(corpus.iterdir()):
        try:
            digest = layout.import_archive(source)
            for number, layer in enumerate(layout.layers(digest)):
                tree = read_layer(layout.blob_path(layer))
                place = work / "out" / f"{source.name}-{number}"
                place.mkdir(parents=True)
                root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
                materialise(tree, root)
                os.close(root)
            said = {"refused": False}
        except StelaeError as error:
            said = {"refused": True, "message": error.message, "where": error.where, "kind": type(error).__name__}
        # getrusage would tell what our parent had when it made us.
        status = Path("/proc/self/status").read_text()
        own = int(status.partition("VmHWM:")[2].split()[0]) // 1024
        others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        print(json.dumps({"name": source.name, "own": own, "others": others, **said}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
