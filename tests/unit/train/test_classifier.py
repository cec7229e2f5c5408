"""Training of the grader on made-up discs: data, lesions, calibration, and weights that the service loads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from made_discs import made_up
from modic.errors import UsageError
from modic.grading.classify import grade_regions
from modic.imaging.normalize import normalize
from modic.models.weights import load_classifier
from modic.records import Region
from modic.statistics.calibration import conformal_quantiles, fit_scaling, held_out_coverage
from modic.statistics.metrics import auc, auc_0_2, measure
from modic.train import classifier, inference, sampling
from modic.train.augment.lesions import paint
from modic.train.augment.regions import Example, measuring_view, training_view
from modic.train.data.disc_geometry import DiscGeometry, disc_geometry
from modic.train.data.discs import save_discs, wide
from modic.train.data.spider_discs import spider_discs
from modic.train.data.split import part_of
from modic.train.options import ClassifierTraining
from modic.train.pretrained import Start
from modic.train.refit_head import refit_head

PREPROCESSING = {"normalization": "standardize", "region_scale": 1.35, "region_size": 32, "slices": 5}


def spine(columns: float, rows: float, values: tuple[float, float, float]) -> np.ndarray:
    """uint8 slice: six dark discs 40 px wide, 60 px apart, in bright marrow; `values`: marrow, disc, outside."""
    marrow, disc, outside = values
    image = np.full((440, 200), outside, np.uint8)
    image[20:420, 80:120] = marrow
    for i in range(6):
        image[56 + 60 * i : 64 + 60 * i, 80:120] = disc
    return cv2.resize(image, (round(200 * columns), round(440 * rows)))


@pytest.fixture
def spider(tmp_path: Path) -> Path:
    """A folder laid out as SPIDER's: patient 1 with both contrasts boxed, 2 with T1 of another size, 3 without T1."""
    (tmp_path / "images").mkdir()
    rows = ["Patient,IVD label,Modic,UP endplate,LOW endplate,a,b,c,d,Pfirrman grade"]
    boxes: dict[str, Any] = {}
    for patient, zoom in ((1, 1.0), (2, 1.5), (3, None)):
        for name, scale in (("t1", zoom), ("t2", 1.0)):
            if scale is not None:
                image = spine(scale, scale, (200, 90, 20) if name == "t1" else (120, 40, 220))
                cv2.imwrite(str(tmp_path / "images" / f"{patient}_{name}.png"), image)
                found = [[round(v * scale) for v in (80, 54 + 60 * i, 120, 66 + 60 * i)] for i in range(6)]
                boxes[f"{patient}_{name}"] = {
                    "boxes_xyxy_top_to_bottom": found,
                    "modic_top_to_bottom": [0, 0, 1, 2, 3, 0],
                }
        rows += [f"{patient},{n},{(0, 3, 2, 1, 0, 0)[n - 1]},0,0,0,0,0,0,3" for n in range(1, 7)]
    (tmp_path / "disc_boxes.json").write_text(json.dumps(boxes))
    (tmp_path / "gradings.csv").write_text("\n".join(rows))
    return tmp_path


def test_spider_discs_are_counted_from_the_sacrum_and_both_contrasts_line_up(spider: Path) -> None:
    discs = spider_discs(spider, PREPROCESSING)
    assert {d.patient for d in discs} == {"1", "2"}
    assert [(d.level, d.label) for d in discs if d.patient == "2"] == [
        ("T12/L1", 0),
        ("L1/L2", 0),
        ("L2/L3", 1),  # for testing only: patient 2 is a test patient
        ("L3/L4", 2),
        ("L5/S1", 0),
    ]
    for disc in discs:
        assert disc.contrasts["t1"].shape == (1, 48, 48)
        rows = [np.argmin(image[0, 8:-8, 24]) + 8 for image in disc.contrasts.values()]
        assert np.abs(np.array(rows) - 23.5).max() <= 2  # the dark disc is in the middle of both


def test_a_patient_whose_contrasts_name_different_discs_is_left_out(spider: Path) -> None:
    boxes = json.loads((spider / "disc_boxes.json").read_text())
    for key, scale in (("1_t1", 1.0), ("2_t1", 1.5)):  # one level up: the lowest disc was overlooked
        for box in boxes[key]["boxes_xyxy_top_to_bottom"]:
            box[1], box[3] = box[1] - 60 * scale, box[3] - 60 * scale
    (spider / "disc_boxes.json").write_text(json.dumps(boxes))
    assert spider_discs(spider, PREPROCESSING) == []


def test_a_folder_without_spider_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="spider"):
        spider_discs(tmp_path, PREPROCESSING)


def test_a_region_with_margin_keeps_the_pixel_grid() -> None:
    larger = wide(PREPROCESSING)
    assert larger["region_scale"] / larger["region_size"] == pytest.approx(1.35 / 32)
    assert larger["region_size"] == 48


def test_painted_lesions_look_as_their_type_does_and_spare_disc_and_canal() -> None:
    y, x = np.indices((96, 96)) - 47.5
    bone = (np.abs(x) < 23) & (np.abs(y) > 5)
    for seed in range(8):
        for kind, t1_goes in ((1, -1), (2, 1)):
            t1, t2 = (np.where(bone, a, b) * np.ones((5, 1, 1)) for a, b in ((200.0, 80.0), (120.0, 60.0)))
            t1, t2 = t1.astype(np.float32), t2.astype(np.float32)
            before = t1.copy(), t2.copy()
            paint({"t1": t1, "t2": t2}, kind, DiscGeometry(47.4, 0.22, 0.0), np.random.default_rng(seed))
            d1, d2 = t1 - before[0], t2 - before[1]
            assert (d1 * t1_goes).max() > 20
            assert (d1 * t1_goes).min() > -1e-3
            assert d2.max() > 5
            assert np.abs(d2[:, ~bone]).max() < 0.1 * d2.max() + 1
            assert np.abs(d1[:, np.abs(y[:, 0]) > 0.7 * 47.4]).max() < 0.2 * np.abs(d1).max()


def test_the_tilt_is_read_from_a_box() -> None:
    assert disc_geometry((0, 0, 100, 22), front_down=True, width_px=50).tilt == pytest.approx(0, abs=1e-6)
    c, s = np.cos(np.deg2rad(30)), np.sin(np.deg2rad(30))
    box = (0.0, 0.0, 100 * c + 22 * s, 100 * s + 22 * c)
    assert np.rad2deg(disc_geometry(box, front_down=True, width_px=50).tilt) == pytest.approx(30, abs=0.1)
    assert disc_geometry(box, front_down=False, width_px=50).tilt < 0


def test_views_have_the_networks_shape_and_measuring_ones_repeat() -> None:
    example = Example(made_up(2)[-1])
    view = training_view(example, np.random.default_rng(0), size=32, method="standardize")
    assert view.shape == (2, 5, 32, 32)
    assert view.dtype == np.float32
    assert np.isfinite(view).all()
    a, b, other = (measuring_view(example, seed, size=32, method="gamma") for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != other).any()


def test_patients_never_cross_the_split_and_test_patients_are_the_detectors() -> None:
    from modic.train.data.split import split_of

    parts = sampling.examples_by_part(made_up(200))
    patients = [{e.disc.patient for e in part} for part in parts.values()]
    assert sum(map(len, patients)) == 200
    assert {e.disc.patient for e in parts["test"]} == {f"p{i}" for i in range(200) if split_of(f"p{i}") == "test"}
    assert part_of("p1") == part_of("p1")
    painted = [e for part in parts.values() for e in part if e.painted]
    assert {(e.label, e.source, e.disc.source) for e in painted} == {(1, "painted", "spider")}


def test_classes_are_drawn_equally_often() -> None:
    pools = sampling.training_pools(sampling.examples_by_part(made_up(200))["train"])
    drawn = sampling.draw(pools, np.random.default_rng(0), 300)
    assert np.bincount([e.label for e in drawn]).tolist() == [100, 100, 100]
    assert {e.source for e in drawn if e.label == 1} == {"painted", "phantom"}


def test_a_class_without_data_is_named() -> None:
    lacking = [Example(d) for d in made_up() if d.label != 1]
    with pytest.raises(UsageError, match="type 1"):
        sampling.training_pools(lacking)


def test_temperature_recovers_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (4000, 3))
    p = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in p])
    temperature, shift = fit_scaling(honest * 3 - [0, 0, 2], labels)
    assert temperature == pytest.approx(3, rel=0.15)
    assert shift - shift[0] == pytest.approx([0, 0, 2], abs=0.4)


def test_conformal_sets_cover_each_class_as_promised() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet((1, 1, 1), 6000)
    labels = np.array([rng.choice(3, p=row) for row in p])
    quantiles = conformal_quantiles(p[:3000], labels[:3000], alpha=0.1)
    for k in range(3):
        covered = (1 - p[3000:, k] <= quantiles[k])[labels[3000:] == k].mean()
        assert covered == pytest.approx(0.9, abs=0.03)
    assert conformal_quantiles(p[:5], np.array([0, 0, 0, 0, 2]), alpha=0.1) == [1.0, 1.0, 1.0]


def test_coverage_is_counted_on_patients_that_calibration_did_not_see() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 100)
    logits = rng.normal(0, 1, (300, 3)) + 2 * np.eye(3)[labels]
    patients = [f"p{i // 3}" for i in range(300)]
    coverage = held_out_coverage(logits, labels, patients, alpha=0.1, draws=20)
    assert coverage == pytest.approx([0.9] * 3, abs=0.04)
    kept = labels < 2
    of_kept = [patient for patient, keep in zip(patients, kept, strict=True) if keep]
    few = held_out_coverage(logits[kept], labels[kept], of_kept, alpha=0.1, draws=2)
    assert few[2] is None


def test_measured_numbers() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.4, 0.1, 0.5], [0.1, 0.1, 0.8], [0.3, 0.1, 0.6]])
    numbers = measure(p, np.array([0, 0, 2, 2]), [0.5, 0.5, 0.5])
    assert numbers["sensitivity"] == {"mc0": 0.5, "mc2": 1.0}
    assert numbers["balanced_accuracy"] == 0.75
    assert numbers["auc_mc0_vs_mc2"] == 1.0
    assert numbers["confusion_rows_true_columns_graded"] == [[1, 0, 1], [0, 0, 0], [0, 0, 2]]
    assert auc_0_2(p, np.array([0, 2, 0, 2])) == 0.5
    assert auc_0_2(p, np.array([0, 0, 1, 1])) is None


def test_trained_weights_are_loaded_and_grade(tmp_path: Path) -> None:
    save_discs(tmp_path / "cache" / "phantom-40-1.35-32.npz", made_up())
    options = ClassifierTraining(
        data=("phantom=40",), out=tmp_path, region_size=32, widths=(4, 4, 8, 8), epochs=2, epoch_steps=3, batch=6
    )
    path = classifier.train_classifier(options)
    model = load_classifier(str(path))
    card = model.card
    assert card["preprocessing"]["normalization"] == "standardize"
    assert card["preprocessing"]["contrasts"] == ["t1", "t2"]
    assert card["results"]["phantom"]["patients"] > 0
    assert "never validated on real modic type 1" in " ".join(card["limits"]).lower()
    assert path.with_suffix(".md").read_text(encoding="utf-8").startswith("# Classifier card")
    region = Region("L5/S1", {name: image[:, 8:-8, 8:-8] for name, image in made_up(2)[0].contrasts.items()})
    (grade,) = grade_regions([normalize(region, method="standardize")], classifier=model)
    assert sum(grade.p) == pytest.approx(1)


def test_heads_of_t1_and_stir_are_fitted_on_phantoms_alone_and_their_card_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "find", lambda *_, **__: Start())  # a random trunk
    discs = [
        replace(disc, contrasts=dict(zip(("t1", "stir"), disc.contrasts.values(), strict=True)), source="phantom")
        for disc in made_up(100)
    ]
    save_discs(tmp_path / "cache" / "phantom-100-stir-1.35-32.npz", discs)
    options = ClassifierTraining(
        data=("phantom=100",), stir=True, out=tmp_path, region_size=32, backbone="efficientnet_lite0",
        freeze_trunk=True, views=1, folds=2, init="imagenet", device="cpu",
    )  # fmt: skip
    path = classifier.train_classifier(options)
    card = load_classifier(str(path)).card
    assert card["preprocessing"]["contrasts"] == ["t1", "stir"]
    assert "--stir" in card["recipe"]["command"]
    assert "no patient was seen" in card["limits"][1]
    assert not [name for name in card["results"] if "real" in name or name == "cross_validation"]
    held = {disc.patient for disc in discs if part_of(disc.patient) != "test"}
    assert card["results"]["cross_validation_of_phantoms"]["patients"] == card["calibration"]["patients"] == len(held)
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "Each slice of T1 and STIR" in text and "Type 1 in real patients" not in text


def test_only_the_phantom_has_a_stir_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only phantom=N has a STIR"):
        classifier.train_classifier(ClassifierTraining(data=("spider=x",), stir=True, out=tmp_path))


@pytest.mark.parametrize("data", ["spider", "phantom=many", "hospital=x"])
def test_an_unknown_source_is_named(data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=data):
        classifier.train_classifier(ClassifierTraining(data=(data,), out=tmp_path))


def folded(tmp_path: Path, **more: Any) -> ClassifierTraining:
    """A training on made-up discs, cross-validated in two folds."""
    for kind in ("spider-slices", "phantom-40"):
        discs = [d for d in made_up(80) if d.source == kind.split("-")[0]]
        save_discs(tmp_path / "cache" / f"{kind}-1.35-32.npz", discs)
    options = {"region_size": 32, "widths": (4, 4, 8, 8), "epochs": 1, "epoch_steps": 2, "batch": 6, "folds": 2}
    return ClassifierTraining(data=("spider=x", "phantom=40"), out=tmp_path, **{**options, **more})


def test_cross_validation_grades_each_patient_by_a_network_that_never_saw_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on: list[set[str]] = []
    fit = classifier.fit

    def watched(net: Any, parts: dict[str, list[Example]], *rest: Any) -> Any:
        trained_on.append({e.disc.patient for e in parts["train"]})
        return fit(net, parts, *rest)

    monkeypatch.setattr(classifier, "fit", watched)
    path = classifier.train_classifier(folded(tmp_path))
    *folds, final = trained_on
    graded_in = [
        {e.disc.patient for e in sampling.examples_by_part(made_up(80))[part]} for part in ("train", "calibrate")
    ]
    development = {p for part in graded_in for p in part}
    assert [final - fold for fold in folds] != [set(), set()]
    assert set.union(*(final - fold for fold in folds)) == final == development
    assert not (final - folds[0]) & (final - folds[1])
    card = load_classifier(str(path)).card
    real = {p for p in development if int(p[1:]) % 2}
    assert card["calibration"]["patients"] == len(real)
    assert "fold 1 of 2" in capsys.readouterr().out


def test_a_finished_fold_is_kept_and_one_of_other_options_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier.train_classifier(folded(tmp_path))
    (tmp_path / "checkpoint.safetensors").unlink()  # killed before the last training
    capsys.readouterr()
    classifier.train_classifier(folded(tmp_path))
    assert "fold" not in capsys.readouterr().out
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(UsageError, match="learning_rate"):
        classifier.train_classifier(folded(tmp_path, learning_rate=0.5))


def test_types_0_and_2_are_told_apart_by_what_real_discs_say_and_type_1_stays_as_trained(tmp_path: Path) -> None:
    options = ClassifierTraining(
        data=(), out=tmp_path, backbone="efficientnet_lite0", freeze_trunk=True, region_size=32, device="cpu"
    )
    net = classifier.new_network(options, Start())
    discs = made_up(100)
    known, new = [Example(d) for d in discs[:190]], [Example(d) for d in discs[190:] if d.real and d.label != 1]
    with torch.no_grad():
        net.head.weight.normal_(0, 0.1)
        for part in (net.trunk, net.norm):  # a random trunk's statistics are far from those of its images
            for norm in part.modules():
                norm.momentum = None
            part.train()
            net(next(inference.measuring_batches(known, options, seed=0)))
            part.eval()
    before = {name: p.clone() for name, p in net.head.named_parameters()}
    assert not refit_head(net, [e for e in known if e.source == "phantom"], options)
    assert all(torch.equal(p, before[name]) for name, p in net.head.named_parameters())
    assert refit_head(net, known, options)
    for name, parameter in net.head.named_parameters():
        assert torch.equal(parameter[1], before[name][1])
        assert torch.allclose(parameter[0] + parameter[2], before[name][0] + before[name][2], atol=1e-5)
    logits = inference.predict(net, new, options)
    fat = np.array([e.label == 2 for e in new])
    assert auc(logits[:, 2] - logits[:, 0], fat) > 0.95
    assert ((logits[:, 2] > logits[:, 0]) == fat).mean() > 0.9
