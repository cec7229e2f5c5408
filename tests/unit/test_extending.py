"""What another network and another contrast cost: a module, a line, a card. No stage knows of either."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dicoms import series, stir, t1, t2, write
from modic import pipeline
from modic.archive.crawl import crawl
from modic.config import Config, IdentifyOptions, PairOptions
from modic.errors import WeightsError
from modic.models.card import read_card, sha256
from modic.models.classifier import BACKBONES, build_classifier
from modic.models.network import Network
from modic.models.weights import Models, load_classifier
from modic.records import LevelBox, LevelSet, Pair
from modic.run.prepare import prepare
from modic.run.survey import find_studies
from modic.series.identify import identify
from modic.series.pair import pair

WANTED = ["t2", "stir", "t1"]


class MeanOfContrasts(nn.Module):
    """A toy network: the mean of each of its three channels is the logit of one Modic type."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3, 4)) * self.scale

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def logits(self, encoding: torch.Tensor) -> torch.Tensor:
        return self(encoding)

    def slice_logits(self, encoding: torch.Tensor) -> torch.Tensor:
        return encoding.mean((3, 4)).transpose(1, 2) * self.scale

    def saliency(self, encoding: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return encoding.abs()[..., ::2, ::2] * nn.functional.one_hot(classes, encoding.shape[1])[..., None, None, None]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of the toy network, whose card asks for three contrasts; its one line in the table of networks."""
    monkeypatch.setitem(BACKBONES, "toy", lambda _, names: MeanOfContrasts(len(names)))
    path = tmp_path / "toy.safetensors"
    save_file(MeanOfContrasts(3).state_dict(), path)
    card = {
        "kind": "classifier",
        "architecture": {"backbone": "toy"},
        "preprocessing": {
            "normalization": "none", "region_scale": 1.5, "region_size": 8, "slices": 5, "contrasts": WANTED,
        },
        "calibration": {"temperature": 1.0, "conformal_q": [0.9] * 3},
        "sha256": sha256(path),
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


@pytest.fixture
def study(tmp_path: Path) -> Pair:
    """T1, T2 and STIR on one grid, each of one constant value: 10, 20, 30."""
    slices = []
    for name, values, value in (("t1", t1(), 10), ("t2", t2(), 20), ("stir", stir(), 30)):
        for slice_ in series(values, name=name, rows=64, columns=48, spacing=(2.0, 2.0)):
            pixels = np.full((64, 48), value, np.uint16)
            pixels[0, 0] = 0  # a slice of one value only would count as blank
            slice_.PixelData = pixels.tobytes()
            slices.append(slice_)
    write(slices, tmp_path / "archive")
    headers = crawl(tmp_path / "archive", index=None).headers
    found = identify(headers, contrasts=WANTED, options=IdentifyOptions())
    (chosen,) = pair(found, contrasts=WANTED, options=PairOptions())
    assert isinstance(chosen, Pair)
    return chosen


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that finds two discs."""
    boxes = tuple(
        LevelBox(name, box, 5, 0.9) for name, box in (("L4/L5", (10, 20, 40, 30)), ("L5/S1", (10, 38, 40, 48)))
    )
    monkeypatch.setattr(pipeline, "find_levels", lambda *_, **__: LevelSet(boxes, "ok", 0.99))
    monkeypatch.setattr(pipeline, "check_orientation", lambda *_, **__: None)


def logits_of(p: tuple[float, ...]) -> list[float]:
    """Logits of probabilities, less the first one's."""
    return [float(np.log(value / p[0])) for value in p]


@pytest.mark.usefixtures("found")
def test_a_toy_network_grades_three_contrasts_in_the_order_of_its_card(toy: Path, study: Pair, tmp_path: Path) -> None:
    models = Models(None, load_classifier(str(toy)))  # type: ignore[arg-type]
    result = pipeline.grade_study(study, models=models, config=Config(), pictures=tmp_path / "case")
    assert result.rejected is None and result.warnings == ()
    grades = [level.grade for level in result.levels if level.grade]
    assert [grade.level for grade in grades] == ["L4/L5", "L5/S1"]
    for grade in grades:  # `none` divides by the largest value: each channel is 1
        assert logits_of(grade.p) == pytest.approx([0, 0, 0], abs=1e-5)
        assert len(grade.alone) == 5
    assert (tmp_path / "case" / "case.json").is_file()


@pytest.mark.usefixtures("found")
def test_channels_arrive_in_the_order_of_the_card(toy: Path, study: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "normalize", lambda region, **_: region)
    models = Models(None, load_classifier(str(toy)))  # type: ignore[arg-type]
    result = pipeline.grade_study(study, models=models, config=Config())
    grade = result.levels[-1].grade
    assert grade is not None
    assert logits_of(grade.p) == pytest.approx([0, 10, -10], abs=1e-3)  # T2 20, STIR 30, T1 10


def test_a_pair_without_the_contrast_is_refused_by_name(toy: Path, study: Pair) -> None:
    models = Models(None, load_classifier(str(toy)))  # type: ignore[arg-type]
    two = replace(study, contrasts={name: study.contrasts[name] for name in ("t1", "t2")})
    with pytest.raises(WeightsError, match="asks for contrast stir; the pair holds t1, t2"):
        pipeline.grade_study(two, models=models, config=Config())


@pytest.mark.usefixtures("study")
def test_a_run_pairs_the_contrasts_that_its_card_asks_for(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "cohort.toml").write_text(f'classifier = "{toy}"\n', encoding="utf-8")
    archive, cohort = str(tmp_path / "archive"), str(tmp_path / "cohort")
    (asked,) = find_studies(prepare(archive, cohort, config=str(tmp_path / "cohort.toml"), device="cpu")).pairs
    assert list(asked.contrasts) == ["t1", "t2", "stir"]
    (shipped,) = find_studies(prepare(archive, cohort, device="cpu")).pairs
    assert list(shipped.contrasts) == ["t1", "t2"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["t1", "flair"], "asks for contrasts flair; known: t1, t2, stir"),
        ([], "must be a list of different names"),
        (["t1", "t1"], "must be a list of different names"),
        ("t1", "contrasts must be list, not str"),
    ],
)
def test_contrasts_that_no_series_has_are_refused(toy: Path, names: Any, words: str) -> None:
    card = json.loads(toy.with_suffix(".json").read_text())
    card["preprocessing"]["contrasts"] = names
    toy.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=words):
        read_card(str(toy), "classifier")


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("names", [("t1", "t2"), ("t2", "stir", "t1")])
def test_every_network_offers_what_grading_asks_for(backbone: str, names: tuple[str, ...]) -> None:
    small = {"depth": 10, "widths": [4, 4, 4, 4]} if backbone == "resnet3d" else {}
    net = build_classifier({"backbone": backbone, **small}, names).eval()
    assert isinstance(net, Network)
    x = torch.rand(2, len(names), 5, 32, 32)
    encoding = net.encode(x)
    assert net.logits(encoding).shape == (2, 3)
    assert net.slice_logits(encoding).shape == (2, 5, 3)
    torch.testing.assert_close(net.logits(encoding), net(x))
    maps = net.saliency(encoding, torch.tensor([0, 2]))
    assert maps.shape[:2] == (2, len(names)) and maps.min() >= 0
