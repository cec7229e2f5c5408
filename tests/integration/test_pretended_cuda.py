"""Studies graded on a pretended GPU (tests/support/pretended_cuda.py): nothing mixed up, and the rows of a CPU."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from made_studies import pairs_of
from modic.config import Config
from modic.models.weights import load_models
from modic.phantom.archive import write_archive
from modic.pipeline import grade_study
from modic.records import Pair, StudyResult
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


def on_cpu_and_gpu(pair: Pair, folder: Path, names: tuple[str, str] = ("detector", "classifier")) -> list[StudyResult]:
    """The study, with its pictures, by a CPU and by a pretended GPU."""
    found = [grade_study(pair, models=load_models(*names, "cpu"), config=Config(), pictures=folder / "cpu")]
    with pretended_cuda() as device:
        models = load_models.__wrapped__(*names, "cuda")
        found.append(grade_study(pair, models=models, config=Config(), pictures=folder / "cuda"))
        assert device.counts.flop > 1e9
    return found


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


def test_a_study_is_graded_as_on_a_cpu(pairs: list[Pair], tmp_path: Path) -> None:
    """With the rounding of TF32, which torch allows in convolutions, probabilities differ by 1e-3."""
    cpu, gpu = on_cpu_and_gpu(pairs[0], tmp_path)
    assert [level.status for level in cpu.levels].count("graded") == 6
    assert not [text for text in cpu.warnings if "pictures" in text]
    agree(cpu, gpu)
    drawn = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("cpu", "cuda")]
    assert drawn[0] == drawn[1] and drawn[0]


def test_a_study_asks_little_of_a_gpu_beside_its_networks(pairs: list[Pair]) -> None:
    """Each kernel costs a GPU's worker some 10 us and each wait some 20; 3,930 and 262 before they were counted."""
    with pretended_cuda() as device:
        models = load_models.__wrapped__("detector", "classifier", "cuda")
        before = device.counts.copy()
        grade_study(pairs[0], models=models, config=Config())
        counts = device.counts - before
    assert counts.kernels < 750
    assert counts.waits <= 14, counts.waited_at
    assert counts.peak_bytes < 2**30
