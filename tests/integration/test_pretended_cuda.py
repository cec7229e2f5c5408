"""Studies graded on a pretended GPU (tests/support/pretended_cuda.py): nothing mixed up, and the rows of a CPU."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pretended_gpu_worker
from flows import clusters, tasks
from made_cohort import key
from made_studies import GRADER, SHARD, pairs_of, write_shard
from modic.cohort import create_cohort
from modic.config import Config, RunOptions
from modic.errors import DeviceLost, Reason
from modic.models.device import compute_exactly
from modic.models.weights import Models, load_models, load_segmenter
from modic.phantom.archive import write_archive
from modic.pipeline import grade_study
from modic.records import Pair, StudyResult
from modic.run import ledger, worker
from modic.run.shards import Job, Work, position
from pretended_cuda import Device, OnDevice, pretended_cuda


@pytest.fixture
def device() -> Iterator[Device]:
    with pretended_cuda() as pretended:
        yield pretended


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    archive = tmp_path_factory.mktemp("archive")
    write_archive(archive, patients=1, seed=3, broken=False)
    return pairs_of(archive)


MIXTURES: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "sum": lambda here, there: here + there,
    "joined": lambda here, there: torch.cat([here, there]),
    "product": lambda here, there: here @ there,
    "indices of the device": lambda here, there: there[here.long()],
    "values put": lambda here, there: here.index_put_((torch.tensor([0]),), there[:1]),
    "weights": lambda here, there: torch.nn.Linear(3, 3).to("cuda")(there),
}


@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)
@pytest.mark.parametrize("inference", [False, True])
def test_tensors_of_both_are_refused(
    device: Device, mixture: Callable[[torch.Tensor, torch.Tensor], Any], inference: bool
) -> None:
    with torch.inference_mode(inference):
        here, there = torch.ones(3, 3).to("cuda"), torch.ones(3, 3)
        with pytest.raises(RuntimeError, match=r"same device"):
            mixture(here, there)
        mixture(here, there.cuda())


def test_memory_of_the_device_is_not_read_by_the_host(device: Device) -> None:
    values = torch.arange(3.0, device="cuda")
    assert (values.device, values.is_cuda) == (torch.device("cuda:0"), True)
    for read in (values.numpy, lambda: np.asarray(values)):
        with pytest.raises(TypeError, match=r"can't convert cuda:0 device type tensor to numpy"):
            read()
    np.testing.assert_array_equal((values * torch.tensor(2.0)).cpu().numpy(), [0, 2, 4])
    assert values[torch.tensor([2, 1])].tolist() == [2, 1]
    assert isinstance(values.cpu().to(values), OnDevice)


def test_what_a_gpu_would_be_asked_is_counted(device: Device) -> None:
    values = torch.ones(4, 3, 8, 8).to("cuda")
    kernel = torch.ones(5, 3, 1, 1).to("cuda")
    before = device.counts.copy()
    assert float(torch.conv2d(values, kernel).relu().view(-1)[0]) == 3.0
    counts = device.counts - before
    assert (counts.kernels, counts.waits, counts.bytes_down) == (2, 1, 4)
    assert counts.flop == 2 * 4 * 64 * 3 * 5
    assert before.bytes_up == 4 * (values.numel() + kernel.numel())
    size = device.used_bytes
    del values
    assert size - device.used_bytes == 4 * 4 * 3 * 64


def test_memory_ends(device: Device) -> None:
    torch.cuda.set_per_process_memory_fraction(1e-8)
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(2**20, device="cuda")


@pytest.fixture(scope="module")
def cpu(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    models = load_models("detector", "classifier", "cpu")
    return grade_study(pairs[0], models=models, config=Config(), pictures=tmp_path_factory.mktemp("cpu"))


@pytest.fixture(scope="module")
def on_gpu() -> Models:
    with pretended_cuda():
        return load_models.__wrapped__("detector", "classifier", "cuda")


def agree(cpu: StudyResult, gpu: StudyResult, tolerance: float = 1e-4) -> None:
    """Both are graded alike, pictures and all."""
    assert (gpu.rejected, gpu.numbering, gpu.warnings) == (cpu.rejected, cpu.numbering, cpu.warnings)
    assert gpu.p_numbering == pytest.approx(cpu.p_numbering, abs=tolerance)
    for a, b in zip(cpu.levels, gpu.levels, strict=True):
        assert (b.level, b.status, b.endplates) == (a.level, a.status, a.endplates)
        if a.grade and b.grade:
            assert b.grade.mc == a.grade.mc
            assert (b.grade.prediction_set, b.grade.abstained_reason) == (
                a.grade.prediction_set,
                a.grade.abstained_reason,
            )
            assert b.grade.p == pytest.approx(a.grade.p, abs=tolerance)


def test_a_study_is_graded_as_on_a_cpu_and_asks_little_of_the_gpu(
    pairs: list[Pair], cpu: StudyResult, on_gpu: Models, device: Device, tmp_path: Path
) -> None:
    """With the rounding of TF32, which torch allows in convolutions, probabilities differ by 1e-3.

    Each kernel costs some 10 us and each wait some 20; with torchvision's own stages these were 3,930 and 262.
    """
    compute_exactly()
    gpu = grade_study(pairs[0], models=on_gpu, config=Config(), pictures=tmp_path)
    assert [level.status for level in cpu.levels].count("graded") == 6
    assert not [text for text in cpu.warnings if "pictures" in text]
    agree(cpu, gpu)
    assert len(list(tmp_path.iterdir())) > 1
    counts = device.counts
    assert counts.flop > 5e10
    assert counts.kernels < 750, counts.by_operator
    assert counts.waits <= 16, counts.waited_at
    assert counts.peak_bytes < 2**30


def test_networks_on_a_gpu_compute_in_float32(device: Device) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    load_segmenter(device="cuda")
    assert not (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


def shard_of(pair: Pair, folder: Path, studies: int) -> tuple[Job, list[Work]]:
    """A shard to be graded on a GPU, without pictures."""
    (folder / "archive").mkdir()
    cohort = create_cohort(folder / "cohort", archive=folder / "archive")
    job = Job(cohort, "20261123T200000Z-1f0c", "cuda", 300.0, GRADER)
    work = [Work(key("s", index), "print", pair=pair) for index in range(studies)]
    write_shard(job, work, replace(Config(), run=RunOptions(pictures=False)))
    return job, work


def test_a_worker_of_a_shared_gpu_grades_as_a_cpu_does(
    pairs: list[Pair], cpu: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As flows start it: in a process of its own, with the shard that it is sent."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")
    preloaded = ["flows.dask_worker", str(Path(pretended_gpu_worker.__file__))]
    monkeypatch.setitem(clusters.SETTINGS, "distributed.worker.preload", preloaded)
    job, (work,) = shard_of(pairs[0], tmp_path, 1)
    spec = clusters.ClusterSpec("flows.clusters.gpu_workstation", {"workers_per_gpu": 2})
    with clusters.connect(spec, shards=1) as client:
        tasks.run_shard(SHARD, job, client, lambda done: None)
    (row,) = ledger.read_ledger(job.cohort).to_pylist()
    assert (row["study_key"], row["status"], row["device"]) == (work.study_key, "graded", "cuda")
    for level, expected in zip(row["levels"], cpu.levels, strict=True):
        assert expected.grade is not None
        assert [level[f"p_mc{k}"] for k in range(3)] == pytest.approx(expected.grade.p, abs=1e-4)
        assert level["mc"] == expected.grade.mc


def test_a_worker_whose_gpu_is_lost_ends_at_that_study(
    pairs: list[Pair], on_gpu: Models, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = shard_of(pairs[0], tmp_path, 3)
    monkeypatch.setattr(worker, "load_models", lambda *_: on_gpu)
    monkeypatch.setattr(worker, "working_device", lambda _: "cuda")
    device.lost = True
    with pytest.raises(DeviceLost, match="the GPU no longer answers"):
        worker.grade_shard(job, SHARD)
    assert position(job, SHARD) == 0 and not job.output(SHARD).exists()


def test_a_study_for_which_there_is_no_memory_leaves_none_behind(
    pairs: list[Pair], on_gpu: Models, device: Device
) -> None:
    device.limit_bytes = 2**24  # the detector's first maps need more
    result = worker.grade_or_fail(pairs[0], models=on_gpu, config=Config())
    assert result.rejected is not None
    assert result.rejected.reason is Reason.STUDY_OUT_OF_MEMORY
    gc.collect()
    assert (device.used_bytes, device.counts.peak_bytes > 2**20) == (0, True)
