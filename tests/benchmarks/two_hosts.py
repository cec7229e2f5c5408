"""Two hosts that start runs on one cohort all the time, and whose flocks do not see each other.

    python tests/benchmarks/two_hosts.py [runs of each host]

Each host is a namespace of mounts and processes with a FUSE mount of its own of the cohort's folder (`bindfs`); it
pauses at random between runs. Every run adds a study. Prints what the runs came to, and what
was lost: a row of `runs`, a study, a `current` that leads nowhere, a check that is broken. It needs root and bindfs.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from dicoms import study, write  # noqa: E402
from modic.tables.query import run_checks  # noqa: E402
from modic.tables.store import read_table  # noqa: E402
from mounts import command, environment  # noqa: E402

HOSTS = ("host-a", "host-b")


def start(folder: Path, host: str, runs: int) -> subprocess.Popen[str]:
    """The runs of one host."""
    (folder / host).mkdir()
    words = command(f"bindfs {folder / 'real'} at", "one_host", str(folder / "archive"), "loop", str(runs), host=host)
    return subprocess.Popen(words, cwd=folder / host, env=environment(), stdout=subprocess.PIPE, text=True)


def main(runs: int) -> int:
    """Prints the counts; returns the number of things lost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "real").mkdir()
        write(study(patient="ann", rows=16, columns=16), folder / "archive" / "ann")
        processes = [start(folder, host, runs) for host in HOSTS]
        answers = [answer for one in processes for answer in json.loads(one.communicate()[0].splitlines()[-1])]
        cohort = folder / "real" / "cohort"
        known = set(read_table(cohort, "runs")["run_id"].to_pylist())
        finished = [answer["run"] for answer in answers if "run" in answer]
        graded = sum(answer.get("graded", 0) for answer in answers)
        lost = {
            "rows of runs": len(set(finished) - known),
            "studies": graded - len(read_table(cohort, "studies")),
            "current": int(not (cohort / "current").exists()),
            "checks": sum(map(bool, run_checks(cohort).values())),
        }
    print("runs:", dict(Counter(next(iter(answer)) for answer in answers)))
    print("stopped:", [answer["stopped"] for answer in answers if "stopped" in answer][:5])
    print("lost:", lost)
    return sum(map(abs, lost.values()))


if __name__ == "__main__":
    raise SystemExit(bool(main(int((sys.argv[1:] or ["50"])[0]))))
