"""What is shipped and the paper's design through one pipeline: grades, maps, kept features, a site's own grader."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicoms import study, write
from modic import pipeline
from modic.adapt.site import adapt_site
from modic.cohort import open_cohort
from modic.models.card import model_id, read_card
from modic.models.weights import Model
from modic.records import LevelBox, LevelSet
from modic.run import worker
from modic.tables.features import files_of, read_features
from modic.tables.store import read_table
from paper_design import write_paper_design
from plain_run import plain_run

PATIENTS = 10
BOXES = tuple(LevelBox(name, box, 5, 0.9) for name, box in (("L4/L5", (10, 20, 40, 30)), ("L5/S1", (10, 38, 40, 48))))
HEAD_DECIDES = ("mc", "p_mc0", "p_mc1", "p_mc2", "prediction_set", "abstained", "abstained_reason")
PAPER = "./paper"  # a folder here, not the shipped one
WIDTHS = {"": 2208, PAPER: 16}  # of the level features
FILES = {"case.json", "maps.webp", "regions.webp", "t1.webp", "t2.webp"}
BACKBONES = {"": ("efficientnet_lite0", "efficientnet_lite0"), PAPER: ("resnet50", "resnet3d")}


@pytest.fixture(scope="module", params=["", PAPER], ids=["shipped", "paper"])
def design(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, design: str) -> Path:
    return tmp_path_factory.mktemp(Path(design).name or "shipped")


@pytest.fixture(scope="module")
def looked(folder: Path) -> Iterator[list[tuple[str, str]]]:
    """(backbone of the detector that looked, id of its weights) of each study; boxes are then given."""
    seen, real = [], pipeline.find_levels

    def find_levels(volume: Any, *, detector: "Model[Any]", options: Any) -> LevelSet:
        if not seen:  # what an untrained detector finds in gradients is nothing to grade
            assert isinstance(real(volume, detector=detector, options=options), LevelSet)
        seen.append((detector.card["architecture"]["backbone"], detector.id))
        return LevelSet(BOXES, "ok", 0.99)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "find_levels", find_levels)
        patch.chdir(folder)
        yield seen


@pytest.fixture(scope="module")
def cohort(folder: Path, design: str, looked: list[tuple[str, str]]) -> Path:
    """Ten patients, graded with the design: `paper` is the folder that `modic train` left."""
    if design:
        write_paper_design(folder / design)
    for number in range(PATIENTS):
        slices = study(patient=f"patient-{number}", rows=64, columns=48, spacing=(2.0, 2.0))
        images = np.random.default_rng(number).integers(100, 900, (len(slices) // 2, 64, 48)).astype(np.uint16)
        for one, image in zip(slices, [*images, *images], strict=True):  # T1 lies where T2 does
            one.PixelData = image.tobytes()
        write(slices, folder / "archive" / str(number))
    assert plain_run(folder / "archive", folder / "cohort", models=design).graded_now == PATIENTS
    return folder / "cohort"


def graded(cohort: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = read_table(cohort, "levels").to_pylist()
    return {(row["study_key"], row["level"]): row for row in rows if row["status"] == "graded"}


def test_both_networks_of_the_design_grade_every_study(
    cohort: Path, design: str, looked: list[tuple[str, str]]
) -> None:
    (detector, _), (classifier, _) = (read_card(design or kind, kind) for kind in ("detector", "classifier"))
    backbones = detector["architecture"]["backbone"], classifier["architecture"]["backbone"]
    assert backbones == BACKBONES[design]
    assert looked == [(backbones[0], model_id(detector))] * len(looked)
    rows = graded(cohort)
    assert len(rows) == 2 * PATIENTS
    assert {row["classifier_id"] for row in rows.values()} == {model_id(classifier)}
    assert all(abs(row["p_mc0"] + row["p_mc1"] + row["p_mc2"] - 1) < 1e-6 for row in rows.values())
    assert len({round(row["p_mc2"], 6) for row in rows.values()}) > PATIENTS, "each disc has its own grade"


def test_pictures_with_maps_are_kept_of_every_study(cohort: Path) -> None:
    home = open_cohort(cohort)
    (run,) = home.runs()
    cases = sorted((run / "cases").iterdir())
    assert len(cases) == PATIENTS
    for case in cases:
        assert {path.name for path in case.iterdir()} == FILES
        levels = json.loads((case / "case.json").read_text())["levels"]
        assert list(levels) == [box.level for box in BOXES]
        assert all(len(level["alone"]) == 5 and 0 < level["t1"] < 1 for level in levels.values()), "T1 and T2 count"
        assert all(0 < level[side] < 1 for level in levels.values() for side in ("upper", "lower"))


def test_features_of_every_disc_are_kept(cohort: Path, design: str) -> None:
    home = open_cohort(cohort)
    (run,) = home.runs()
    kept = [dict(levels) for path in files_of(home.features(run.name)) for _, levels in read_features(path)]
    assert len(kept) == PATIENTS
    features = np.stack([one.features for levels in kept for one in levels.values()])
    assert features.shape == (2 * PATIENTS, WIDTHS[design]) and np.ptp(features.astype(float), axis=0).max() > 0.1
    assert all(one.slice_logits.shape == (5, 3) for levels in kept for one in levels.values())


def readings(cohort: Path, path: Path) -> Path:
    """Of every disc, so that the grader is found to lean to one type."""
    rows = graded(cohort)
    p = np.array([[row[f"p_mc{k}"] for k in range(3)] for row in rows.values()]).mean(0)
    least, middle, most = np.argsort(p).tolist()
    truth = ([least, middle, most] * len(rows))[: len(rows)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["study_key", "level", "mc", "reader"])
        writer.writerows([*key, mc, "R1"] for key, mc in zip(rows, truth, strict=True))
    return path


def test_a_site_s_grader_comes_from_readings_and_needs_no_image(
    cohort: Path, folder: Path, design: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = adapt_site(cohort, [readings(cohort, folder / "readings.csv")], folder / "site")
    assert not site.adapted.unchanged
    assert site.base_id == model_id(read_card(design or "classifier", "classifier")[0])
    assert (folder / "site" / "detector.json").is_file() == bool(design), "the whole grader is in one folder"
    before, own = graded(cohort), str(folder / "site")
    plain_run(folder / "archive" / "0", folder / "from-images", models=own)
    expected = [{name: row[name] for name in HEAD_DECIDES} for row in graded(folder / "from-images").values()]
    assert len(expected) == 2

    def no_images(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(worker, "grade_study", no_images)
    assert plain_run(folder / "archive", cohort, models=own).graded_now == PATIENTS
    after = graded(cohort)
    rows = [{name: row[name] for name in HEAD_DECIDES} for row in after.values()]
    assert all(row in rows for row in expected), "the same to the last bit"
    assert any(after[key]["p_mc2"] != before[key]["p_mc2"] for key in before)
    if design:
        base = str(folder / "paper")  # with the detector that lies there
        again = adapt_site(cohort, [folder / "readings.csv"], folder / "site", classifier=base)
        assert (folder / "site" / "detector.safetensors").is_file() and again.base_id == site.base_id
