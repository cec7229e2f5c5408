"""`modic grade` killed at random moments, Prefect and Dask included: what each kill broke, which ought to be nothing.

    python tests/benchmarks/kills.py [--kills 20] [--of run worker grader] [--demo] [--seed 1]

A cohort is graded, studies are added to its archive, and runs over it are killed (SIGKILL): the run's whole process
group, or one worker of Dask, also once shards are taken up (`grader`), which the run itself must survive. After every
`EACH` killed runs one is left alone. Then the tables must be those of a cohort that nothing disturbed, row for row, no
finished study graded twice, no check offended, the exit code 3 (one study fails by itself). `current/` is read all the
while. Studies are tiny and graded without networks (tests/support/fake_worker.py); --demo takes synthetic patients
and the shipped networks.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("support", "benchmarks"))]

import pyarrow.compute as pc  # noqa: E402
from memory import is_worker  # noqa: E402

import dicoms  # noqa: E402
from cohort_reader import reading, tables  # noqa: E402
from modic.cohort import is_cohort, open_cohort  # noqa: E402
from modic.phantom.archive import write_archive  # noqa: E402
from modic.run import ledger, shards  # noqa: E402
from modic.tables import query  # noqa: E402

EACH = {"run": 5, "worker": 1, "grader": 1}  # kills of one cohort
FAILED = 3  # exit code: some studies failed
GONE_S = 30  # in which what a killed run started must have ended


def main() -> None:
    """Print one line a kill, and end with 1 where one broke something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--of", nargs="+", choices=EACH, default=list(EACH))
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        lasts = prepare(home, demo=options.demo)
        trouble = []
        for of in options.of:
            kill = kill_run if of == "run" else partial(kill_worker, of)
            for number in range(0, options.kills, EACH[of]):
                count = min(EACH[of], options.kills - number)
                trouble += kill_and_compare(
                    home, f"{of}-{number}", kill, [dice.uniform(0, lasts[of]) for _ in range(count)]
                )
    sys.exit(bool(trouble))


def prepare(home: Path, *, demo: bool) -> dict[str, float]:
    """Archive, a cohort `before` its last studies came, and `undisturbed`; seconds in which each of EACH is there."""
    (home / "cohort.toml").write_text("[run]\nshard_size = 1\npictures = false\n")
    preload = ["flows.dask_worker", *([] if demo else [str(ROOT / "tests" / "support" / "fake_worker.py")])]
    (home / "cluster.yaml").write_text(json.dumps({"cluster_kwargs": {"n_workers": 2, "preload": preload}}))
    for patients in (("sleep-1-a", "sleep-1-b"), ("sleep-1-c", "sleep-1-d", "sleep-1-e", "sleep-1-f", "bug")):
        if demo:
            made = home / f"made-{patients[0]}"
            faults = ("corrupt_pixels",) if "bug" in patients else ()
            write_archive(made, patients=len(patients) - len(faults), seed=len(patients), faults=faults, broken=False)
            shutil.copytree(made, home / "archive", dirs_exist_ok=True)
        else:
            for patient in patients:
                dicoms.write(dicoms.study(patient=patient, n=5), home / "archive" / patient)
        run, seen = start(home, "undisturbed"), {of: [time.monotonic()] for of in EACH}
        while _still_runs(run, 0.2):
            for of in EACH:
                if _is_there(of, run, home / "undisturbed"):
                    seen[of].append(time.monotonic())
        lasts = {of: max(times) - min(times[1:], default=times[0]) for of, times in seen.items()}
        said = ", ".join(f"{of} {seconds:.0f} s" for of, seconds in lasts.items())
        print(f"an undisturbed run: {said}; exit code {run.returncode}", flush=True)
        if not (home / "before").exists():
            shutil.copytree(home / "undisturbed", home / "before", symlinks=True)
    return lasts


def start(home: Path, cohort: str) -> subprocess.Popen:
    """One `modic grade` in a process group of its own; what it says goes to `<cohort>.log`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "modic", "grade", "archive", "--out", cohort, "--device", "cpu"]
    with (home / f"{cohort}.log").open("a") as log:
        return subprocess.Popen(
            [*command, "--config", "cohort.toml", "--cluster", "cluster.yaml"],
            cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def kill_and_compare(home: Path, name: str, kill: Callable, moments: list[float]) -> list[str]:
    """Kill one run over the cohort `name` at each of `moments` (s), leave one alone; what was broken, in words."""
    cohort, undisturbed = home / name, home / "undisturbed"
    shutil.copytree(home / "before", cohort, symlinks=True)
    sizes = {tuple(len(tables(one)[table]) for table in ("studies", "levels")) for one in (cohort, undisturbed)}
    trouble = []
    with reading(cohort, sizes) as wrong:
        for moment in moments:
            said, broken = kill(start(home, name), moment, cohort)
            print(f"{name} at {moment:5.1f} s: {said}", flush=True)
            trouble += broken
        code = start(home, name).wait() if kill is kill_run else FAILED
    trouble += [f"exit code {code}"] if code != FAILED else []
    trouble += sorted(set(wrong))
    trouble += [f"{table} differs" for table, rows in tables(cohort).items() if rows != tables(undisturbed)[table]]
    trouble += [f"check {check}" for check, rows in query.run_checks(cohort).items() if rows]
    finished = ledger.read_ledger(open_cohort(cohort)).filter(
        pc.field("status") == "graded"
    )  # failed ones are tried again
    twice = len(finished) - len(finished.group_by(["study_key", "fingerprint"]).aggregate([]))
    trouble += [f"{twice} finished studies were graded again"] if twice else []
    print(f"{name}: {'; '.join(trouble) or 'nothing was broken'}", flush=True)
    return trouble


def kill_run(run: subprocess.Popen, moment: float, cohort: Path) -> tuple[str, list[str]]:
    """Kill the process group; what outlives it by `GONE_S` is trouble, and is killed too."""
    if not _still_runs(run, moment):
        return f"had ended with {run.returncode}", []
    family, when = psutil.Process(run.pid).children(recursive=True), stage(cohort)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    _, left = psutil.wait_procs(family, timeout=GONE_S)
    names = [" ".join(one.cmdline()[:4]) for one in left]
    for one in left:
        one.kill()
    return f"killed the run with {len(family)} processes at {when}", [f"outlived it: {name}" for name in names]


def kill_worker(of: str, run: subprocess.Popen, moment: float, cohort: Path) -> tuple[str, list[str]]:
    """Kill one worker of Dask `moment` seconds after `of` has begun; the run itself must end as promised."""
    while not _is_there(of, run, cohort) and _still_runs(run, 0.05):
        pass
    said = "none killed, all had ended"
    if _still_runs(run, moment):
        for one in _workers_of(run)[:1]:  # in the order of their starts, which is random enough beside the moment
            said = f"one killed at {stage(cohort)}"
            one.kill()
    code = run.wait()
    return f"{said}; exit code {code}", [f"exit code {code} after a killed worker"] if code != FAILED else []


def stage(cohort: Path) -> dict[str, int]:
    """How far the shards of the run at hand are."""
    begun_last = open_cohort(cohort).last_begun()[0] if is_cohort(cohort) else None
    inputs = list((cohort / "private" / "shards" / str(begun_last)).glob("*.json"))
    done = {path.stem for path in (cohort / "runs" / str(begun_last) / "shards").glob("*.parquet")}
    at = [path.with_suffix(".at") for path in inputs if path.stem not in done]
    begun = [path.read_text() for path in at if path.exists()]
    loading = begun.count(str(shards.LOADING))
    return {"shards": len(inputs), "loading": loading, "grading": len(begun) - loading, "finished": len(done)}


def _is_there(of: str, run: subprocess.Popen, cohort: Path) -> bool:
    """Whether the run, a worker of it, or a shard that is being graded is there."""
    if of == "grader":
        at = stage(cohort)
        return at["loading"] + at["grading"] > 0
    return of == "run" or bool(_workers_of(run))


def _workers_of(run: subprocess.Popen) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [one for one in psutil.Process(run.pid).children(recursive=True) if _is_worker(one)]
    return []


def _still_runs(run: subprocess.Popen, moment: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        run.wait(moment)
    return run.returncode is None


def _is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return is_worker(process)
    return False


if __name__ == "__main__":
    main()
