"""How large a cohort's housekeeping is after a year of nights: private/, Prefect's database, runs/ and .tables.

    python tests/benchmarks/year.py [--nights 6] [--shards 40]

Runs `modic grade` with its temporary Prefect server on a small archive of tiny studies, graded without networks
(tests/support/fake_worker.py): a first night of so many shards, then nights without news. What such a night adds
is the same each time, so that a year is that times 365; of tables a week of nights is kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import dicoms  # noqa: E402

WEEK = 7  # nights whose tables are kept ([run] keep_tables_days)
PARTS = ("private/prefect", "private/logs", "private", "runs", ".tables")


def main() -> None:
    """Print the bytes of each part after each night, and a year of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=6, help="nights without news after the first")
    parser.add_argument("--shards", type=int, default=40, help="shards of the first night, a study each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(options.shards):
            dicoms.write(dicoms.study(patient=f"p{number}", rows=4, columns=4), folder / "archive" / str(number))
        preload = ["flows.dask_worker", str(ROOT / "tests" / "support" / "fake_worker.py")]
        (folder / "cluster.json").write_text(json.dumps({"cluster_kwargs": {"n_workers": 2, "preload": preload}}))
        (folder / "cohort.toml").write_text("[run]\nshard_size = 1\n")
        sizes = [night(folder) for _ in range(options.nights + 1)]
    print("part                first night  a night without news  a year of them")
    for part in PARTS:
        each = (sizes[-1][part] - sizes[1][part]) / max(options.nights - 1, 1)
        nights = WEEK if part == ".tables" else 365
        print(f"{part:18} {sizes[0][part] / 1e6:9.2f} MB {each / 1e3:17.1f} kB {nights * each / 1e6:12.1f} MB")


def night(folder: Path) -> dict[str, int]:
    """One run; gives the bytes of each part of the cohort."""
    words = ["grade", "archive", "--out", "cohort", "--cluster", "cluster.json", "--config", "cohort.toml"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "modic", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return {part: size(folder / "cohort" / part) for part in PARTS}


def size(folder: Path) -> int:
    """Bytes of all files below a folder, as they are on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main()
