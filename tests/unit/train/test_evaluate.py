"""`modic evaluate`: what a user finds in the terminal and in the folder, and views made harder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from labelled_images import boxed, pictures, table
from made_discs import GEOMETRY, made_up
from modic.cli.main import main
from modic.models.classifier import build_classifier
from modic.models.detector import build_detector
from modic.models.weights import save_weights
from modic.records import LEVELS, LevelBox, LevelSet
from modic.statistics import metric_tables
from modic.train import detector_results
from modic.train.augment.regions import BOX_MM, Example, Stress, measuring_view, shown, stressed
from modic.train.data.disc_geometry import DiscGeometry
from modic.train.data.discs import Disc, save_discs, scanner_name
from modic.train.data.phantom_slices import phantom_samples
from modic.train.data.samples import Sample
from modic.train.data.split import split_of
from modic.train.evaluate_classifier import MADE_UP, about_mc1, grouped
from modic.train.evaluate_detector import by_patient


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_tables, "DRAWS", 20)


def spot(patient: str = "a") -> Disc:
    """A smooth bright spot in the middle of both contrasts, on slices of different brightness."""
    y, x = np.indices((96, 96)) - 47.5
    image = np.exp(-(x**2 + y**2) / 50) * np.arange(1, 6)[:, None, None]
    shape = DiscGeometry(width=64 / 1.35 * np.cos(0.2), thickness=0.22, tilt=0.2)
    return Disc(dict.fromkeys(("t1", "t2"), image.astype(np.float32)), 0, "L4/L5", patient, "phantom", shape, 3)


def view(seed: int, **stress: Any) -> np.ndarray:
    return measuring_view(Example(spot()), seed, size=64, method="none", stress=Stress(**stress))


def centre(image: np.ndarray) -> np.ndarray:
    """(column, row) of the spot's centre of mass."""
    y, x = np.indices(image.shape)
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()


def test_without_stress_a_view_is_what_calibration_saw() -> None:
    plain = measuring_view(Example(spot()), 3, size=64, method="none")
    assert np.array_equal(plain, view(3)) and not np.array_equal(plain, view(3, jitter=0.1))


def test_misregistered_t1_is_off_by_so_many_mm_and_t2_stays() -> None:
    directions = []
    for seed in range(6):
        plain, off = view(seed), view(seed, misregister_mm=2)
        assert np.array_equal(plain[1], off[1])
        moved = centre(off[0, 2]) - centre(plain[0, 2])
        assert np.linalg.norm(moved) == pytest.approx(2 * 64 / 1.35 / BOX_MM, rel=0.03)  # the box is 64 / 1.35 px wide
        directions.append(np.arctan2(*moved))
    assert np.ptp(directions) > 1


def test_jittered_boxes_move_both_contrasts_alike_and_by_no_more_than_said() -> None:
    moved, sizes = [], []
    for seed in range(30):
        plain, off = view(seed), view(seed, jitter=0.1)
        shift = [centre(off[c, 2]) - centre(plain[c, 2]) for c in (0, 1)]
        assert np.abs(shift[0] - shift[1]).max() < 0.2
        moved.append(shift[1])
        sizes.append(off[1, 2].sum() / plain[1, 2].sum())
    assert 0.06 < np.abs(moved).max() / (64 / 1.35) <= 0.112  # and a little of the view's own shift, zoomed
    assert 1 / 1.1**2 - 0.05 < min(sizes) < 0.9 < 1.1 < max(sizes) < 1.1**2 + 0.1
    zooms = [stressed(GEOMETRY, Stress(jitter=0.1), seed)[0] for seed in range(200)]
    assert 1 / 1.1 <= min(zooms) < 0.93 and 1.07 < max(zooms) <= 1 / 0.9


def test_fewer_slices_repeat_the_nearest() -> None:
    assert [shown(5, n).tolist() for n in (1, 3, 5)] == [[2] * 5, [1, 1, 2, 3, 3], [0, 1, 2, 3, 4]]
    whole = view(0)
    for different in (1, 3):
        thin = view(0, slices=different)
        for z, source in enumerate(shown(5, different)):
            np.testing.assert_allclose(thin[:, z] / thin[:, 2].max(), whole[:, source] / whole[:, 2].max(), rtol=1e-5)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """An untrained network with a card."""
    architecture = {"depth": 10, "widths": [4, 4, 8, 8]}
    torch.manual_seed(0)
    card = {
        "kind": "classifier", "architecture": architecture,
        "preprocessing": {"normalization": "standardize", "region_scale": 1.35, "region_size": 32, "slices": 5},
        "calibration": {"temperature": 2.0, "conformal_q": [0.7, 0.7, 0.7]},
    }  # fmt: skip
    return save_weights(tmp_path / "mine.safetensors", build_classifier(architecture).state_dict(), card)


def grade(classifier: Path, out: Path, *more: str) -> int:
    save_discs(out / "cache" / "phantom-40-1.35-32.npz", made_up())
    weights = ["--weights", str(classifier), "--device", "cpu"]
    return main(["evaluate", "classifier", "--data", "phantom=40", "--out", str(out), *weights, *more])


def test_a_classifier_is_evaluated(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert grade(classifier, out) == 0
    said, written = capsys.readouterr().out, (out / "evaluation.md").read_text(encoding="utf-8")
    assert MADE_UP in said and MADE_UP in written and "Cohen's kappa" in said
    metrics = pq.read_table(out / "metrics.parquet")
    assert all(field.metadata[b"description"] for field in metrics.schema)
    rows = metrics.to_pylist()
    assert {row["group"] for row in rows} == {"real", "real and painted MC1", "phantom"}
    for row in rows:
        assert row["n_patients"] <= row["n"] and (row["low"] is None or row["low"] <= row["high"])
        assert row["note"] == ("" if row["group"] == "real" else MADE_UP)
    names = {row["metric"] for row in rows}
    assert {"sensitivity", "specificity", "F1", "ROC AUC", "coverage", "abstained", "balanced accuracy"} <= names
    assert {"calibration error before temperature", "calibration error", "Brier before temperature", "Brier"} <= names
    discs = pq.read_table(out / "predictions.parquet")
    assert all(field.metadata[b"description"] for field in discs.schema)
    assert {split_of(p) for p in discs["patient"].to_pylist()} == {"test"}
    for row in discs.to_pylist():
        p = [row[f"p_mc{k}"] for k in range(3)]
        assert sum(p) == pytest.approx(1) and row["mc"] == int(np.argmax(p))
        assert row["abstained"] == (len(row["prediction_set"]) != 1)
        logits = np.array([row[f"logit{k}"] for k in range(3)]) / 2
        assert p == pytest.approx(np.exp(logits) / np.exp(logits).sum())
    assert cv2.imread(str(out / "reliability.png")).shape == (520, 1270, 3)


def test_all_patients_and_harder_images(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, hard = tmp_path / "plain", tmp_path / "hard"
    assert grade(classifier, plain, "--part", "all") == 0
    assert grade(classifier, hard, "--part", "all", "--jitter", "0.1", "--misregister-mm", "2", "--slices", "1") == 0
    a, b = (pq.read_table(out / "predictions.parquet").to_pylist() for out in (plain, hard))
    assert {row["patient"] for row in a} == {f"p{i}" for i in range(40)}
    assert [row["label"] for row in a] == [row["label"] for row in b]
    assert [row["logit0"] for row in a] != [row["logit0"] for row in b]
    assert {row["condition"] for row in b} == {"boxes ±10%, T1 2 mm off T2, slices shown: 1"}
    assert "boxes ±10%" in (hard / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--jitter", "0.5"], "--jitter 0.5"),
        (["--misregister-mm", "-1"], "--misregister-mm -1"),
        (["--weights", "nowhere.safetensors"], "does not exist"),
        (["--data", "phantom=many"], "phantom=many"),
    ],
)
def test_a_mistake_is_named(
    more: list[str], said: str, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert grade(classifier, tmp_path / "out", *more) == 2
    assert said in capsys.readouterr().err


def test_data_without_test_patients_are_said_to_have_none(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_discs(tmp_path / "cache" / "phantom-4-1.35-32.npz", made_up(4))
    arguments = ["--data", "phantom=4", "--weights", str(classifier), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["evaluate", "classifier", *arguments]) == 2
    assert "--part all" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["classifier", "detector"])
def test_another_hospitals_few_patients_are_all_taken(
    model: str, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two patients are too few to train on, and enough to measure on."""
    monkeypatch.setattr(detector_results, "find_levels", finder([(0, "ok")] * 10))
    data = f"slices={pictures(tmp_path / 'slices', ['1', '2'])}"
    labels = table(tmp_path / "labels.csv", [*boxed("1", slice=""), *boxed("2", slice="")])
    weights = ["--weights", str(classifier)] if model == "classifier" else []
    arguments = [model, "--data", data, "--labels", str(labels), *weights, "--device", "cpu", "--part", "all"]
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 0
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert {row["patient"] for row in rows} == {"1", "2"}
    assert main(["train", model, *arguments[1:5], "--out", str(tmp_path / "trained"), "--device", "cpu"]) == 2
    assert "of 2 patients none falls into the part" in capsys.readouterr().err


def disc(source: str, label: int) -> Disc:
    image = np.zeros((5, 4, 4), np.float32)
    return Disc(dict.fromkeys(("t1", "t2"), image), label, "L4/L5", "p", source, GEOMETRY, 0)


def test_what_is_said_of_type_1_depends_on_whose_lesions_they_are() -> None:
    own, healthy, phantom = Example(disc("clinic", 1)), Example(disc("spider", 0)), Example(disc("phantom", 1))
    painted = Example(disc("spider", 0), painted=1)
    assert about_mc1([healthy]) == "" == about_mc1([own, healthy])
    assert about_mc1([healthy, painted]) == MADE_UP == about_mc1([phantom])
    assert about_mc1([own, painted, phantom]) == "MC1: 1 real discs, 2 synthetic or painted ones"
    assert grouped([own, healthy, painted, phantom]) == {
        "real": [0, 1], "real and painted MC1": [0, 1, 2], "phantom": [3],
    }  # fmt: skip
    assert grouped([own, healthy]) == {"real": [0, 1]}


def test_real_discs_are_also_measured_by_scanner() -> None:
    scanners = [scanner_name("SIEMENS", "1.5"), scanner_name("Philips Medical Systems", 3.0), scanner_name("GE", None)]
    assert scanners == ["Siemens 1.5 T", "Philips 3 T", ""]
    assert scanner_name("<b>|evil", 1.5) == ""
    examples = [Example(replace(disc("spider", 0), scanner=scanner)) for scanner in scanners]
    assert grouped(examples) == {"real": [0, 1, 2], "real, Philips 3 T": [1], "real, Siemens 1.5 T": [0]}
    assert grouped(examples[1:]) == {"real": [0, 1]}


def spine(patient: str, contrast: str = "t2") -> Sample:
    boxes = np.array([[40.0, 20 + 40 * i, 80, 34 + 40 * i] for i in range(6)])
    return Sample(patient, contrast, np.zeros((280, 120), np.uint8), boxes, np.arange(6))


def finder(answers: list[tuple[int, str]]) -> Any:
    """A stand-in for `find_levels`: per slice, by how many levels its names are shifted, and its numbering."""
    left = iter(answers)

    def find(*_: Any, **__: Any) -> LevelSet:
        shift, numbering = next(left)
        sample = spine("x")
        boxes = [
            LevelBox(LEVELS[i + shift], (*box[:3], box[3] - 7), 0, 0.9)  # half of the disc: IoU 0.5
            for i, box in enumerate(sample.boxes.tolist()) if i + shift < 6
        ]  # fmt: skip
        return LevelSet(tuple(boxes), numbering, 0.8)

    return find


def test_levels_are_compared_with_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_results, "find_levels", finder([(0, "ok"), (1, "uncertain")]))
    rows = detector_results.compare([spine("a"), spine("b")], None)  # type: ignore[arg-type]
    a, b = ([row for row in rows if row["patient"] == name] for name in "ab")
    assert [row["iou"] for row in a] == [pytest.approx(0.5)] * 6 and all(row["slice_right"] for row in a)
    assert [row["named_right"] for row in b] == [False] * 6 and not b[0]["slice_right"]
    assert b[0]["found_x0"] is None and b[1]["found_y0"] == 20 and b[1]["true_y0"] == 60
    monkeypatch.setattr(detector_results, "find_levels", finder([(0, "ok"), (1, "ok")]))
    card = detector_results.evaluate([spine("a"), spine("b")], None)  # type: ignore[arg-type]
    assert card["all_named_right"] == 0.5
    assert card["L5/S1"] == {"n": 2, "iou": 0.5, "score": 0.9, "named_right": 0.5}


def test_a_level_claimed_where_none_is_makes_a_slice_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_results, "find_levels", finder([(0, "ok")]))
    whole = spine("a")
    cropped = Sample("a", "t2", whole.image, whole.boxes[1:], whole.names[1:])
    rows = detector_results.compare([cropped], None)  # type: ignore[arg-type]
    assert rows[0]["level"] == "T12/L1" and rows[0]["iou"] is None and not rows[0]["slice_right"]
    assert len(detector_results.present_discs(rows)[0]) == 5


def test_a_patient_is_wrong_where_any_slice_is_and_flagged_where_all_its_wrong_ones_are() -> None:
    slices = [
        ("fine", True, False), ("careful", True, True), ("careful", True, False), ("caught", False, True),
        ("caught", True, False), ("missed", False, True), ("missed", False, False),
    ]  # fmt: skip
    assert by_patient(slices) == [
        ("careful", True, True), ("caught", False, True), ("fine", True, False), ("missed", False, False),
    ]  # fmt: skip


def test_a_detector_is_evaluated_beside_the_papers_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = {"backbone": "resnet18", "fpn_channels": 16, "head_features": 16}
    card = {
        "kind": "detector", "architecture": architecture,
        "preprocessing": {"image_size": 96, "percentiles": [1, 99]},
    }  # fmt: skip
    weights = save_weights(tmp_path / "mine.safetensors", build_detector(architecture).state_dict(), card)
    out = tmp_path / "out"
    phantom_samples(6, seed=0, cache=out / "cache")
    monkeypatch.setattr(detector_results, "find_levels", finder([(0, "ok"), (1, "uncertain")] * 10))
    arguments = ["--data", "phantom=6", "--weights", str(weights), "--out", str(out), "--device", "cpu"]
    assert main(["evaluate", "detector", *arguments]) == 0
    said = capsys.readouterr().out
    assert "0.70" in said and "0.98" in said and "wrong ones flagged" in said
    rows = pq.read_table(out / "predictions.parquet").to_pylist()
    assert {split_of(row["patient"]) for row in rows} == {"test"}
    metrics = pq.read_table(out / "metrics.parquet").to_pylist()
    flagged = [
        m for m in metrics if (m["group"], m["metric"], m["which"]) == ("phantom", "flagged uncertain", "slices")
    ]
    assert flagged[0]["n"] == len({row["slice"] for row in rows})
