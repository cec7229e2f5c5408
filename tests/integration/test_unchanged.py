"""A night that leaves alone what is as before publishes the same rows as one that looks at everything."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dicoms import series, study, t1, t2, uid, write
from modic.archive import walk
from modic.cohort import open_cohort
from modic.run import batches, ledger, survey
from modic.tables.query import run_checks
from modic.tables.schema import SCHEMAS
from modic.tables.store import read_table
from plain_run import plain_run

pytestmark = pytest.mark.usefixtures("no_networks")
PATIENTS = ("ann", "bob", "cid", "dan")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four patients, one of whom has a study without a T2, and a night over them."""
    for patient in PATIENTS:
        write(study(patient=patient, study=f"first of {patient}"), tmp_path / "archive" / patient)
    write(series(t1(), name="alone", patient="ann", study="second of ann"), tmp_path / "archive" / "ann 2")
    plain_run(tmp_path / "archive", tmp_path / "cohort")
    return tmp_path / "archive"


@pytest.fixture
def identified(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The patients of the studies that nights looked at, a set each time that some were."""
    nights: list[set[str]] = []
    identify = survey.identify

    def look(headers: Any, **more: Any) -> Any:
        nights.append(set(headers["PatientID"].to_pylist()))
        return identify(headers, **more)

    monkeypatch.setattr(survey, "identify", look)
    return nights


def looked_at(identified: list[set[str]]) -> set[str]:
    """All of them since this was last asked."""
    patients = set[str]().union(*identified)
    identified.clear()
    return patients


def tables(cohort: Path) -> dict[str, Any]:
    return {name: read_table(cohort, name) for name in SCHEMAS if name != "runs"}


def links(cohort: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(open_cohort(cohort).links, partitioning=None).to_pylist()
    return sorted(rows, key=lambda row: (row["study_key"], row["series_key"]))


def new_study(archive: Path) -> None:
    write(study(patient="eve", study="first of eve"), archive / "eve")


def second_study_that_has_what_the_other_lacks(archive: Path) -> None:
    write(series(t2(), name="more", patient="ann", study="third of ann"), archive / "ann 3")


def another_sex_under_the_same_id(archive: Path) -> None:
    slices = study(patient="bob", study="second of bob")
    for slice_ in slices:
        slice_.PatientSex, slice_.PatientBirthDate = "M", "19400101"
    for slice_ in [*slices]:
        slice_.StudyDate = "20240101"
    write(slices, archive / "bob 2")


def a_series_in_two_studies(archive: Path) -> None:
    slices = series(t1(), name="halved", patient="cid", study="half of cid")
    for slice_ in slices:
        slice_.SeriesInstanceUID = uid("shared series")
    write(slices[::2], archive / "cid 2")
    for slice_ in slices:
        slice_.StudyInstanceUID = uid("other half of cid")
    write(slices[1::2], archive / "cid 3")


def files_touched(archive: Path) -> None:
    os.utime(archive / "dan" / "00002")


def a_study_that_left(archive: Path) -> None:
    shutil.rmtree(archive / "bob")


def a_study_of_a_patient_with_two_that_left(archive: Path) -> None:
    shutil.rmtree(archive / "ann")


def a_broken_file_beside_images(archive: Path) -> None:
    whole = (archive / "cid" / "00003").read_bytes()
    (archive / "cid" / "broken").write_bytes(whole[:-10])


def a_moved_folder(archive: Path) -> None:
    (archive / "dan").rename(archive / "elsewhere")


def a_file_moved_to_another_study(archive: Path) -> None:
    (archive / "dan" / "00001").unlink()
    write(series(t1(), n=5, name="new", patient="bob", study="first of dan"), archive / "odd")


CHANGES: dict[Callable[[Path], None], set[str]] = {
    new_study: {"eve"},
    second_study_that_has_what_the_other_lacks: {"ann"},
    another_sex_under_the_same_id: {"bob"},
    a_series_in_two_studies: {"cid"},
    files_touched: {"dan"},
    a_study_that_left: set(),
    a_study_of_a_patient_with_two_that_left: {"ann"},
    a_broken_file_beside_images: {"cid"},
    a_moved_folder: {"dan"},
    a_file_moved_to_another_study: {"dan", "bob"},
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_only_what_changed_is_looked_at_and_the_rows_are_those_of_a_whole_look(
    archive: Path, identified: list[set[str]], change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = archive.parent / "cohort"
    before = tables(cohort)
    plain_run(archive, cohort)
    assert looked_at(identified) == set() and tables(cohort) == before, "nothing changed"
    change(archive)
    plain_run(archive, cohort)
    assert looked_at(identified) == CHANGES[change]
    part, kept = tables(cohort), links(cohort)
    assert part != before or change is a_moved_folder
    (cohort / "private" / "surveyed.parquet").unlink()
    monkeypatch.setattr(batches, "IMAGES", 1)
    plain_run(archive, cohort)
    assert len(identified) > 2, "one patient at a time"
    assert looked_at(identified) >= set(PATIENTS) - {"bob"}
    assert tables(cohort) == part and links(cohort) == kept
    assert not any(run_checks(cohort).values())
    plain_run(archive, cohort)
    assert looked_at(identified) == ({"cid"} if change is a_broken_file_beside_images else set())
    assert tables(cohort) == part


def test_a_study_of_an_earlier_night_is_looked_at_again_with_a_later_one_that_shares_its_series(
    archive: Path, identified: list[set[str]]
) -> None:
    cohort, slices = archive.parent / "cohort", series(t1(), name="halved", patient="eve", study="half of eve")
    for slice_ in slices:
        slice_.SeriesInstanceUID = uid("shared series")
    write(slices[::2], archive / "eve")
    plain_run(archive, cohort)
    write(study(patient="fay", study="first of fay"), archive / "fay")
    plain_run(archive, cohort)
    assert looked_at(identified) == {"eve", "fay"}
    before = tables(cohort)["series"].to_pylist()
    for slice_ in slices:
        slice_.StudyInstanceUID, slice_.PatientID = uid("other half"), "gil"
    write(slices[1::2], archive / "gil")
    plain_run(archive, cohort)
    assert looked_at(identified) == {"eve", "gil"}
    part = tables(cohort)
    now = {row["series_key"]: row for row in part["series"].to_pylist()}
    assert [now[row["series_key"]]["reason"] for row in before if now[row["series_key"]] != row] == [
        "series.missing_slice"
    ]
    (cohort / "private" / "surveyed.parquet").unlink()
    plain_run(archive, cohort)
    assert tables(cohort) == part


def test_a_broken_file_that_is_mended_takes_its_warning_along(archive: Path) -> None:
    cohort = archive.parent / "cohort"
    before = tables(cohort)
    a_broken_file_beside_images(archive)
    plain_run(archive, cohort)
    assert "1 file beside its images cannot be read" in str(tables(cohort)["series"]["warnings"].to_pylist())
    (archive / "cid" / "broken").unlink()
    plain_run(archive, cohort)
    assert tables(cohort)["series"].drop_columns(["run_id"]) == before["series"].drop_columns(["run_id"])


def test_lost_links_are_made_again(archive: Path) -> None:
    cohort = archive.parent / "cohort"
    plain_run(archive, cohort)
    links = open_cohort(cohort).links
    before = pq.read_table(links, partitioning=None)
    links.unlink()
    plain_run(archive, cohort)
    assert pq.read_table(links, partitioning=None).equals(before), "nothing else was new"
    links.unlink()
    write(study(patient="new"), archive / "new")
    plain_run(archive, cohort)
    assert len(pq.read_table(links, partitioning=None)) > len(before)


def test_failed_studies_and_lost_shards_are_looked_at_again(archive: Path, identified: list[set[str]]) -> None:
    cohort = archive.parent / "cohort"
    write(study(patient="bug-1", study="bug"), archive / "bug")
    assert len(plain_run(archive, cohort).failed) == 1
    identified.clear()
    assert len(plain_run(archive, cohort).failed) == 1
    assert looked_at(identified) == {"bug-1"}, "it is tried again"
    shard = open_cohort(cohort).finished_shards()[0]
    keys = ledger.read_keys(open_cohort(cohort))
    lost = keys.filter(pc.equal(keys["run_id"], shard.parent.parent.name))
    content = bytearray(shard.read_bytes())
    content[124:132] = b"damaged!"  # data of the first page; in its head, up to byte 118, not every bit matters
    shard.write_bytes(bytes(content))
    summary = plain_run(archive, cohort)
    assert summary.graded_now >= 2 and len(lost) and shard.with_name(f"{shard.name}.damaged").exists()
    assert not any(run_checks(cohort).values())


@pytest.mark.parametrize("what", ["another configuration", "tables of a backup", "another code", "a damaged state"])
def test_what_is_remembered_of_another_run_does_not_count(
    archive: Path, identified: list[set[str]], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    cohort, config = archive.parent / "cohort", archive.parent / "cohort.toml"
    given = ""
    if what == "another configuration":
        config.write_text("[identify]\nmin_slices = 6\n")
        given = str(config)
    elif what == "another code":
        monkeypatch.setattr("modic.run.unchanged.code_hash", lambda *_: "other")
    elif what == "a damaged state":
        (cohort / "private" / "surveyed.parquet").write_bytes(b"PAR1")
    else:
        backup = archive.parent / "backup"
        shutil.copytree(cohort / ".tables", backup, symlinks=True)
        current = (cohort / "current").readlink()
        new_study(archive)
        plain_run(archive, cohort)
        shutil.rmtree(cohort / ".tables")
        shutil.copytree(backup, cohort / ".tables", symlinks=True)
        (cohort / "current").unlink()
        (cohort / "current").symlink_to(current)
        identified.clear()
    plain_run(archive, cohort, config=given)
    assert looked_at(identified) >= set(PATIENTS)
    assert not any(run_checks(cohort).values())


def test_a_folder_that_closes_and_opens_again_loses_nothing(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = archive.parent / "cohort"
    before = tables(cohort)
    listed, closed = walk._listed, str(archive / "bob")

    def refuse(path: str, stack: Any) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return listed(path, stack)

    with monkeypatch.context() as patched:
        patched.setattr(walk, "_listed", refuse)
        plain_run(archive, cohort)
    assert tables(cohort)["studies"]["in_archive"].to_pylist().count(False) == 1
    plain_run(archive, cohort)
    assert tables(cohort) == before
