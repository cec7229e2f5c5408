"""`modic grade` on studies that a GPU has no memory for, or that spoil CUDA for their process.

    python tests/benchmarks/gpu.py [--device cuda] [--workers-per-gpu 2]
    python tests/benchmarks/gpu.py --count [--archive ARCHIVE]

The second line needs no GPU: it grades the studies of ARCHIVE (two synthetic ones) on a pretended GPU
(tests/support/pretended_cuda.py) and prints what a GPU would be asked for a study, by stage, and what that takes if an
H200 were as fast as assumed here: an estimate, no measurement.

The first: synthetic patients and the shipped networks. One study asks for more memory than a worker may have (nearly
all of the GPU, where workers share it), one fails an assertion on the GPU, after which CUDA answers its process no
more. Both must be `failed` with their reasons, the others graded as in a run without the two, and the exit code 3. With
`--device cpu` the like is raised, but there is no CUDA to be spoiled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import pydicom  # noqa: E402
from distributed import Nanny  # noqa: E402

from made_studies import pairs_of  # noqa: E402
from modic import pipeline  # noqa: E402
from modic.config import Config  # noqa: E402
from modic.models import weights  # noqa: E402
from modic.phantom.archive import write_archive  # noqa: E402
from modic.run import worker  # noqa: E402
from modic.tables.store import read_table  # noqa: E402
from pretended_cuda import pretended_cuda  # noqa: E402

PATIENTS = 16  # several a shard
LAUNCH_S = (5e-6, 10e-6)  # of a kernel by the host; a GPU takes hardly less for the smallest
WAIT_S = 20e-6  # for the host to hear that the GPU is ready
COPY = 5e9  # bytes a second between ordinary memory of the host and the GPU
PEAK_FLOP, PEAK_BYTES = 67e12, 4.8e12  # a second, of an H200: float32 without TF32, memory (NVIDIA's data sheet)
REACHED = 0.3  # of both peaks
CULPRITS = {"memory": "study.out_of_memory", "assert": "study.internal_error"}


def dask_setup(process: Any) -> None:
    """Called by Dask in nannies, whose workers shall load this file too, and in these: culprits do their harm there."""
    if isinstance(process, Nanny):
        process.preload = [*process.preload, __file__]
        return
    grade = worker.grade_study

    def grade_or_harm(pair: Any, *, models: weights.Models, **options: Any) -> Any:
        if pair.patient_id in CULPRITS:
            harm(pair.patient_id, models.detector.device)
        return grade(pair, models=models, **options)

    worker.grade_study = grade_or_harm


def harm(kind: str, device: str) -> None:
    """Ask for more memory than a worker may have, or fail an assertion on the device."""
    import torch

    if kind == "memory":
        most = 2**50 if device == "cpu" else torch.cuda.mem_get_info()[0]
        shared = "PYTORCH_ALLOC_CONF" in os.environ
        torch.empty(int(0.8 * most) if shared else 2 * most, dtype=torch.uint8, device=device)
    else:
        torch.zeros(1, device=device)[torch.tensor([10**6], device=device)].cpu()


def main() -> None:
    """Print the outcome of every study of both runs, and end with 1 where it is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers-per-gpu", type=int, default=2)
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--archive", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if options.count:
            count(options.archive or phantoms(home / "archive"), home)
            return
        names = fill(home / "archive")
        code, harmed = grade(home, "harmed", options)
        for path in (home / "archive").rglob("*"):
            if path.is_file() and str(pydicom.dcmread(path, stop_before_pixels=True).get("PatientID")) in CULPRITS:
                path.unlink()
        _, spared = grade(home, "spared", options)
    trouble = [] if code == 3 else [f"exit code {code}"]
    failed = sorted(reason for status, reason, *_ in harmed if status == "failed")
    trouble += [] if failed == sorted(CULPRITS.values()) else [f"failed: {failed}"]
    graded = sum(status == "graded" for status, *_ in harmed)
    trouble += [] if [one for one in harmed if one[0] != "failed"] == spared else ["other studies differ"]
    print(f"{graded} of {len(names)} studies graded;", "; ".join(trouble) or "as it must be")
    sys.exit(bool(trouble))


def count(archive: Path, folder: Path) -> None:
    """Print what a study of `archive` asks of a GPU in the mean, by stage; its pictures go to `folder`."""
    import torch

    torch.set_num_threads(1)
    with pretended_cuda() as device:
        models = weights.load_models("detector", "classifier", "cuda")
        pipeline.time = SimpleNamespace(perf_counter=device.counts.copy)  # stages are timed in what is counted
        studies = [
            pipeline.grade_study(pair, models=models, config=Config(), pictures=folder / str(index))
            for index, pair in enumerate(pairs_of(archive))
        ]
    graded = [study.seconds for study in studies if not study.rejected]
    print("a study     kernels  waits   MB up  MB down  GB touched  GFLOP")
    stages = {name: [study[name] for study in graded] for name in graded[0]}
    for name, each in stages.items():
        if any(one.kernels for one in each):
            print_counts(name, each)
    print_counts("together", whole := [one for each in stages.values() for one in each], len(graded))
    print(f"{len(graded)} studies; at most {device.counts.peak_bytes / 2**20:.0f} MiB of tensors at a time")
    print_estimate({key: sum(getattr(one, key) for one in whole) / len(graded) for key in COLUMNS})


def print_estimate(mean: dict[str, float]) -> None:
    """Milliseconds a study from its counts, each part by itself, and together."""
    fast, slow = (1e3 * mean["kernels"] * seconds for seconds in LAUNCH_S)
    waits, copies = 1e3 * mean["waits"] * WAIT_S, 1e3 * (mean["bytes_up"] + mean["bytes_down"]) / COPY
    arithmetic = 1e3 * mean["flop"] / PEAK_FLOP / REACHED
    memory = 1e3 * mean["bytes_touched"] / PEAK_BYTES / REACHED
    print("estimated of an H200, not measured, in ms a study:", end=" ")
    print(f"launches {fast:.1f} to {slow:.1f}, waits {waits:.1f}, copies {copies:.1f},", end=" ")
    print(f"arithmetic {arithmetic:.1f}, memory {memory:.1f};", end=" ")
    least = max(fast, arithmetic, memory) + waits + copies
    print(f"together {least:.0f}, if kernels hide their launches, to {slow + waits + copies + arithmetic + memory:.0f}")


COLUMNS = ("kernels", "waits", "bytes_up", "bytes_down", "bytes_touched", "flop")


def print_counts(name: str, each: list[Any], studies: int = 0) -> None:
    """A line of the table: means over studies."""
    kernels, waits, up, down, touched, flop = (
        sum(getattr(one, key) for one in each) / (studies or len(each)) for key in COLUMNS
    )
    numbers = f"{kernels:7.0f} {waits:6.0f} {up / 1e6:7.1f} {down / 1e6:8.1f} {touched / 1e9:11.2f} {flop / 1e9:6.1f}"
    print(f"{name:11} {numbers}")


def phantoms(archive: Path) -> Path:
    """Two synthetic studies."""
    write_archive(archive, patients=2, seed=3, broken=False)
    return archive


def fill(archive: Path) -> list[str]:
    """Synthetic patients, two of whom are renamed to culprits; their ids."""
    write_archive(archive, patients=PATIENTS, seed=3, faults=(), broken=False)
    files = [path for path in archive.rglob("*") if path.is_file()]
    datasets = {path: pydicom.dcmread(path) for path in files}
    ids = sorted({str(one.PatientID) for one in datasets.values()})
    renamed = dict(zip(ids, CULPRITS, strict=False))
    for path, dataset in datasets.items():
        if str(dataset.PatientID) in renamed:
            dataset.PatientID = renamed[str(dataset.PatientID)]
            dataset.save_as(path)
    return ids


def grade(home: Path, name: str, options: argparse.Namespace) -> tuple[int, list[tuple]]:
    """One run over the archive; its exit code, and status, reason and grades of its studies."""
    (home / "cohort.toml").write_text("[run]\nshard_size = 3\npictures = false\n")
    cluster: dict[str, Any] = {"cluster_kwargs": {"n_workers": 1}}
    if options.device == "cuda":
        cluster = {"cluster_class": "flows.clusters.gpu_workstation"}
        cluster["cluster_kwargs"] = {"workers_per_gpu": options.workers_per_gpu}
    (home / "cluster.yaml").write_text(json.dumps(cluster))
    command = [sys.executable, "-m", "modic", "grade", "archive", "--out", name, "--device", options.device]
    done = subprocess.run(
        [*command, "--config", "cohort.toml", "--cluster", "cluster.yaml"],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__NANNY__PRELOAD": str(Path(__file__).resolve())},
        check=False,
    )
    levels: dict[str, list] = {}
    for row in read_table(home / name, "levels").to_pylist():
        levels.setdefault(row["study_key"], []).append((row["level"], row["mc"]))
    studies = read_table(home / name, "studies").to_pylist()
    for row in studies:
        print(name, row["status"], row["reason"], row["detail"], flush=True)
    found = [(row["status"], row["reason"], levels.get(row["study_key"])) for row in studies]
    return done.returncode, sorted(found, key=str)


if __name__ == "__main__":
    main()
