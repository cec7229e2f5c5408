"""A night after which only the head of the classifier is new: no image is opened, and the rows are those of images."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dicoms import study, write
from modic.cohort import Cohort, open_cohort
from modic.config import Config
from modic.errors import Reason, Rejected, UsageError
from modic.grading.agreement import agreed
from modic.grading.classify import calibration_of, grade_output
from modic.grading.endplate_types import endplate_columns
from modic.grading.marrow import EndplateMarrow, MarrowMeasurements, from_numbers
from modic.grading.marrow_features import FEATURES
from modic.grading.network_output import joined
from modic.imaging.in_place import load_volumes
from modic.models.card import SHIPPED, read_card, sha256
from modic.models.weights import Models
from modic.records import LEVELS, LevelBox, LevelFeatures, LevelResult, Pair, StudyResult
from modic.run import prune, shards, worker
from modic.run.regrade import regraded
from modic.tables.features import TYPES, read_features, write_features
from modic.tables.store import read_table
from plain_run import plain_run

WIDTH = 2208  # features of the shipped network
GRADED = LEVELS[1:]
HEAD_DECIDES = {"mc", "p_mc0", "p_mc1", "p_mc2", "confidence", "prediction_set", "abstained", "abstained_reason",
                "slice_disagreement", "mc_upper", "mc_lower", "udby_upper", "udby_lower"}  # fmt: skip
OF_GRADER = {"classifier_id", "grader_id", "run_id"}


def kept(rng: np.random.Generator) -> LevelFeatures:
    ratio = {"t1": float(rng.uniform(0.7, 1.4)), "t2": float(rng.uniform(0.8, 1.5))}
    side = EndplateMarrow(ratio, ratio, {}, 0.4, 5.0, float(rng.uniform()), 28.0)
    marrow = MarrowMeasurements("L1/L2", side, EndplateMarrow({"t1": None, "t2": None}, {"t1": None, "t2": None}))
    logits = rng.normal(size=(6, 3)).astype(np.float32)
    features = rng.normal(size=WIDTH).astype(np.float16)
    return LevelFeatures(logits[0], logits[1:], features, rng.normal(scale=0.2, size=len(FEATURES)), marrow.numbers())


def grade_study(pair: Pair, *, models: Models, config: Config, **_: Any) -> StudyResult:
    """As modic.pipeline, from made features; `not…` is refused."""
    volumes = load_volumes(pair, config)
    if isinstance(volumes, Rejected) or pair.patient_id.startswith("not"):
        return StudyResult(rejected=Rejected(Reason.STUDY_NO_LEVELS))
    rng = np.random.default_rng(sum(pair.patient_id.encode()))
    features = {level: kept(rng) for level in GRADED}
    output = joined(list(features.values()))
    marrow = {level: from_numbers(level, one.endplates) for level, one in features.items()}
    given = {level: one.marrow for level, one in features.items()}
    rows = [LevelResult(LEVELS[0], "not_found", Rejected(Reason.LEVEL_NOT_DETECTED))]
    for grade in grade_output(
        list(GRADED), output, calibration=calibration_of(models.classifier.card, config.grading.alpha), features=given
    ):
        final = agreed(grade, marrow[grade.level])
        box = LevelBox(grade.level, (1.0, 2.0, 5.0, 6.0), 5, 0.9)
        rows.append(
            LevelResult(grade.level, "graded", None, box, box.box, 5, (0.0, 1.0, 0.0), (0.0, 5.0, -9.0), final,
                        marrow[grade.level].columns(), endplate_columns(final.mc, marrow[grade.level]))
        )  # fmt: skip
    return StudyResult(tuple(rows), "ok", 0.97, kept=features)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for patient in ("ann", "bob", "not-lumbar"):
        write(study(patient=patient, rows=16, columns=16), tmp_path / "archive" / patient)

    def models(detector: str, name: str, device: str) -> Models:
        model: Any = SimpleNamespace(card=read_card(name, "classifier")[0], id="0123456789ab", device="cpu")
        return Models(model, model)

    monkeypatch.setattr(worker, "load_models", models)
    monkeypatch.setattr(worker, "grade_study", grade_study)
    return tmp_path / "archive"


def new_card(folder: Path, **architecture: Any) -> str:
    """The shipped classifier, corrected for a site; returns the configuration's path."""
    folder.mkdir()
    shutil.copy(SHIPPED / "classifier.safetensors", folder)
    card = json.loads((SHIPPED / "classifier.json").read_text())
    weights = [np.random.default_rng(k).normal(scale=0.02, size=WIDTH).tolist() for k in range(2)]
    card["calibration"] |= {"site": {"shift": [0.0, 0.5, 1.5], "weights": [*weights, []]}, "temperature": 0.9}
    card["architecture"] |= architecture
    assert card["sha256"] == sha256(folder / "classifier.safetensors")
    (folder / "classifier.json").write_text(json.dumps(card))
    (folder / "cohort.toml").write_text(f'classifier = "{folder}"\n')
    return str(folder / "cohort.toml")


def rows_of(cohort: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["study_key"], row["level"]): row for row in read_table(cohort, "levels").to_pylist()}


def no_images(*_: Any, **__: Any) -> None:
    raise AssertionError("an image was opened")


def test_a_new_card_grades_as_it_would_from_images_and_opens_none(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, site = tmp_path / "cohort", new_card(tmp_path / "site")
    plain_run(archive, cohort)
    before = rows_of(cohort)
    assert len(before) == 12
    plain_run(archive, tmp_path / "from-images", config=site)
    expected = [{k: row[k] for k in HEAD_DECIDES} for row in rows_of(tmp_path / "from-images").values()]
    monkeypatch.setattr(worker, "grade_study", no_images)
    second = plain_run(archive, cohort, config=site)
    after = rows_of(cohort)
    assert second.graded_now == 3  # the refused study too has a row of this grader
    key = repr  # keys of the two cohorts differ
    got = [{k: row[k] for k in HEAD_DECIDES} for row in after.values()]
    assert sorted(got, key=key) == sorted(expected, key=key)
    assert {row["grader_id"] for row in after.values()} != {row["grader_id"] for row in before.values()}
    assert any(after[place]["mc"] != before[place]["mc"] for place in after)
    for place, row in after.items():
        assert {k: v for k, v in row.items() if k not in HEAD_DECIDES | OF_GRADER} == {
            k: v for k, v in before[place].items() if k not in HEAD_DECIDES | OF_GRADER
        }
    first_run = min(run.name for run in open_cohort(cohort).runs())
    assert rows_of_run(cohort, first_run) == before  # the run before stays readable
    assert plain_run(archive, cohort, config=site).graded_now == 0
    assert plain_run(archive, cohort).graded_now == 0  # and going back costs nothing


def test_a_night_with_a_sites_grader_says_that_images_changed(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modic.statistics.drift.FEWEST_DISCS", 5)
    monkeypatch.setattr("modic.statistics.drift.FEWEST_PATIENTS", 2)
    assert "unlike" not in plain_run(archive, tmp_path / "cohort").line()
    site = new_card(tmp_path / "site")
    one = np.eye(WIDTH, 1).tolist()
    far = {"directions": one, "spread": [1.0], "center": [1e6], "variance": [0.0], "read": {}}
    (tmp_path / "site" / "drift.json").write_text(json.dumps(far))
    summary = plain_run(archive, tmp_path / "cohort", config=site)
    assert "images look unlike those that the site's grader was adapted to" in summary.line()
    manifest = json.loads((open_cohort(tmp_path / "cohort").runs()[-1] / "manifest.json").read_text())
    assert manifest["drift"] == summary.drift and not summary.attention  # no reason for exit code 3


def rows_of_run(cohort: Path, run_id: str) -> dict[tuple[str, str], dict[str, Any]]:
    from modic.tables.published import tables_of

    table = pq.read_table(tables_of(cohort, run_id) / "levels.parquet", partitioning=None)
    return {(row["study_key"], row["level"]): row for row in table.to_pylist()}


def test_another_alpha_needs_no_image(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_run(archive, tmp_path / "cohort")
    before = rows_of(tmp_path / "cohort")
    (tmp_path / "strict.toml").write_text("[grading]\nalpha = 0.02\n")
    monkeypatch.setattr(worker, "grade_study", no_images)
    plain_run(archive, tmp_path / "cohort", config=str(tmp_path / "strict.toml"))
    after = rows_of(tmp_path / "cohort")
    sizes = [[len(row["prediction_set"] or ()) for row in rows.values()] for rows in (before, after)]
    assert sum(sizes[0]) < sum(sizes[1]) and all(a <= b for a, b in zip(*sizes, strict=True))
    manifest = json.loads((open_cohort(tmp_path / "cohort").runs()[-1] / "manifest.json").read_text())
    assert "3 of them from kept features" in manifest["to_grade"]


@pytest.mark.parametrize("lost", ["deleted", "damaged"])
def test_studies_without_kept_features_are_graded_from_images(lost: str, archive: Path, tmp_path: Path) -> None:
    plain_run(archive, tmp_path / "cohort")
    folder = tmp_path / "cohort" / "private" / "features"
    if lost == "deleted":
        shutil.rmtree(folder)
    for path in folder.glob("*/*.parquet"):
        path.write_bytes(path.read_bytes()[:300])
    plain_run(archive, tmp_path / "cohort", config=new_card(tmp_path / "site"))
    ours = open_cohort(tmp_path / "cohort").runs()[-1].name
    assert {row["run_id"] for row in rows_of(tmp_path / "cohort").values()} == {ours}
    assert list(folder.glob(f"{ours}/*.parquet"))  # kept anew


def test_another_network_or_other_images_are_no_new_card(archive: Path, tmp_path: Path) -> None:
    plain_run(archive, tmp_path / "cohort")
    plain_run(archive, tmp_path / "cohort", config=new_card(tmp_path / "other", dropout=0.3))
    assert has_kept(tmp_path / "cohort", -1)
    next(path for path in sorted((archive / "ann").rglob("*")) if path.is_file()).touch()
    plain_run(archive, tmp_path / "cohort", config=new_card(tmp_path / "site", dropout=0.3))
    assert has_kept(tmp_path / "cohort", -1) == 1  # the study with the touched file, and no other
    assert [has_kept(tmp_path / "cohort", run) for run in (0, 1)] == [0, 1]  # what nobody needs any more is removed


def test_a_night_that_forgets_the_sites_card_is_refused(archive: Path, tmp_path: Path) -> None:
    plain_run(archive, tmp_path / "cohort")
    site = new_card(tmp_path / "site")
    plain_run(archive, tmp_path / "cohort", models=str(tmp_path / "site"), regrade=False)
    assert plain_run(archive, tmp_path / "cohort", config=site, regrade=False).graded_now == 0  # the same, said so
    with pytest.raises(UsageError, match=r"no classifier\.json"):
        plain_run(archive, tmp_path / "cohort", models=str(tmp_path))
    with pytest.raises(UsageError, match="--regrade"):
        plain_run(archive, tmp_path / "cohort", regrade=False)


def has_kept(cohort: Path, run: int) -> int:
    """Studies whose features a run kept."""
    folder = open_cohort(cohort).features(open_cohort(cohort).runs()[run].name)
    return sum(len(list(read_features(path))) for path in folder.glob("*.parquet"))


def test_nothing_is_kept_if_nothing_is_to_be_kept(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "no.toml").write_text("[run]\nfeatures = false\n")
    plain_run(archive, tmp_path / "cohort", config=str(tmp_path / "no.toml"))
    assert not (tmp_path / "cohort" / "private" / "features").exists()


def test_features_come_back_bit_for_bit_and_take_a_few_kilobytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    studies = [(f"s_{n:016x}", {level: kept(rng) for level in GRADED}) for n in range(40)]
    path = tmp_path / "features" / "00000.parquet"
    assert write_features(path, studies)
    back = dict(read_features(path))
    assert list(back) == [key for key, _ in studies]
    for key, levels in studies:
        for level, one in levels.items():
            for name in TYPES:
                assert np.array_equal(getattr(back[key][level], name), getattr(one, name), equal_nan=True)
    assert path.stat().st_size < 40 * 5 * 5200
    assert not write_features(tmp_path / "none.parquet", [("s", {})]) and not (tmp_path / "none.parquet").exists()
    assert dict(read_features(path, {studies[3][0]})).keys() == {studies[3][0]}


def test_what_only_images_could_make_again_survives_a_new_card_and_pruning(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = open_cohort_of(archive, tmp_path)
    key = next(row["study_key"] for row in read_table(cohort.root, "studies").to_pylist() if row["status"] == "graded")
    (first,) = cohort.runs()
    drawn = cohort.case(first.name, key)
    drawn.mkdir(parents=True)
    (drawn / "t1.webp").write_bytes(b"x")
    monkeypatch.setattr(worker, "grade_study", no_images)
    counted: list[int] = []
    plain_run(
        archive, cohort.root, config=new_card(tmp_path / "site"),
        meanwhile=lambda run: counted.append(shards.progress(run.cohort, run.run_id)[0]),
    )  # fmt: skip
    assert counted == [3], "studies that need no image are planned as well as done"
    assert cohort.pictures(cohort.runs()[1].name, key) == drawn
    prune.prune(prune.superfluous(cohort, days=0))
    assert (drawn / "t1.webp").is_file()
    strict = tmp_path / "site" / "strict.toml"
    strict.write_text((tmp_path / "site" / "cohort.toml").read_text() + "[grading]\nalpha = 0.02\n")
    assert plain_run(archive, cohort.root, config=str(strict)).graded_now == 3  # from the first run's features
    assert cohort.pictures(cohort.runs()[2].name, key) == drawn


def open_cohort_of(archive: Path, folder: Path) -> Cohort:
    plain_run(archive, folder / "cohort")
    return open_cohort(folder / "cohort")


def test_a_grader_that_reads_stir_keeps_its_rule_without_images() -> None:
    card = read_card("t1_stir", "classifier")[0]
    sure = np.array([[-9.0, 9.0, -9.0]], np.float32)
    none = np.array([])
    kept = {"L4/L5": LevelFeatures(sure[0], sure, none.astype(np.float16), none, none)}
    for ratio, mc in ((0.95, None), (1.6, 1)):
        row = {"level": "L4/L5", "status": "graded", "stir_ratio_upper": ratio, "stir_ratio_lower": None}
        (found,) = regraded([row], kept, calibration_of(card), reads_stir=True) or []
        assert found["mc"] == mc
        assert (found["abstained_reason"] == "marrow.stir_not_bright") == (mc is None)
