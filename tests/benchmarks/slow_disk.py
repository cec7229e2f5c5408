"""What a slow disk costs a worker, with and without reading ahead.

    python tests/benchmarks/slow_disk.py [--studies 8] [--seconds 0.5] [--workers 2] [--pretend 1.5]

Each worker grades one shard of synthetic studies three times: from the disk as it is, and from one that takes so many
seconds more for each series, without and with reading ahead (modic/run/read_ahead.py). Prints seconds of the clock and
of the CPU a study, and whether all three gave the same rows. `--pretend S`: in place of grading, T1 and T2 are loaded,
and the worker waits S seconds, which shows what is hidden on a machine that is busy with other things.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from flows.clusters import ALLOCATOR  # noqa: E402


def main() -> None:
    """Start the workers, each a process of its own, and wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pretend", type=float, default=0.0, help="s a study, in place of the networks")
    parser.add_argument("--archive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.archive:
        work(options.archive, options.seconds, options.pretend)
        return
    from memory import fill

    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), options.studies)
        print(f"load {os.getloadavg()[0]:.1f}", flush=True)
        command = [sys.executable, __file__, "--archive", folder, "--seconds", str(options.seconds)]
        command += ["--pretend", str(options.pretend)]
        environment = os.environ | ALLOCATOR | {"OMP_NUM_THREADS": "1"}
        workers = [subprocess.Popen(command, env=environment) for _ in range(options.workers)]
        sys.exit(max(worker.wait() for worker in workers))


def work(archive: Path, seconds: float, pretend: float) -> None:
    """What one worker does."""
    from modic import pipeline
    from modic.archive import folder
    from modic.archive.crawl import crawl
    from modic.archive.sources import Opener
    from modic.config import Config
    from modic.imaging.in_place import load_volumes
    from modic.models.weights import load_models
    from modic.records import Pair
    from modic.run import read_ahead
    from modic.run.ledger import level_row
    from modic.series.identify import identify
    from modic.series.pair import pair

    config = Config()
    models = None if pretend else load_models("detector", "classifier", "cpu")

    def graded(study: Pair, images: read_ahead.Images) -> object:
        if models:
            result = pipeline.grade_study(study, models=models, config=config, images=images)
            return [level_row(level) for level in result.levels]
        volumes = load_volumes(study, config, images=images)
        time.sleep(pretend)
        return {name: float(volume.voxels.sum()) for name, volume in volumes.items()}

    found = pair(identify(crawl(archive, index=None).headers, options=config.identify), options=config.pair)
    pairs = [one for one in found if isinstance(one, Pair)]
    graded(pairs[0], read_ahead.Images(Opener(config.archive)))
    opened, first = (
        folder._opened,
        {one.path for study in pairs for series in study.series for one in series.images[:1]},
    )

    def opened_slowly(path: str, *arguments: int) -> object:
        time.sleep(seconds if path in first else 0)
        return opened(path, *arguments)

    rows = []
    for name, open_file, ahead in (
        ("as it is", opened, 0),
        ("slow", opened_slowly, 0),
        ("slow, ahead", opened_slowly, 2),
    ):
        folder._opened, read_ahead.STUDIES = open_file, ahead
        started, used = time.perf_counter(), time.process_time()
        with read_ahead.read_ahead(pairs, Opener(config.archive)) as reading:
            rows.append([graded(study, images) for study, images in zip(pairs, reading, strict=True)])
        took = (time.perf_counter() - started) / len(pairs), (time.process_time() - used) / len(pairs)
        print(f"{name:12} {took[0]:6.2f} s a study, {took[1]:.2f} of the CPU", flush=True)
    print("the same rows" if rows[0] == rows[1] == rows[2] else "OTHER ROWS")


if __name__ == "__main__":
    main()
