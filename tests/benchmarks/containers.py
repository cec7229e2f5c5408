"""Headers a second of the same images loose, in zip, tar, tar.gz and gz files, as shares of loose ones, taking turns.

    python tests/benchmarks/containers.py [--files 4000] [--rounds 3] [--side 384]

Containers hold 200 files each, as a study does. The images are noise over a smooth ground, which packs by about a half.
"""

import argparse
import gzip
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import dicoms  # noqa: E402
from modic.archive import containers  # noqa: E402
from modic.archive.cache import Cache  # noqa: E402
from modic.archive.containers import Containers  # noqa: E402
from modic.archive.crawl import crawl  # noqa: E402
from modic.archive.folder import FolderSource  # noqa: E402
from packed import Files, named, tarred, zipped  # noqa: E402

IN_ONE = 200
LOOSE = "loose"


def main() -> None:
    """Print one line a kind: the fastest of its rounds, all read and nothing changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=384)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kinds = write(images(options.side), options.files // IN_ONE, Path(folder))
        rounds = [
            {(kind, what): took for kind, path in kinds.items() for what, took in read(path, Path(folder)).items()}
            for _ in range(options.rounds)
        ]
    best = {key: min(one[key] for one in rounds) for key in rounds[0]}
    n = options.files // IN_ONE * IN_ONE
    for kind in kinds:
        shares = ", ".join(
            f"{what} {n / best[kind, what]:.0f}/s ({best[LOOSE, what] / best[kind, what]:.2f} of loose)"
            for what in ("all", "unchanged")
        )
        print(f"{kind}: {shares}")


def images(side: int) -> Files:
    """The files of one container."""
    random = np.random.default_rng(0)
    slices = dicoms.series(n=IN_ONE)
    for slice_ in slices:
        noise = random.integers(0, 64, (side, side))
        dicoms.set_pixels(slice_, (noise + np.arange(side)).astype(np.uint16))
    return named(slices)


def write(files: Files, copies: int, folder: Path) -> dict[str, Path]:
    """A folder of each kind, with all files `copies` times."""
    packed = {
        "zip, stored": (".zip", zipped(files, zipfile.ZIP_STORED)), "zip, deflated": (".zip", zipped(files)),
        "tar": (".tar", tarred(files)), "tar.gz": (".tar.gz", tarred(files, "w:gz")),
    }  # fmt: skip
    for kind, (ending, content) in packed.items():
        (folder / kind).mkdir()
        for copy in range(copies):
            (folder / kind / f"{copy}{ending}").write_bytes(content)
    for kind, ending in ((LOOSE, ""), ("gz", ".gz")):
        for copy in range(copies):
            (folder / kind / f"{copy}" / "s").mkdir(parents=True)
        for name, content in files.items():
            whole = gzip.compress(content, 6) if ending else content
            for copy in range(copies):
                (folder / kind / f"{copy}" / f"{name}{ending}").write_bytes(whole)
    return {kind: folder / kind for kind in (LOOSE, *packed, "gz")}


def read(path: Path, folder: Path) -> dict[str, float]:
    """Seconds of a first crawl and of one over the same archive."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        containers._opened.cache_clear()
        source, index = Containers(FolderSource(path), Cache(Path(scratch, "cache"))), Path(scratch, "index")
        took = {}
        for what in ("all", "unchanged"):
            began = time.perf_counter()
            crawl(source, index=index)
            took[what] = time.perf_counter() - began
    return took


if __name__ == "__main__":
    main()
