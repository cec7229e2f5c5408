"""Headers a second: modic.archive.crawl with one process and with two against a plain pydicom loop, taking turns.

    python tests/benchmarks/headers.py [--files 200000] [--rounds 3] [--source FOLDER_OF_DICOM]

Files are copied to a temporary folder (made by tests/support/dicoms.py without --source), so all read from the page
cache. pydicom reads `SAMPLE` of them at most. Two processes are used from 4,000 files on, and need two free cores;
what one process costs besides, finding the files and arranging the index, is in its time as in theirs.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pydicom

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import dicoms  # noqa: E402
from modic.archive.crawl import crawl  # noqa: E402
from modic.archive.header_values import COLUMNS  # noqa: E402

ONE, TWO, AGAIN, PLAIN = (
    "modic.archive.crawl",
    "modic.archive.crawl, two processes",
    "modic.archive.crawl, nothing changed",
    "pydicom",
)
WANTED = [keyword for keyword in COLUMNS if keyword != "TransferSyntaxUID"]
SAMPLE = 3000


def main() -> None:
    """Print one line a reader: the fastest of its rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=SAMPLE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive, index = Path(folder, "archive"), Path(folder, "index.parquet")
        paths = fill(archive, options.source, options.files)
        sample = paths[:: max(1, len(paths) // SAMPLE)][:SAMPLE]
        crawl(archive, index=index)
        readers: dict[str, tuple[int, Callable[[], object]]] = {
            PLAIN: (len(sample), lambda: plain(sample)),
            ONE: (len(paths), lambda: crawl(archive, index=None)),
            TWO: (len(paths), lambda: crawl(archive, index=None, processes=2)),
            AGAIN: (len(paths), lambda: crawl(archive, index=index)),
        }
        rounds = [{name: seconds(work) for name, (_, work) in readers.items()} for _ in range(options.rounds)]
        print(f"index: {index.stat().st_size / len(paths):.0f} bytes a file")
    clock = {name: readers[name][0] / min(one[name][0] for one in rounds) for name in readers}
    work = {name: min(one[name][1] for one in rounds) / readers[name][0] for name in readers}
    for name in readers:
        print(
            f"{name}: {clock[name]:.0f} files/s, {clock[name] / clock[PLAIN]:.1f} x pydicom;"
            f" {work[name] * 1e6:.1f} µs of this process's time a file"
        )
    print(f"two processes: {clock[TWO] / clock[ONE] / 2:.0%} a core; load {os.getloadavg()[0]:.1f}")
    for one in rounds:
        print("  " + ", ".join(f"{name} {clock:.2f} s" for name, (clock, _) in one.items()))


def fill(archive: Path, source: Path | None, files: int) -> list[Path]:
    """`files` copies of the files of `source`, in folders of 100, each with an SOPInstanceUID of its own."""
    archive.mkdir()
    originals = sorted(p for p in source.rglob("*") if p.is_file()) if source else []
    if not originals:
        made = archive.parent / "made"
        dicoms.write(dicoms.series(), made)
        originals = sorted(made.iterdir())
    contents = [
        (path.read_bytes(), pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in originals
    ]
    paths = [archive / f"{number // 100:04}" / f"{number:06}" for number in range(files)]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        content, uid = contents[number % len(contents)]
        own = f"{uid[: len(uid) - 6]}{number:06}"  # no two files alike, as in an archive
        path.write_bytes(content.replace(uid.encode(), own.encode()))
    return paths


def plain(paths: Iterable[Path]) -> None:
    """What one would write first: read each header with pydicom, get the same values."""
    for path in paths:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        for keyword in WANTED:
            dataset.get(keyword)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of this process's processor time."""
    clock, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - used


if __name__ == "__main__":
    main()
