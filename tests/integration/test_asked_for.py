"""Before a run: what it would grade and why, which studies it is asked for, and with which configuration."""

import json
import re
import shutil
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dicoms import series as one_series
from dicoms import study, t1, write
from modic.cli.main import main
from modic.cohort import open_cohort
from modic.errors import UsageError
from modic.run import status
from modic.run.selection import Selection, selection
from modic.tables.query import run_checks
from modic.tables.store import read_table
from plain_run import plain_run

pytestmark = pytest.mark.usefixtures("no_networks")
YEARS = {"ann": "20180630", "bob": "20190101", "cid": "20200229", "dan": ""}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Four studies of known dates (one has none), and one of 2019 that lacks a T2."""
    for patient, day in YEARS.items():
        slices = study(patient=patient)
        for slice_ in slices:
            slice_.StudyDate = day
        write(slices, tmp_path / "archive" / patient)
    lacking = one_series(t1(), name="t1", patient="eve")
    for slice_ in lacking:
        slice_.StudyDate = "20190501"
    write(lacking, tmp_path / "archive" / "eve")
    return tmp_path / "archive"


def keys(cohort: Path) -> dict[str, str]:
    """Patient id → study key."""
    links = pq.read_table(open_cohort(cohort).links, partitioning=None)
    return dict(zip(links["PatientID"].to_pylist(), links["study_key"].to_pylist(), strict=True))


def statuses(cohort: Path) -> dict[str, str]:
    """Patient id → status of each study that has a row."""
    rows = {row["study_key"]: row["status"] for row in read_table(cohort, "studies").to_pylist()}
    return {patient: rows[key] for patient, key in keys(cohort).items() if key in rows}


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        (Selection(since=date(2019, 1, 1)), {"bob": "graded", "cid": "graded", "eve": "excluded"}),
        (Selection(until=date(2019, 1, 1)), {"ann": "graded", "bob": "graded"}),
        (Selection(since=date(2018, 7, 1), until=date(2019, 12, 31)), {"bob": "graded", "eve": "excluded"}),
        (Selection(only={"ann": 1, "eve": 2}, file="ids.csv"), {"ann": "graded", "eve": "excluded"}),
    ],
)
def test_a_run_has_rows_of_what_it_is_asked_for_and_a_later_one_of_the_rest(
    archive: Path, tmp_path: Path, asked: Selection, rows: dict[str, str]
) -> None:
    cohort = tmp_path / "cohort"
    summary = plain_run(archive, cohort, asked=asked)
    assert statuses(cohort) == rows
    assert f"; {5 - len(rows)} of the archive not asked for" in summary.line()
    said = "\n".join(status.lines(open_cohort(cohort)))
    assert f"worked on in that run ({summary.graded_now} stud" in said
    assert f"; {asked}: {5 - len(rows)} of the archive not asked for" in said
    (row,) = read_table(cohort, "runs").to_pylist()
    assert row["studies_found"] == len(rows) and not any(run_checks(cohort).values())
    before = read_table(cohort, "levels")
    assert plain_run(archive, cohort).graded_now == 4 - list(rows.values()).count("graded")
    assert len(statuses(cohort)) == 5 and not any(run_checks(cohort).values())
    after = read_table(cohort, "levels")
    assert set(before["study_key"].to_pylist()) < set(after["study_key"].to_pylist())
    plain_run(archive, cohort, asked=asked)
    assert read_table(cohort, "levels") == after, "what is not asked for keeps its rows"
    assert read_table(cohort, "studies")["in_archive"].to_pylist() == [True] * 5
    assert not any(run_checks(cohort).values())


def test_a_limit_takes_the_same_sample_and_the_rest_waits(archive: Path, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    first = plain_run(archive, cohort, asked=Selection(limit=3))
    assert first.graded_now == 3 and first.left_out == 1
    graded = {patient for patient, is_ in statuses(cohort).items() if is_ == "graded"}
    assert len(graded) == 3 and statuses(cohort)["eve"] == "excluded"
    assert plain_run(archive, cohort, asked=Selection(limit=3)).graded_now == 1, "the next takes what waits"
    assert not any(run_checks(cohort).values())


def test_ids_are_patients_studies_or_keys_and_a_line_that_fits_none_is_told_by_number(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, ids = tmp_path / "cohort", tmp_path / "ids.csv"
    plain_run(archive, cohort, asked=Selection(limit=1))
    links = pq.read_table(open_cohort(cohort).links, partitioning=None).to_pylist()
    uid = next(row["StudyInstanceUID"] for row in links if row["PatientID"] == "eve")
    ids.write_text(f"patient_id;age\n  ann;44\n{uid};3\nnobody^else;5\n", encoding="utf-8-sig")
    asked = selection(only=str(ids))
    assert asked.only == {"ann": 2, uid: 3, "nobody^else": 4}
    said = plan(archive, cohort, capsys, "--only", str(ids))
    assert f"of 3 ids of {ids}, 1 is in no study (line 4)" in said and "nobody" not in said
    plain_run(archive, cohort, asked=asked)
    assert statuses(cohort)["ann"] == "graded"
    ids.write_text(keys(cohort)["ann"])
    plain_run(archive, cohort, asked=selection(only=str(ids)))
    ids.write_text("nobody")
    with pytest.raises(UsageError, match=r"no study of .* is asked for: of 1 id "):
        plain_run(archive, cohort, asked=selection(only=str(ids)))
    with pytest.raises(UsageError, match=r"no study of .* is asked for: since 2030-01-01"):
        plain_run(archive, cohort, asked=selection(since="2030-01-01"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"since": "last year"}, "--since last year is no date; write it like 2024-01-31"),
        ({"since": "2020-01-02", "until": "2020-01-01"}, "--since 2020-01-02 is later than --until 2020-01-01"),
        ({"only": "nowhere.csv"}, "nowhere.csv cannot be read: No such file or directory"),
        ({"limit": -1}, "--limit must be a whole number above 0, not -1"),
    ],
)
def test_what_is_asked_for_wrongly_is_said(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        selection(**wrong)  # type: ignore[arg-type]


LIST = "Patient ID\r\nMÜLL-1\r\n"


@pytest.mark.parametrize("written", [LIST.encode("utf-8-sig"), LIST.encode("utf-16"), LIST.replace("\r", "").encode()])
def test_a_list_is_read_however_excel_saves_text(tmp_path: Path, written: bytes) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_bytes(written)
    assert selection(only=str(ids)).only == {"MÜLL-1": 2}


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        (LIST.encode("latin-1"), "is not UTF-8; save it as CSV UTF-8"),
        (b"PK\x03\x04\x14\x00sheet.xml", "is no text; save the sheet as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is no text; save the sheet as CSV UTF-8"),
        ("ann\n".encode("utf-16-le"), "is no text; save the sheet as CSV UTF-8"),
    ],
)
def test_a_list_that_is_no_text_is_refused_with_the_cure(tmp_path: Path, written: bytes, cure: str) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_bytes(written)
    with pytest.raises(UsageError, match=re.escape(f"{ids} {cure}")):
        selection(only=str(ids))


@pytest.mark.parametrize("limit", ["0", "-1", "2.5", "some"])
def test_a_limit_of_no_study_is_refused_and_not_taken_for_none(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["grade", str(archive), "--out", str(tmp_path / "cohort"), "--plan", "--limit", limit])
    assert stop.value.code == 2 and f"a whole number above 0, not {limit}" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--plan"], []])
def test_an_archive_that_is_refused_leaves_no_empty_cohort(archive: Path, tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    (tmp_path / "made").mkdir()
    for cohort in (tmp_path / "new", tmp_path / "made"):
        assert main(["grade", str(tmp_path / "texts"), "--out", str(cohort), "--device", "cpu", *more]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.name, "made", "texts"]
    assert not any((tmp_path / "made").iterdir()), "the user's own folder"
    wrong = ["--since", "2030-01-01", *more]
    assert main(["grade", str(archive), "--out", str(tmp_path / "new"), "--device", "cpu", *wrong]) == 2
    assert open_cohort(tmp_path / "new").header_index.is_file(), "read for nothing otherwise"


def plan(archive: Path, cohort: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["grade", str(archive), "--out", str(cohort), "--plan", "--device", "cpu", *more]) == 0
    return capsys.readouterr().out


def test_a_plan_says_how_many_why_how_long_and_how_much_and_grades_nothing(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = tmp_path / "cohort"
    said = plan(archive, cohort, capsys)
    assert "5 studies in the archive, 4 of them with a pair to grade\n4 studies to grade: 4 new; no run has" in said
    assert re.search(r"needs 1 MB of \S+ GB free\n$", said)
    assert not (cohort / "current").exists() and list((cohort / "runs").iterdir()) == []
    assert "none has finished yet" in "\n".join(status.lines(open_cohort(cohort)))
    plain_run(archive, cohort)
    write(study(patient="fay"), archive / "fay")
    config = tmp_path / "cohort.toml"
    config.write_text("[levels]\nnumbering_min = 0.8\n")
    said = plan(archive, cohort, capsys, "--config", str(config))
    assert "5 studies to grade: 1 new; 4 studies are graded again: levels.numbering_min changed; about " in said
    assert re.search(r"at the last run's \d+ studies an hour; needs 1 MB of", said)
    assert "--regrade" not in said, "a file that is named is meant"
    assert len(read_table(cohort, "runs")) == 1
    said = plan(archive, cohort, capsys, "--since", "2020-01-01")
    assert said.startswith("2 studies in the archive, 2 of them with a pair to grade; 4 not asked for\n1 study to")


def test_a_plan_says_that_most_known_studies_are_not_there_and_notes_no_archive(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = tmp_path / "cohort"
    plain_run(archive, cohort)
    assert "are not in" not in plan(archive, cohort, capsys, "--since", "2020-01-01"), "not asked for is not gone"
    other = tmp_path / "other"
    shutil.copytree(archive / "ann", other / "ann")
    noted = (cohort / "private" / "archives.json").read_text()
    said = plan(other, cohort, capsys)
    assert f"4 of the 5 studies of the run before are not in {other}: is it the right folder, and mounted?" in said
    assert (cohort / "private" / "archives.json").read_text() == noted
    assert said.split("\n")[1] in plain_run(other, cohort).attention


def test_a_night_with_another_configuration_needs_a_word(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, config = tmp_path / "cohort", tmp_path / "cohort.toml"
    config.write_text("[levels]\nnumbering_min = 0.8\n[run]\nshard_size = 2\n")
    plain_run(archive, cohort, config=str(config), regrade=False)
    assert plain_run(archive, cohort, config=str(config), regrade=False).graded_now == 0
    with pytest.raises(UsageError, match=r"numbering_min 0\.8, now 0\.9\); give the --config .* or say --regrade"):
        plain_run(archive, cohort, regrade=False)
    another = tmp_path / "another.toml"
    another.write_text("[levels]\nnumbering_min = 0.7\n")
    with pytest.raises(UsageError, match=r"numbering_min 0\.8, now 0\.7"):
        plain_run(archive, cohort, config=str(another), regrade=False)
    assert len(read_table(cohort, "runs")) == 2, "nothing was published"
    config.write_text("[levels]\nnumbering_min = 0.85\n")
    assert plain_run(archive, cohort, config=str(config), regrade=False).graded_now == 4, "an edited file is meant"
    config.write_text("[levels]\nnumbering_min = 0.8\n")
    plain_run(archive, cohort, config=str(config), regrade=False)
    config.write_text("[levels]\nnumbering_min = 0.8\n[run]\nshard_size = 1\n")  # changes no grade
    assert plain_run(archive, cohort, config=str(config), regrade=False).graded_now == 0
    assert plain_run(archive, cohort, regrade=True).graded_now == 4
    assert plain_run(archive, cohort, regrade=False).graded_now == 0, "the word is given once"
    config.write_text("[levels]\nnumbering_min = 0.8\n")
    back = "0 studies to grade; 4 studies go back to grades of an earlier run, with the same options"
    capsys.readouterr()
    assert back in plan(archive, cohort, capsys, "--config", str(config))
    plain_run(archive, cohort, config=str(config))
    assert back not in plan(archive, cohort, capsys, "--config", str(config))


def test_a_night_that_was_refused_is_told_of_until_the_next_run(archive: Path, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    plain_run(archive, cohort)
    assert not any(line.startswith("refused") for line in status.lines(open_cohort(cohort)))
    assert main(["grade", str(tmp_path / "unmounted"), "--out", str(cohort), "--device", "cpu"]) == 2
    (said,) = [line for line in status.lines(open_cohort(cohort)) if line.startswith("refused")]
    assert said.endswith(f"UTC: the archive {tmp_path / 'unmounted'} does not exist")
    plain_run(archive, cohort)
    assert not any(line.startswith("refused") for line in status.lines(open_cohort(cohort)))


def test_a_cohort_of_an_earlier_version_knows_its_options_from_the_last_run(archive: Path, tmp_path: Path) -> None:
    cohort, config = tmp_path / "cohort", tmp_path / "cohort.toml"
    config.write_text("[levels]\nslices = 5\n")
    plain_run(archive, cohort, config=str(config))
    (cohort / "private" / "configuration.json").unlink()
    with pytest.raises(UsageError, match=r"levels\.slices 5, now 3"):
        plain_run(archive, cohort, regrade=False)
    (manifest,) = cohort.glob("runs/*/manifest.json")
    manifest.write_text(json.dumps({"options": "damaged"}))
    assert plain_run(archive, cohort, regrade=False).graded_now == 4, "it left no word of its options"


def test_other_weights_need_a_word_and_the_same_ones_elsewhere_do_not(archive: Path, tmp_path: Path) -> None:
    from modic.models.card import SHIPPED

    cohort, config = tmp_path / "cohort", tmp_path / "cohort.toml"
    plain_run(archive, cohort, regrade=False)
    for suffix in ("safetensors", "json"):
        shutil.copy(SHIPPED / f"classifier.{suffix}", tmp_path)
    config.write_text(f'classifier = "{tmp_path}/classifier.safetensors"\n')
    assert plain_run(archive, cohort, config=str(config), regrade=False).graded_now == 0
    known = json.loads((cohort / "private" / "configuration.json").read_text())
    known["weights"]["classifier"] = {"name": "mine.safetensors", "id": "0" * 12}
    (cohort / "private" / "configuration.json").write_text(json.dumps(known))
    with pytest.raises(UsageError, match=r"other options \(classifier\)"):
        plain_run(archive, cohort, regrade=False)
