"""How long a run will take and how much disk it needs, by what the last run that graded took."""

import shutil
from itertools import islice
from pathlib import Path

from modic.cases.images import MOST_BYTES
from modic.cohort import Cohort
from modic.run.regrade import REGRADE
from modic.run.status import duration, read_manifest

ROW_BYTES = 50_000  # of one study in a shard, and of what is kept of its levels, with room
SAMPLED = 50  # studies whose pictures are measured


def estimate(cohort: Cohort, studies: int, *, pictures: bool) -> str:
    """`about 25 min at the last run's 120 studies an hour; needs 8 MB of 34 GB free`; empty for no studies."""
    if not studies:
        return ""
    last = next((run for run in reversed(cohort.runs()) if _per_hour(run)), None)
    free, need = shutil.disk_usage(cohort.root).free, studies * _bytes_a_study(last, pictures)
    disk = f"needs {megabytes(need)} of {megabytes(free)} free"
    if need > free:
        disk = f"needs {megabytes(need)}, but only {megabytes(free)} are free in {cohort.root}"
    if last is None:
        return f"no run has graded here yet, so its time is not known (1 to 3 s a study and core are usual); {disk}"
    rate = _per_hour(last)
    return f"about {duration(3600 * studies / rate)} at the last run's {rate:.0f} studies an hour; {disk}"


def _per_hour(run: Path) -> float:
    """Studies an hour that a run graded; 0 if it graded none or left no word of it."""
    manifest = read_manifest(run / "manifest.json")
    from_features = REGRADE in manifest.seconds_by_stage  # which says nothing about images
    return 0.0 if from_features else manifest.studies_an_hour


def _bytes_a_study(run: Path | None, pictures: bool) -> int:
    """What a study adds below `runs/`: as in that run, or at most if there is none."""
    if run is None:
        return ROW_BYTES + (MOST_BYTES if pictures else 0)
    shards = sum(path.stat().st_size for path in run.glob("shards/[!.]*.parquet"))
    worked_on = read_manifest(run / "manifest.json").studies_worked_on or 1
    cases = list(islice((run / "cases").glob("*"), SAMPLED))
    images = sum(path.stat().st_size for case in cases for path in case.rglob("*") if path.is_file())
    kept = sum(path.stat().st_size for path in Cohort(run.parent.parent).features(run.name).glob("[!.]*.parquet"))
    return (shards + kept) // worked_on + (images // len(cases) if cases and pictures else 0)


def megabytes(n: float) -> str:
    """`3.4 GB`, `120 MB` or `2 MB`; never less than 1 MB."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{max(n / 1e6, 1):.0f} MB"
