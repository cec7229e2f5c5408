"""On a GPU, where there is one: the same levels and grades as on a CPU, trainings that repeat, memory that ends.

CI has no GPU and skips these; a machine that has one runs them with the rest.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from modic.archive.crawl import crawl
from modic.config import Config
from modic.errors import Reason
from modic.models.weights import load_models
from modic.phantom.archive import write_archive
from modic.pipeline import grade_study
from modic.records import Pair
from modic.run.worker import grade_or_fail
from modic.series.identify import identify
from modic.series.pair import pair
from modic.train.augment.regions import Example
from modic.train.classifier import fit, new_network
from modic.train.data.phantom_discs import phantom_discs
from modic.train.detector import train_detector
from modic.train.inference import predict
from modic.train.loop import prepare, settings_of
from modic.train.options import ClassifierTraining, DetectorTraining
from modic.train.pretrained import Start

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    archive = tmp_path_factory.mktemp("archive")
    write_archive(archive, patients=2, broken=False)
    config = Config()
    found = pair(identify(crawl(archive, index=None).headers, options=config.identify), options=config.pair)
    return [one for one in found if isinstance(one, Pair)]


def test_levels_and_grades_are_those_of_a_cpu(pairs: list[Pair]) -> None:
    for one in pairs:
        cpu, gpu = (
            grade_study(one, models=load_models("detector", "classifier", device), config=Config())
            for device in ("cpu", "cuda")
        )
        assert gpu.numbering == cpu.numbering
        assert gpu.p_numbering == pytest.approx(cpu.p_numbering, abs=0.02)
        for a, b in zip(cpu.levels, gpu.levels, strict=True):
            assert (a.level, a.status) == (b.level, b.status)
            if a.grade and b.grade:
                assert b.grade.mc == a.grade.mc
                assert b.grade.p == pytest.approx(a.grade.p, abs=0.01)


@pytest.fixture
def little_memory() -> Iterator[None]:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)  # less than one image's features
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_study_that_exhausts_the_gpu_fails_alone(
    pairs: list[Pair], little_memory: None, request: pytest.FixtureRequest
) -> None:
    models = load_models("detector", "classifier", "cuda")
    failed = grade_or_fail(pairs[0], models=models, config=Config())
    assert failed.rejected is not None
    assert failed.rejected.reason == Reason.STUDY_OUT_OF_MEMORY
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert grade_or_fail(pairs[0], models=models, config=Config()).levels


def trained(out: Path, *, epochs: int = 2) -> tuple[torch.nn.Module, ClassifierTraining, list[Example]]:
    examples = [Example(disc) for disc in phantom_discs(6, {"region_scale": 1.35, "region_size": 32, "slices": 5})]
    options = ClassifierTraining(
        data=(), out=out, region_size=32, widths=(8, 16, 32, 64), epochs=epochs, epoch_steps=3, batch=6, device="cuda",
        classes=tuple(sorted({one.label for one in examples})), workers=2,
    )  # fmt: skip
    prepare("cuda", seed=0, threads=0)
    net = new_network(options, Start())
    fit(net, {"train": examples, "stop": examples}, options, settings_of(options, epochs=0), out)
    return net, options, examples


def test_the_same_seed_gives_the_same_classifier(tmp_path: Path) -> None:
    (one, options, examples), (other, *_) = trained(tmp_path / "a"), trained(tmp_path / "b")
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    logits = predict(one, examples, options)
    assert np.isfinite(logits).all()
    on_cpu = predict(one.cpu(), examples, ClassifierTraining(data=(), out=tmp_path, region_size=32, device="cpu"))
    np.testing.assert_allclose(logits, on_cpu, atol=0.05)


def test_a_detector_trains_in_bfloat16_and_its_loss_falls(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = train_detector(
        DetectorTraining(
            data=("phantom=30",), out=tmp_path, backbone="resnet18", fpn_channels=32, head_features=64, image_size=128,
            steps=60, epoch_steps=20, batch=4, optimizer="adamw", learning_rate=1e-3, device="cuda", workers=2,
        )
    )  # fmt: skip
    assert path.is_file()
    losses = pq.read_table(tmp_path / "history.parquet")["loss"].to_pylist()
    assert losses[-1] < losses[0]
