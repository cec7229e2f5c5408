"""The header index of a million files: bytes on disk, and the peak memory of the crawls that make and re-check it.

    python tests/benchmarks/index.py [--files 1000000] [--changed 0.01]

Every file is real (about 1.5 kB, so 4 GB of disk for a million) and has what makes an index large: a name and an
SOPInstanceUID of 38 random digits, a position of random digits, a modification time of its own; 25 files are a series
with random UIDs of its own, 8 series a study. Each crawl is a process of its own and takes all cores, as `modic grade`
does; its memory is the sum over its processes (pages that they share counted in each), looked at every 0.2 s.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import dicoms  # noqa: E402

A_SERIES, A_STUDY = 25, 200
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "StudyInstanceUID")
NUMBER = "%+014.8f"
CRAWL = """
import sys, time
from pathlib import Path
from modic.archive.crawl import crawl
from modic.resources import cores
start = time.perf_counter()
counts = crawl(Path(sys.argv[1]), index=Path(sys.argv[2]), processes=cores()).counts
print(f"{time.perf_counter() - start:.0f} s;", counts)
"""


def main() -> None:
    """Print one line a crawl, and the size of the index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--changed", type=float, default=0.01, help="share of the files touched before the last crawl")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive, index = Path(folder, "archive"), Path(folder, "index.parquet")
        paths = fill(archive, options.files)
        said(archive, index, "all new")
        print(f"index: {index.stat().st_size / 1e6:.1f} MB, {index.stat().st_size / len(paths):.0f} bytes a file")
        said(archive, index, "nothing changed")
        for path in random.sample(paths, round(options.changed * len(paths))):
            os.utime(path)
        said(archive, index, f"{options.changed:.0%} changed")


def said(archive: Path, index: Path, what: str) -> None:
    """Crawl in a process of its own and print what it took."""
    command = [sys.executable, "-c", CRAWL, str(archive), str(index)]
    peak, alone = 0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as crawling:
        while crawling.poll() is None:
            one, *others = memory(crawling.pid) or [0]
            peak, alone = max(peak, one + sum(others)), max(alone, one)
            time.sleep(0.2)
        line = crawling.stdout.read().strip()  # type: ignore[union-attr]
    if crawling.returncode:
        sys.exit(crawling.returncode)
    print(f"{what}: peak {peak / 2**20:.0f} MiB, the first process alone {alone / 2**20:.0f} MiB; {line}", flush=True)


def memory(pid: int) -> list[int]:
    """Resident bytes of a process and of those that it started; empty where it has ended."""
    with suppress(psutil.Error):
        first = psutil.Process(pid)
        return [one.memory_info().rss for one in (first, *first.children(recursive=True))]
    return []


def fill(archive: Path, files: int) -> list[str]:
    """`files` small MR images; what identifies them is drawn at random."""
    dice, uids, paths = random.Random(5), dict.fromkeys(UIDS, ""), []
    template, places = _template(archive.parent / "template")
    for number in range(files):
        for keyword, every in zip(UIDS, (1, A_SERIES, A_SERIES, A_STUDY), strict=True):
            if number % every == 0:
                uids[keyword] = _uid(dice)
        folder = archive / uids["StudyInstanceUID"] / uids["SeriesInstanceUID"]
        if number % A_SERIES == 0:
            folder.mkdir(parents=True)
        position = "\\".join(NUMBER % dice.uniform(-200, 200) for _ in range(3))
        for keyword, value in (*uids.items(), ("ImagePositionPatient", position)):
            template[places[keyword] : places[keyword] + len(value)] = value.encode()
        paths.append(f"{folder}/{uids['SOPInstanceUID']}.dcm")
        with open(paths[-1], "wb") as file:  # noqa: PTH123  (a Path for each of a million files is slow)
            file.write(template)
    return paths


def _uid(dice: random.Random) -> str:
    """As pydicom and many anonymizers make them."""
    return f"1.2.826.0.1.3680043.8.498.{dice.randrange(10**37, 10**38)}"


def _template(folder: Path) -> tuple[bytearray, dict[str, int]]:
    """An image as bytes, and where in it each value that differs from file to file begins."""
    dice = random.Random(0)
    (slice_,) = dicoms.series(n=1)
    values = {keyword: _uid(dice) for keyword in UIDS}
    values["ImagePositionPatient"] = "\\".join(NUMBER % number for number in (-11.25, 22.5, 33.75))
    for keyword, value in values.items():
        setattr(slice_, keyword, value.split("\\") if "\\" in value else value)
    (path,) = dicoms.write([slice_], folder)
    content = path.read_bytes()
    return bytearray(content), {keyword: content.rindex(value.encode()) for keyword, value in values.items()}


if __name__ == "__main__":
    main()
