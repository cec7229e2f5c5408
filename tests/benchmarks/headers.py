"""Headers a second: modic.crawl against a plain pydicom loop over the same files, taking turns in one process.

    python tests/benchmarks/headers.py [--files 3000] [--source FOLDER_OF_DICOM]

Files are copied to a temporary folder (made by tests/dicoms.py without --source), so both read from the page cache.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pydicom

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import dicoms  # noqa: E402

from modic.crawl import crawl  # noqa: E402
from modic.headers import COLUMNS  # noqa: E402

TWO = "modic.crawl, two processes"  # from 20,000 files on
WANTED = [keyword for keyword in COLUMNS if keyword != "TransferSyntaxUID"]


def main() -> None:
    """Print one line a reader: files a second, median of the rounds, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "archive")
        fill(archive, options.source, options.files)
        index = Path(folder, "index.parquet")
        rates: dict[str, list[float]] = {"modic.crawl": [], TWO: [], "pydicom": []}
        for _ in range(options.rounds):
            rates["pydicom"].append(rate(lambda: plain(archive), options.files))
            rates["modic.crawl"].append(rate(lambda: crawl(archive, index=None), options.files))
            rates[TWO].append(rate(lambda: crawl(archive, index=None, processes=2), options.files))
        crawl(archive, index=index)
        rates["modic.crawl, nothing changed"] = [rate(lambda: crawl(archive, index=index), options.files)]
    median = {name: sorted(values)[len(values) // 2] for name, values in rates.items()}
    for name, value in median.items():
        print(f"{name}: {value:.0f} files/s, {value / median['pydicom']:.1f} x pydicom")


def fill(archive: Path, source: Path | None, files: int) -> None:
    """`files` copies of the files of `source`, in folders of 100, each with an SOPInstanceUID of its own."""
    archive.mkdir()
    originals = sorted(p for p in source.rglob("*") if p.is_file()) if source else []
    if not originals:
        made = archive.parent / "made"
        dicoms.write(dicoms.series(), made)
        originals = sorted(made.iterdir())
    for number in range(files):
        folder = archive / f"{number // 100:04}"
        folder.mkdir(exist_ok=True)
        content = originals[number % len(originals)].read_bytes()
        uid = str(pydicom.dcmread(originals[number % len(originals)], specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        own = f"{uid[: len(uid) - 6]}{number:06}"  # no two files alike, as in an archive
        (folder / f"{number:06}").write_bytes(content.replace(uid.encode(), own.encode()))


def plain(archive: Path) -> None:
    """What one would write first: read each header with pydicom, get the same values."""
    for path in sorted(archive.rglob("*")):
        if path.is_file():
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            for keyword in WANTED:
                dataset.get(keyword)


def rate(work: object, files: int) -> float:
    """Files a second."""
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return files / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
