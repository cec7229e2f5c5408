"""What a later night grades again: exactly the studies whose images, models or grading options changed."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import modic
from dicoms import AXIAL, stir, study, t1, t2, write
from dicoms import series as one_series
from modic import versions
from modic.cohort import Cohort, open_cohort
from modic.files import write_table
from modic.models.card import SHIPPED, sha256
from modic.records import LEVELS
from modic.run import status
from modic.tables.query import run_checks, statements
from modic.tables.store import read_table
from plain_run import plain_run


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_networks: None) -> Path:
    """A first night over three graded studies and one that lacks a T2, by the first grading version."""
    monkeypatch.setattr(versions, "GRADING_VERSION", 1)
    for patient in ("ann", "bob", "cid"):
        write(study(patient=patient), tmp_path / "archive" / patient)
    write(one_series(t1(), name="t1", patient="dan"), tmp_path / "archive" / "dan")
    assert plain_run(tmp_path / "archive", tmp_path / "cohort").graded_now == 3
    return tmp_path / "cohort"


def again(cohort: Path, config: str = "") -> int:
    """Studies that one more night works on; the one after it must find nothing to do."""
    (cohort.parent / "cohort.toml").write_text(config)
    path = str(cohort.parent / "cohort.toml")
    count = plain_run(cohort.parent / "archive", cohort, config=path).graded_now
    assert plain_run(cohort.parent / "archive", cohort, config=path).graded_now == 0
    return count


def rows(cohort: Path) -> dict[str, str | None]:
    """patient key → status of its study, or `gone`."""
    found = read_table(cohort, "studies").to_pylist()
    return {row["patient_key"]: row["status"] if row["in_archive"] else "gone" for row in found}


def test_late_slices_regrade_their_study_alone(cohort: Path) -> None:
    late = one_series(t2(), name="t2", patient="bob", n=12)[11:]
    late[0].ImagePositionPatient = [27.0, *late[0].ImagePositionPatient[1:]]
    write(late, cohort.parent / "archive" / "bob")
    assert again(cohort) == 1
    assert sorted(rows(cohort).values()) == ["excluded", "graded", "graded", "graded"]  # type: ignore[type-var]


def test_a_late_series_makes_a_study_gradable(cohort: Path) -> None:
    write(one_series(t2(), name="t2", patient="dan"), cohort.parent / "archive" / "dan")
    assert again(cohort) == 1
    assert set(rows(cohort).values()) == {"graded"}


def test_a_late_series_that_is_not_chosen_regrades_nothing(cohort: Path) -> None:
    axial = one_series(t2(), name="axial", patient="ann", orientation=AXIAL)
    write(axial, cohort.parent / "archive" / "ann")
    assert again(cohort) == 0
    assert len(read_table(cohort, "series")) == 8


def test_a_late_stir_is_measured_beside_the_others(cohort: Path) -> None:
    write(one_series(stir(), name="stir", patient="ann"), cohort.parent / "archive" / "ann")
    assert again(cohort) == 1


def test_on_a_late_localizer_of_the_whole_spine_the_study_is_counted(cohort: Path) -> None:
    values = t2(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    whole = one_series(values, name="localizer", patient="ann", n=3, rows=128, columns=24, spacing=(5.0, 5.0))
    write(whole, cohort.parent / "archive" / "ann")
    assert again(cohort) == 1
    (used,) = [one for one in read_table(cohort, "series").to_pylist() if one["n_slices"] == 3]
    assert (used["status"], used["reason"], used["role"]) == ("used", None, "localizer")


def test_a_second_t2_serves_where_the_first_cannot_be_decoded(cohort: Path) -> None:
    """It is the one that would be chosen; later series that are chosen before neither of them regrade nothing."""
    folder = cohort.parent / "archive" / "ann"
    finer = one_series(t2(), name="finer", patient="ann", spacing=(0.5, 0.5), rows=32, columns=24)
    finer[3].HighBit = 11
    write(finer, folder)
    assert again(cohort) == 1
    study_, series = row_of(cohort, "P8, P10"), read_table(cohort, "series").to_pylist()
    assert (study_["status"], study_["warnings"]) == ("graded", "pair 2 of 2; the first: study.pixels_unreadable")
    used = {one["series_key"]: one["pixel_spacing_row_mm"] for one in series if one["status"] == "used"}
    assert used[study_["t2_series_key"]] == 1.0
    assert sum(one["study_key"] == study_["study_key"] for one in series if one["status"] == "used") == 2
    last = max(folder.iterdir())
    for path in sorted(folder.iterdir())[22:]:  # the finer one leaves, and with it the reason to grade again
        path.rename(cohort.parent / path.name)
    assert again(cohort) == 0
    assert "P8, P10" not in {one["pairing_rule"] for one in read_table(cohort, "studies").to_pylist()}
    (cohort.parent / last.name).rename(last)  # one slice of it is no series
    assert again(cohort) == 0


def row_of(cohort: Path, rule: str) -> dict[str, Any]:
    (found,) = [one for one in read_table(cohort, "studies").to_pylist() if one["pairing_rule"] == rule]
    return found


def test_a_study_of_which_no_pair_serves_says_why_the_first_does_not(cohort: Path) -> None:
    finer = one_series(t2(), name="finer", patient="dan", spacing=(0.5, 0.5), rows=32, columns=24)
    finer[3].HighBit = 11
    coarser = one_series(t2(), name="coarser", patient="dan")
    coarser[5].RescaleSlope = 0
    write([*finer, *coarser], cohort.parent / "archive" / "dan")
    assert again(cohort) == 1
    found = row_of(cohort, "P8")
    assert (found["status"], found["reason"]) == ("failed", "study.pixels_unreadable")
    assert found["detail"] == "T2: slice 3: ValueError"
    write(one_series(t2(), name="good", patient="dan", n=9), cohort.parent / "archive" / "dan")
    assert again(cohort) == 1
    assert row_of(cohort, "P8, P10")["status"] == "graded"


def test_files_sent_again_in_their_place_regrade_their_study_alone(cohort: Path) -> None:
    os.utime(cohort.parent / "archive" / "cid" / "00004")
    assert again(cohort) == 1


def test_files_sent_again_beside_the_old_ones_change_no_row_but_are_checked(cohort: Path) -> None:
    before = rows(cohort)
    shutil.copytree(cohort.parent / "archive" / "cid", cohort.parent / "archive" / "cid again")
    assert again(cohort) <= 1
    assert rows(cohort) == before


def test_a_moved_folder_regrades_nothing(cohort: Path) -> None:
    (cohort.parent / "archive" / "ann").rename(cohort.parent / "archive" / "moved")
    assert again(cohort) == 0
    assert sorted(rows(cohort).values()) == ["excluded", "graded", "graded", "graded"]  # type: ignore[type-var]


def test_a_study_that_left_is_marked_and_kept_and_its_return_regrades_nothing(cohort: Path) -> None:
    levels = read_table(cohort, "levels")
    (cohort.parent / "archive" / "ann").rename(cohort.parent / "ann")
    assert again(cohort) == 0
    assert list(rows(cohort).values()).count("gone") == 1
    assert read_table(cohort, "levels") == levels
    (cohort.parent / "ann").rename(cohort.parent / "archive" / "ann")
    assert again(cohort) == 0
    assert "gone" not in rows(cohort).values() and read_table(cohort, "levels") == levels


@pytest.mark.parametrize(
    ("config", "studies"),
    [
        ("[levels]\nslices = 5\n", 3),
        ("[pair]\noverlap_reject = 0.8\n", 3),
        ("[run]\nshard_size = 1\nstudy_time_limit_s = 60.0\nstudy_memory_limit_mb = 2048\n", 0),
        ("[levels]\nslices = 3\n", 0),
    ],
)
def test_a_setting_regrades_everything_where_it_can_change_a_grade(cohort: Path, config: str, studies: int) -> None:
    assert again(cohort, config) == studies


@pytest.mark.parametrize(("part", "studies"), [("calibration", 3), ("limits", 0)])
def test_a_new_model_regrades_everything_and_a_new_word_in_its_card_nothing(
    cohort: Path, part: str, studies: int
) -> None:
    folder = cohort.parent / "mine"
    folder.mkdir()
    shutil.copy(SHIPPED / "classifier.safetensors", folder)
    card = json.loads((SHIPPED / "classifier.json").read_text(encoding="utf-8"))
    if part == "calibration":
        card[part]["temperature"] *= 1.1
    else:
        card[part] = ["changed", *card[part]]
    (folder / "classifier.json").write_text(json.dumps(card), encoding="utf-8")
    assert again(cohort, f'classifier = "{folder}/classifier.safetensors"\n') == studies


def manifest(cohort: Cohort) -> dict[str, Any]:
    last = max(cohort.root.glob("runs/*/manifest.json"))
    return json.loads(last.read_text(encoding="utf-8"))


def forget_what_older_versions_did_not_record(cohort: Path) -> None:
    """Make the finished shards and the tables those of a version of modic that knew no grading versions."""
    new = {"cause", "grading_version", "grader_id", "configuration_hash", "models_hash"}
    old_name = {"level_numbering_probability": "p_numbering"}
    (run,) = read_table(cohort, "runs").to_pylist()
    for path in open_cohort(cohort).finished_shards():
        table = pq.read_table(path, partitioning=None).drop_columns(list(new))
        for name in ("detector_id", "classifier_id"):  # the fake worker's are not those of the run
            table = table.set_column(table.column_names.index(name), name, pa.array([run[name]] * len(table)))
        write_table(table.rename_columns([old_name.get(name, name) for name in table.column_names]), path)
    for name in ("runs", "levels"):
        path = cohort / "current" / f"{name}.parquet"
        write_table(pq.read_table(path, partitioning=None).drop_columns(["grading_version", "grader_id"]), path)
    for name in ("surveyed", "ledger"):  # what the last run noted for the next; another version's is not used
        (cohort / "private" / f"{name}.parquet").unlink(missing_ok=True)


def test_a_cohort_from_before_the_grading_had_versions_needs_no_grading(cohort: Path) -> None:
    models = ["detector_id", "classifier_id", "grader_id"]
    before = read_table(cohort, "levels")
    forget_what_older_versions_did_not_record(cohort)
    assert again(cohort) == 0
    after = read_table(cohort, "levels")
    assert after.drop_columns(models) == before.drop_columns(models)
    assert set(after["grading_version"].to_pylist()) == {1} and set(after["grader_id"].to_pylist()) == {None}
    assert not any(run_checks(cohort).values())


@pytest.mark.parametrize("recorded", [True, False])
def test_a_new_grading_version_grades_everything_again_and_says_why(
    cohort: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recorded: bool
) -> None:
    (before,) = read_table(cohort, "runs").to_pylist()
    if not recorded:
        forget_what_older_versions_did_not_record(cohort)
    monkeypatch.setattr(versions, "GRADING_CHANGES", {1: "the first", 2: "levels are counted from the sacrum"})
    monkeypatch.setattr(versions, "GRADING_VERSION", 2)
    sentence = "3 studies are graded again: grading version 2 (levels are counted from the sacrum)"
    assert sentence in "\n".join(status.lines(open_cohort(cohort)))
    caplog.set_level("INFO", "modic")
    home = open_cohort(cohort)

    def look(run: Any) -> None:
        assert f"{sentence}: 0 of 3 studies" in "\n".join(status.lines(home))

    assert plain_run(cohort.parent / "archive", cohort, meanwhile=look).graded_now == 3
    assert f"3 studies to grade: {sentence}; graded before: 0" in caplog.text
    assert manifest(home)["studies_by_cause"] == {"grading version": 3}
    assert f"3 worked on in that run (3 studies to grade: {sentence})" in "\n".join(status.lines(home))
    assert again(cohort) == 0
    after = read_table(cohort, "runs").to_pylist()[-1]
    assert (before["grading_version"], after["grading_version"]) == (1, 2)
    assert before["grader_id"] != after["grader_id"] and before["configuration_hash"] != after["configuration_hash"]
    levels = read_table(cohort, "levels").to_pylist()
    assert {(row["grading_version"], row["grader_id"]) for row in levels} == {(2, after["grader_id"])}
    assert not any(run_checks(cohort).values())


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("change", ["new", "failed before", "images changed", "other models", "other options"])
def test_a_run_says_why_it_grades_a_study(cohort: Path, change: str, recorded: bool) -> None:
    if not recorded:
        forget_what_older_versions_did_not_record(cohort)
    config, archive = "", cohort.parent / "archive"
    if change == "new":
        write(study(patient="eve"), archive / "eve")
    elif change == "images changed":
        os.utime(archive / "cid" / "00004")
    elif change == "other options":
        config = "[levels]\nslices = 5\n"
    elif change == "other models":
        config = f'classifier = "{other_classifier(cohort.parent)}"\n'
    else:
        os.utime(archive / "ann" / "00004")
        moved = cohort.parent / "00003"
        plain_run(archive, cohort, meanwhile=lambda _: (archive / "ann" / "00003").rename(moved))
        moved.rename(archive / "ann" / "00003")
    again(cohort, config)
    manifests = sorted(cohort.glob("runs/*/manifest.json"))
    counts = json.loads(manifests[-2].read_text(encoding="utf-8"))["studies_by_cause"]
    assert counts == {change: 3 if change.startswith("other") else 1}


def other_classifier(folder: Path) -> Path:
    """The shipped classifier with one weight changed."""
    path = folder / "other.safetensors"
    card = json.loads((SHIPPED / "classifier.json").read_text(encoding="utf-8"))
    content = bytearray((SHIPPED / "classifier.safetensors").read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(card | {"sha256": sha256(path)}), encoding="utf-8")
    return path


def test_a_second_visit_is_dated_from_the_first_and_its_change_counted(cohort: Path) -> None:
    later = study(patient="bob", study="a year later")
    for slice_ in later:
        slice_.StudyDate = "20210301"
    write(later, cohort.parent / "archive" / "later")
    assert again(cohort) == 1
    opened = modic.open(cohort)
    assert sorted(opened.studies["days_since_first_study"]) == [0, 0, 0, 0, 424]
    changes = opened.sql(statements("cohort")["change_between_studies"]).df()
    assert changes["level"].tolist() == list(LEVELS)
    assert set(changes[["mc_before", "mc_after", "n", "median_days_between"]].apply(tuple, axis=1)) == {(2, 2, 1, 424)}
