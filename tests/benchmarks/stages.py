"""Seconds a study, by stage, on one core of this machine, models loaded, memory kept as in a worker.

    python tests/benchmarks/stages.py [ARCHIVE] [--rounds 3] [--threads 1] [--device cpu] [--wall]

Without ARCHIVE: four synthetic patients (modic.phantom). The first study is graded once before the clock starts. On a
CPU these are CPU seconds of the process (`--wall`: of the clock), since other programs may run beside it; they still
grow with the load, which is printed. Pictures are drawn, as in a run.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from flows.clusters import ALLOCATOR  # noqa: E402


def main() -> None:
    """Print the median of each stage over all studies and rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of one worker (default: 1, as the default cluster has)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--wall", action="store_true")
    options = parser.parse_args()
    if ALLOCATOR.items() - os.environ.items():  # glibc reads them when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
    with tempfile.TemporaryDirectory() as folder:
        archive = options.archive or phantoms(Path(folder, "archive"))
        wall = options.wall or options.device == "cuda"
        measure(archive, options.rounds, options.device, Path(folder), wall=wall)


def phantoms(folder: Path) -> Path:
    """Four complete synthetic studies."""
    from modic.phantom.archive import write_archive

    write_archive(folder, patients=4, broken=False)
    return folder


def measure(archive: Path, rounds: int, device: str, folder: Path, *, wall: bool) -> None:
    """Grade every pair of `archive` `rounds` times; pictures go to `folder`."""
    from modic import pipeline
    from modic.archive.crawl import crawl
    from modic.config import Config
    from modic.models.weights import load_models
    from modic.records import Pair
    from modic.series.identify import identify
    from modic.series.pair import pair

    config = Config()
    found = pair(identify(crawl(archive, index=None).headers, options=config.identify), options=config.pair)
    pairs = [one for one in found if isinstance(one, Pair)]
    clock = time.perf_counter if wall else time.process_time
    pipeline.time = SimpleNamespace(perf_counter=clock)
    started = clock()
    models = load_models("detector", "classifier", device)
    pipeline.grade_study(pairs[0], models=models, config=config, pictures=folder / "first")
    print(f"models loaded and first study graded: {clock() - started:.1f} s")
    drawn = enumerate(one for _ in range(rounds) for one in pairs)
    results = [
        pipeline.grade_study(one, models=models, config=config, pictures=folder / f"case-{index}")
        for index, one in drawn
    ]
    print(f"{'s of the clock' if wall else 'CPU s'}, load {os.getloadavg()[0]:.1f}")
    for stage in max((one.seconds for one in results), key=len):
        values = [one.seconds.get(stage, 0.0) for one in results]
        print(f"{stage:10} {statistics.median(values):7.3f} s   worst {max(values):.3f} s")
    totals = [sum(one.seconds.values()) for one in results]
    print(f"{'a study':10} {statistics.median(totals):7.3f} s   worst {max(totals):.3f} s   ({len(pairs)} studies)")


if __name__ == "__main__":
    main()
