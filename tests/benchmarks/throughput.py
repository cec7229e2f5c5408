"""Studies a second of whole `modic grade` runs, and what they are spent on.

    python tests/benchmarks/throughput.py [--studies 24] [--workers 1 2] [--device cpu]

Four synthetic patients, copied under new UIDs until there are enough studies, with the shipped weights. Of each number
of workers (on a GPU: workers that share it): seconds from the command to the end, and between the first and the last
study graded; studies a second between these; CPU seconds of the workers a study and their share of the time; the GPU's
share of busy time, where there is one; resident memory of the largest worker after a third of its studies and at the
end, which must not grow. Then the CPU seconds a study would take if nothing but the networks' arithmetic took any, at
the speed of this core's matrix products, and the bytes that are read.

The load of the machine is printed: compare numbers of one load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from memory import fill, is_worker  # noqa: E402


def main() -> None:
    """Print one paragraph for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--no-pictures", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        archive = Path(home, "archive")
        fill(archive, options.studies)
        size = sum(path.stat().st_size for path in archive.rglob("*") if path.is_file()) / options.studies
        for workers in options.workers:
            run(Path(home), workers, options)
        print_limit(archive, size)


def run(home: Path, workers: int, options: argparse.Namespace) -> None:
    """One run, sampled five times a second."""
    name = f"cohort-{workers}"
    (home / "cohort.toml").write_text(f"[run]\npictures = {str(not options.no_pictures).lower()}\n")
    cluster = {"cluster_kwargs": {"n_workers": workers}}
    if options.device == "cuda":
        shared = {"workers_per_gpu": workers}
        cluster = {"cluster_class": "flows.clusters.gpu_workstation", "cluster_kwargs": shared}
    (home / "cluster.yaml").write_text(json.dumps(cluster))
    command = [sys.executable, "-m", "modic", "grade", "archive", "--out", name, "--device", options.device]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    environment |= {"PYTHONPATH": str(ROOT)}
    started, load = time.perf_counter(), os.getloadavg()[0]
    samples = []
    with subprocess.Popen(
        [*command, "--config", "cohort.toml", "--cluster", "cluster.yaml"],
        cwd=home, env=environment, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        while process.poll() is None:
            seconds = time.perf_counter() - started
            samples.append((seconds, done(home / name), of_workers(process.pid), gpu_busy(options.device)))
            time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"modic grade ended with {process.returncode}")
    whole = time.perf_counter() - started
    load = (load + os.getloadavg()[0]) / 2
    print(f"{workers} workers, {options.studies} studies, load {load:.1f}:", end=" ")
    print(f"{whole:.1f} s in all, {whole / options.studies:.2f} s a study", flush=True)
    print_samples(samples, workers, options)
    print_stages(home / name)


def done(cohort: Path) -> int:
    """Studies that are graded so far: of written shards, and of those that are worked at."""
    at = [path.read_text() for path in cohort.glob("private/shards/*/*.at")]
    return sum(max(int(index or 0), 0) for index in at) + len([*cohort.glob("runs/*/shards/*.parquet")])


def of_workers(main_process: int) -> dict[int, tuple[float, float]]:
    """CPU seconds and resident MB of each worker, by its process."""
    found = {}
    try:
        processes = psutil.Process(main_process).children(recursive=True)
    except psutil.Error:
        return {}
    for process in processes:
        try:
            if is_worker(process):
                used = process.cpu_times()
                found[process.pid] = (used.user + used.system, process.memory_info().rss / 1e6)
        except psutil.Error:
            continue
    return found


def gpu_busy(device: str) -> float | None:
    """Share of the last moment in which a kernel ran, 0-100."""
    if device == "cpu":
        return None
    asked = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    return float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0])


def print_samples(samples: list[tuple], workers: int, options: argparse.Namespace) -> None:
    """From the samples of a run: (seconds, studies done, of workers, share of the GPU)."""
    going = [sample for sample in samples if sample[1] > 0 and sample[2]]
    if len(going) < 2:
        return
    (start, first, before, _), (end, last, after, _) = going[0], going[-1]
    used = sum(after[pid][0] - before.get(pid, (0.0, 0.0))[0] for pid in after)
    studies, seconds = max(last - first, 1), end - start
    print(f"  first study graded after {start:.1f} s; then {studies / seconds:.2f} studies/s;", end=" ")
    print(f"workers: {used / studies:.2f} CPU s a study, {used / (seconds * workers):.0%} of the time")
    busy = [sample[3] for sample in going if sample[3] is not None]
    if busy:
        print(f"  GPU busy {sum(busy) / len(busy):.0f} % of the time")
    third = next(sample for sample in going if sample[1] >= options.studies / 3)
    largest = [max(memory for _, memory in sample[2].values()) for sample in (third, going[-1])]
    print("  largest worker: {:.0f} MB after a third of the studies, {:.0f} MB at the end".format(*largest))


def print_stages(cohort: Path) -> None:
    """Means of the seconds that studies spent in each stage."""
    stages: dict[str, list[float]] = defaultdict(list)
    for path in cohort.glob("runs/*/shards/*.parquet"):
        for row in pq.read_table(path, columns=["seconds"], partitioning=None)["seconds"].to_pylist():
            for stage, seconds in row:
                stages[stage].append(seconds)
    print("  " + ", ".join(f"{stage} {sum(values) / len(values):.2f}" for stage, values in stages.items()))


def print_limit(archive: Path, size: float) -> None:
    """What a study takes if only the networks' arithmetic counts."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from modic import pipeline
    from modic.archive.crawl import crawl
    from modic.config import Config
    from modic.models.weights import load_models
    from modic.records import Pair
    from modic.series.identify import identify
    from modic.series.pair import pair

    torch.set_num_threads(1)
    with mock.patch("modic.models.weights.fast_trunk", lambda trunk: trunk):  # ONNX Runtime counts no arithmetic
        config, models = Config(), load_models("detector", "classifier", "cpu")
    found = pair(identify(crawl(archive / "00000", index=None).headers, options=config.identify), options=config.pair)
    (study,) = (one for one in found if isinstance(one, Pair))
    inference, torch.inference_mode = torch.inference_mode, torch.no_grad  # which the counter can see into
    with FlopCounterMode(display=False) as counter:
        pipeline.grade_study(study, models=models, config=config)
    torch.inference_mode = inference
    square = torch.rand(1024, 1024)
    best = min(timed(lambda: square @ square) for _ in range(10))
    speed, flop = 2 * 1024**3 / best / 1e9, counter.get_total_flops() / 1e9
    print(f"limit: {flop:.0f} GFLOP a study, {flop / speed:.2f} CPU s at {speed:.0f} GFLOP/s; {size / 1e6:.0f} MB read")


def timed(work: Any) -> float:
    """CPU seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
