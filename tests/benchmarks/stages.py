"""Seconds a study, by stage, on one core of this machine, models loaded.

    python tests/benchmarks/stages.py [ARCHIVE] [--rounds 3] [--threads 1] [--device cpu]

Without ARCHIVE: four synthetic patients (modic.phantom). The first study is graded once before the clock starts.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]


def main() -> None:
    """Print the median of each stage over all studies and rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of one worker (default: 1, as the default cluster has)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
    with tempfile.TemporaryDirectory() as folder:
        measure(options.archive or phantoms(Path(folder, "archive")), options.rounds, options.device)


def phantoms(folder: Path) -> Path:
    """Four complete synthetic studies."""
    from modic.phantom.archive import write_archive

    write_archive(folder, patients=4, broken=False)
    return folder


def measure(archive: Path, rounds: int, device: str) -> None:
    """Grade every pair of `archive` `rounds` times."""
    from modic.archive.crawl import crawl
    from modic.config import Config
    from modic.models.weights import load_models
    from modic.pipeline import grade_study
    from modic.records import Pair
    from modic.series.identify import identify
    from modic.series.pair import pair

    config = Config()
    found = pair(identify(crawl(archive, index=None).headers, options=config.identify), options=config.pair)
    pairs = [one for one in found if isinstance(one, Pair)]
    started = time.perf_counter()
    models = load_models("detector", "classifier", device)
    grade_study(pairs[0], models=models, config=config)
    print(f"models loaded and first study graded: {time.perf_counter() - started:.1f} s")
    results = [grade_study(one, models=models, config=config) for _ in range(rounds) for one in pairs]
    for stage in results[0].seconds:
        values = [one.seconds.get(stage, 0.0) for one in results]
        print(f"{stage:10} {statistics.median(values):7.3f} s   worst {max(values):.3f} s")
    totals = [sum(one.seconds.values()) for one in results]
    print(f"{'a study':10} {statistics.median(totals):7.3f} s   worst {max(totals):.3f} s   ({len(pairs)} studies)")


if __name__ == "__main__":
    main()
