"""What Prefect, Dask, the ledger and publishing cost: the share of one run's wall time that is not grading.

    python tests/benchmarks/orchestration.py [--studies 200] [--seconds 2.0]

A whole `modic grade` over an archive of tiny studies whose grading is a sleep of known length
(tests/support/fake_worker.py): grading takes `studies * seconds / workers`, and everything else is orchestration.
Starting the server and the workers is named by itself: it costs the same for any number of studies. Prefect's records
are counted in the end.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import dicoms  # noqa: E402

WORKERS = 2


def main() -> None:
    """Print wall time by part, and the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each study's grading (default: 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.studies):
            dicoms.write(
                dicoms.study(patient=f"sleep-{options.seconds}-{number}", n=5), Path(folder, "archive", f"{number}")
            )
        wall = run(Path(folder))
        report(Path(folder, "cohort"), wall, options.studies * options.seconds / WORKERS)
        again = run(Path(folder))
        print(f"a second run over the unchanged archive: {again:.1f} s")


def run(folder: Path) -> float:
    """Seconds of one `modic grade` with a temporary server."""
    cluster = folder / "cluster.yaml"
    preload = ["flows.dask_worker", str(ROOT / "tests" / "support" / "fake_worker.py")]
    cluster.write_text(json.dumps({"cluster_kwargs": {"n_workers": WORKERS, "preload": preload}}))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    command = [sys.executable, "-m", "modic", "grade", "archive", "--out", "cohort", "--cluster", str(cluster)]
    started = time.perf_counter()
    subprocess.run(
        command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def report(cohort: Path, wall: float, ideal: float) -> None:
    """Where the time of the first run went."""
    (manifest,) = cohort.glob("runs/*/manifest.json")
    run_row = json.loads(manifest.read_text())
    started, finished = (datetime.fromisoformat(run_row[name]) for name in ("started", "finished"))
    shards = list((cohort / "runs").glob("*/shards/*.parquet"))
    between = max(path.stat().st_mtime for path in shards) - min(path.stat().st_mtime for path in shards)
    rest = ideal * (len(shards) - WORKERS) / len(shards)  # the grading between the first and the last shard's end
    database = sqlite3.connect(cohort / "private" / "prefect" / "prefect.db")
    recorded = database.execute("SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'").fetchone()[0]
    print(f"wall time {wall:.1f} s; grading alone on {WORKERS} workers {ideal:.1f} s")
    flow = (finished - started).total_seconds()
    print(f"  server, imports, end    {wall - flow:7.1f} s, the same for any number of studies")
    print(f"  flow                    {flow:7.1f} s, from its first to its last step, workers' start included")
    print(f"  first to last shard     {between:7.1f} s, of which grading {rest:.1f} s")
    print(f"orchestration while workers work: {100 * (between - rest) / between:.1f} % (first to last shard)")
    print(
        f"orchestration of the whole run: {100 * (wall - ideal) / wall:.1f} %, a first start on a new cohort included"
    )
    print(f"Prefect recorded {recorded} completed task runs; {len(shards)} shards and 5 steps were run")


if __name__ == "__main__":
    main()
