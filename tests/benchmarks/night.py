"""What a night costs when nothing changed, and when a part did: files a second, seconds of the processor, memory.

    python tests/benchmarks/night.py [--studies 1000 10000] [--new 0.02] [--more 0] [--folder DIR]

Makes an archive of tiny files (18 a study: T1 and T2 of nine slices; about 1.4 kB each, so 4 GB of disk for 100,000
studies), and runs four nights on it, each a process of its own: the first, one without news, one with new studies, one
without news again; then `--more` nights with as many new studies each: once the news of the header index are a fifth
of it (modic/archive/header_index.py; not below 20,000 files), a night writes it anew, and costs more than the others.
Grading is left out: every study gets six made-up grades at once. Prefect is left out too: its start
and end take the same time whatever the archive holds. Seconds of the processor and memory are those of the run's own
process: the processes that read the headers of 20,000 new files or more come on top.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

SLICES = 9
NUMBER = 10_000_000
NIGHTS = ("first", "unchanged", "new studies", "unchanged again")


def main() -> None:
    """Print a line for each night of each archive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, nargs="+", default=[1000, 10_000], help="sizes of the archives")
    parser.add_argument("--new", type=float, default=0.02, help="share of studies that arrive in the third night")
    parser.add_argument("--more", type=int, default=0, help="further nights in which as many arrive")
    parser.add_argument("--folder", type=Path, help="where archives are made and stay for the next time")
    parser.add_argument("--night", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.night:
        print(json.dumps(night(*map(Path, options.night))))
        return
    print("studies night            files  wall s  CPU s  files/s of CPU  peak MB  CPU seconds by step")
    names, peaks = [*NIGHTS, *(f"new studies {number}" for number in range(2, 2 + options.more))], {}
    for studies in options.studies:
        with tempfile.TemporaryDirectory() as folder:
            peaks[studies] = nights((options.folder or Path(folder)) / str(studies), studies, options.new, names)
    least, most = min(peaks), max(peaks)
    if least < most:
        growth = (
            1000 * (after - before) / (most - least) for before, after in zip(peaks[least], peaks[most], strict=True)
        )
        grown = ", ".join(f"{name} {mb:.1f}" for name, mb in zip(names, growth, strict=True))
        print(f"peak MB more for each thousand studies, from {least} to {most}: {grown}")


def nights(folder: Path, studies: int, new: float, names: list[str]) -> list[float]:
    """Make an archive, unless it is there, and run the nights `names` on it; returns the peak of each in MB."""
    archive, made, peaks = folder / "archive", studies, list[float]()
    shutil.rmtree(archive / "new", ignore_errors=True)
    make_studies(archive, range(studies))
    with tempfile.TemporaryDirectory(dir=folder) as cohort:
        for name in names:
            if name.startswith("new studies"):
                make_studies(archive / "new", range(made, made + round(new * studies)))
                made += round(new * studies)
            command = [sys.executable, __file__, "--night", str(archive), f"{cohort}/cohort"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            cost = json.loads(done.stdout.splitlines()[-1])
            peaks.append(cost["peak_mb"])
            steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in cost["steps"].items())
            print(f"{made:7} {name:15} {cost['files']:7} {cost['wall']:7.1f} {cost['cpu']:6.1f} "
                  f"{cost['files'] / cost['cpu']:15.0f} {cost['peak_mb']:8.0f}  {steps}", flush=True)  # fmt: skip
    return peaks


def make_studies(archive: Path, numbers: range) -> None:
    """Studies of a patient each, whose files differ from those of a model in the digits of their names and UIDs.

    Those that are there are left as they are.
    """
    import io

    import dicoms

    models = []
    for kind, values in enumerate((dicoms.t1(), dicoms.t2())):
        for index, slice_ in enumerate(dicoms.series(values, n=SLICES, rows=4, columns=4)):
            slice_.StudyInstanceUID = f"1.2.3.{NUMBER}.1"
            slice_.SeriesInstanceUID = f"1.2.3.{NUMBER}.2.{kind}"
            slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{NUMBER}.3.{kind}.{index}"
            slice_.FrameOfReferenceUID = f"1.2.3.{NUMBER}.4"
            slice_.PatientID = str(NUMBER)
            content = io.BytesIO()
            slice_.save_as(content, enforce_file_format=True)
            models.append(content.getvalue())
    for number in numbers:
        folder = archive / f"{number // 1000:04d}" / str(number)
        if (folder / f"{len(models) - 1:05d}").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for index, model in enumerate(models):
            (folder / f"{index:05d}").write_bytes(model.replace(str(NUMBER).encode(), str(NUMBER + number).encode()))


def night(archive: Path, cohort: Path) -> dict[str, object]:
    """One run, and what it cost after its imports."""
    from fake_worker import level
    from made_studies import MODELS
    from modic.records import LEVELS, StudyResult
    from modic.report.page import write_report
    from modic.run import ledger, plan, prepare, publish, shards, survey

    result = StudyResult(tuple(map(level, LEVELS)), "ok", 0.97)
    run = prepare.prepare(str(archive), str(cohort), device="cpu")
    began, before, steps = time.perf_counter(), used(), dict[str, float]()

    def ended(step: str) -> None:
        """Note what the step has used, and say it on the way."""
        steps[step] = used() - before - sum(steps.values())
        print(f"{step}: {steps[step]:.1f} s of CPU", file=sys.stderr, flush=True)

    with run.cohort.lock(run.run_id):
        found = survey.find_studies(run)
        ended("find")
        planned = plan.cut_shards(run, found, workers=2)
        for shard in planned.shards:
            work, _ = shards.read_input(run.job, shard)
            ledger.write_output(
                run.job.output(shard), [ledger.row(one, result, run.grader, **MODELS.identity) for one in work]
            )
        ended("plan")
        summary = publish.publish(run, found)
        ended("publish")
        del found
        if summary.news:
            write_report(run.cohort.root, run.run_id)
        ended("report")
    wall, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    files = int(summary.row["files_seen"])
    return {"files": files, "wall": wall, "cpu": used() - before, "peak_mb": peak, "steps": steps}


def used() -> float:
    """Seconds of the processor that this process and those that it has ended have used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
