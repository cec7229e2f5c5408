"""Peak memory of a run at two numbers of studies: it must not grow with them.

    python tests/benchmarks/memory.py [--studies 20 200]

Four synthetic patients are copied under new UIDs until there are enough studies, and `modic grade` runs with the
shipped weights and the default cluster. Resident memory of the main process, of the largest worker and of Prefect's
temporary server is sampled five times a second.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pydicom

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from modic.phantom.archive import write_archive  # noqa: E402

PATIENTS = 4


def main() -> None:
    """Print the peaks in MB, one line a number of studies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, nargs="+", default=[20, 200])
    options = parser.parse_args()
    print("studies  seconds  main MB  largest worker MB  server MB")
    for studies in options.studies:
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder, "archive"), studies)
            started = time.perf_counter()
            peak = peaks(Path(folder))
            seconds = time.perf_counter() - started
            print(
                f"{studies:7} {seconds:8.0f} {peak['main']:8.0f} {peak['worker']:18.0f} {peak['server']:10.0f}",
                flush=True,
            )


def fill(archive: Path, studies: int) -> None:
    """`studies` studies that the front end cannot tell from different patients."""
    with tempfile.TemporaryDirectory() as folder:
        write_archive(Path(folder), patients=2, broken=False, faults=["duplicate_files"] * (PATIENTS - 2))
        datasets = [pydicom.dcmread(path) for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    kinds = sorted({dataset.StudyInstanceUID for dataset in datasets})
    for number in range(studies):
        target = archive / f"{number:05}"
        target.mkdir(parents=True)
        of_one = [one for one in datasets if one.StudyInstanceUID == kinds[number % len(kinds)]]
        for index, dataset in enumerate(of_one):
            write_copy(dataset, number, target / f"{index:04}")


def write_copy(dataset: pydicom.Dataset, number: int, path: Path) -> None:
    """The image as one of patient `number`."""
    before = {}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "PatientID"):
        before[keyword] = dataset[keyword].value
        setattr(dataset, keyword, f"{before[keyword]}.{number + 1}"[-64:].lstrip(".0"))
    dataset.save_as(path)
    for keyword, value in before.items():
        setattr(dataset, keyword, value)


def peaks(folder: Path) -> dict[str, float]:
    """Peak resident MB of each kind of process in one run."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    command = [sys.executable, "-m", "modic", "grade", "archive", "--out", "cohort"]
    peak: dict[str, float] = defaultdict(float)
    with subprocess.Popen(
        command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    ) as run:
        while run.poll() is None:
            for kind, megabytes in sample(psutil.Process(run.pid)):
                peak[kind] = max(peak[kind], megabytes)
            time.sleep(0.2)
    if run.returncode:
        raise RuntimeError(f"modic grade ended with {run.returncode}")
    return peak


def sample(main_process: psutil.Process) -> list[tuple[str, float]]:
    """(kind, resident MB) of the run's processes."""
    found = []
    for process in [main_process, *main_process.children(recursive=True)]:
        try:
            server = "flows.prefect_server" in " ".join(process.cmdline())
            kind = "server" if server else "worker" if is_worker(process) else "main"
            found.append((kind, process.memory_info().rss / 1e6))
        except psutil.Error:
            continue
    return found


def is_worker(process: psutil.Process) -> bool:
    """Whether Dask, or the crawl, started the process: by itself, or forked of the one that `start_template` starts."""
    lines = [" ".join(one.cmdline()) for one in (process, process.parent()) if one is not None]
    return "spawn_main" in lines[0] or len([line for line in lines if "multiprocessing.forkserver" in line]) == 2


if __name__ == "__main__":
    main()
