"""From a key to the files and back; rejected files, folders that cannot be read, and somebody else's cohort."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dicoms import study, write
from modic.archive import walk
from modic.cli.main import main
from modic.cohort import open_cohort
from modic.run import status
from modic.tables.query import run_checks
from plain_run import plain_run

SOMEBODY = 65534


@pytest.fixture
def cohort(tmp_path: Path, no_networks: None) -> Path:
    """Two studies that are graded, a text and a broken image."""
    for patient in ("ann", "bob"):
        write(study(patient=patient), tmp_path / "archive" / patient)
    (tmp_path / "archive" / "notes.txt").write_text("x")
    broken = tmp_path / "archive" / "ann" / "broken"
    broken.write_bytes((tmp_path / "archive" / "ann" / "00003").read_bytes()[:-10])
    plain_run(tmp_path / "archive", tmp_path / "cohort")
    return tmp_path / "cohort"


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(list(words)) == 0
    return capsys.readouterr().out.splitlines()


def test_every_name_of_a_study_leads_to_it(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (link, *_) = [
        row
        for row in pq.read_table(open_cohort(cohort).links, partitioning=None).to_pylist()
        if row["PatientID"] == "bob"
    ]
    index = pq.read_table(open_cohort(cohort).header_index).to_pylist()
    image = next(row for row in index if row["SeriesInstanceUID"] == link["SeriesInstanceUID"])
    expected = ask(capsys, "find", str(cohort), "bob")
    assert expected[0] == f"study     {link['study_key']} {link['StudyInstanceUID']} of {link['study_date']}"
    assert expected[1] == f"patient   {link['patient_key']} bob"
    assert expected[2].startswith("outcome   graded in run 2")
    assert [line.split()[0] for line in expected[3:]] == ["series", "folder"] * 2
    assert {line.split()[3] for line in expected[3::2]} == {"t1", "t2"} and "used" in expected[3]
    assert expected[4] == f"folder    {cohort.parent / 'archive' / 'bob'} (11 files)"
    names = ("study_key", "series_key", "patient_key", "StudyInstanceUID")
    for name in [*(link[name] for name in names), link["SeriesInstanceUID"], image["SOPInstanceUID"], image["path"]]:
        said = ask(capsys, "find", str(cohort), name)
        assert said == expected or (said[:3] == expected[:3] and set(said) < set(expected)), name
    listed = ask(capsys, "find", str(cohort), link["series_key"], "--files")
    assert [line.split()[0] for line in listed[4:]] == ["file"] * 11
    assert {line.split()[1] for line in listed[4:]} == set(link["files"])
    assert main(["find", str(cohort), "nobody"]) == 2
    assert "knows no key, patient id, UID or file nobody" in capsys.readouterr().err


def test_a_folder_leads_to_all_that_lies_in_it_wherever_it_is_written_from(
    cohort: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cohort.parent)
    expected = ask(capsys, "find", str(cohort), "bob")
    for name in ("archive/bob", "archive/bob/", f"{cohort.parent}/archive/bob", "archive/../archive/bob"):
        assert ask(capsys, "find", str(cohort), name) == expected, name
    (some, *_) = (cohort.parent / "archive" / "bob").iterdir()
    assert ask(capsys, "find", str(cohort), f"archive/bob/{some.name}")[:3] == expected[:3]
    everything = ask(capsys, "find", str(cohort), "archive")
    assert sum(line.startswith("study ") for line in everything) > 1 and set(expected) < set(everything)
    for nothing in ("archive/bo", "", "x" * 300):
        assert main(["find", str(cohort), nothing]) == 2


def test_an_image_in_a_container_leads_to_its_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loose = tmp_path / "loose"
    write(study(patient="eva"), loose)
    (tmp_path / "archive").mkdir()
    with zipfile.ZipFile(tmp_path / "archive" / "eva.zip", "w") as packed:
        for path in sorted(path for path in loose.rglob("*") if path.is_file()):
            packed.write(path, f"in/{path.name}")
            name = f"{tmp_path}/archive/eva.zip!/in/{path.name}"
    plain_run(tmp_path / "archive", tmp_path / "packed")
    said = ask(capsys, "find", str(tmp_path / "packed"), name)
    assert said[1].endswith(" eva") and said[-1] == f"folder    {tmp_path}/archive/eva.zip!/in (11 files)"


def test_files_and_what_became_of_them(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = cohort.parent / "archive"
    rejected = ask(capsys, "files", str(cohort), "--rejected")
    assert rejected == [f"file.truncated\t{archive}/ann/broken", f"file.not_dicom\t{archive}/notes.txt"]
    assert ask(capsys, "files", str(cohort), "--reason", "file.truncated") == rejected[:1]
    assert main(["files", str(cohort)]) == 0
    said = capsys.readouterr()
    assert said.out.count("read\t") == 44 and said.err == "46 files: read 44, file.truncated 1, file.not_dicom 1\n"
    assert ask(capsys, "find", str(cohort), f"{archive}/notes.txt") == [f"file      {archive}/notes.txt file.not_dicom"]
    assert main(["files", str(cohort), "--reason", "file.odd"]) == 2
    assert "there is no reason file.odd" in capsys.readouterr().err


def test_lines_in_an_id_or_a_name_are_no_lines_of_an_answer(
    tmp_path: Path, no_networks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write(study(patient="eve\nfolder"), tmp_path / "archive")
    (tmp_path / "archive" / "a\nread\t").write_text("x")
    plain_run(tmp_path / "archive", tmp_path / "cohort")
    found = ask(capsys, "find", str(tmp_path / "cohort"), "eve\nfolder")
    assert [line.split()[0] for line in found] == ["study", "patient", "outcome", *["series", "folder"] * 2]
    (line,) = ask(capsys, "files", str(tmp_path / "cohort"), "--rejected")
    assert line.split("\t") == ["file.not_dicom", f"{tmp_path}/archive/a�read�"]


def test_a_folder_that_cannot_be_read_is_told_of_and_named_to_the_owner(
    cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = walk._listed
    closed = str(cohort.parent / "archive" / "bob")

    def refuse(path: str, stack: Any) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied", path)
        return listed(path, stack)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(walk, "_listed", refuse)
        words = ["--out", str(cohort), "--plan", "--device", "cpu"]
        planned = ask(capsys, "grade", str(cohort.parent / "archive"), *words)
        assert planned[1].startswith("1 folder of the archive cannot be read, and what lies below is missing")
        summary = plain_run(cohort.parent / "archive", cohort)
        assert "; 1 folder of the archive cannot be read, and what lies below is missing" in summary.line()
        assert summary.as_dict()["attention"], "so that the exit code is 3"
        assert "bob" not in summary.line()
        (line,) = [line for line in status.lines(open_cohort(cohort)) if line.startswith("attention")]
        assert f"`modic files {cohort} --reason file.folder_unreadable`" in line
        assert ask(capsys, "files", str(cohort), "--reason", "file.folder_unreadable") == [
            f"file.folder_unreadable\t{closed}"
        ]
        assert ask(capsys, "find", str(cohort), "bob")[2].endswith(", not in the archive any more")
        assert not any(run_checks(cohort).values())
        config = cohort.parent / "cohort.toml"
        config.write_text("[run]\nfolders_may_be_closed = true\n")
        assert not plain_run(cohort.parent / "archive", cohort, config=str(config)).attention
    assert not plain_run(cohort.parent / "archive", cohort).attention, "it is tried again each night"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can give files away")
def test_somebody_elses_cohort_can_be_asked_and_not_be_changed(cohort: Path) -> None:
    """Root without the right to read what is others' stands for the other user, who could not read this checkout."""
    for path in [cohort, *cohort.rglob("*")]:
        os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)
    commands = [
        ["query", "cohort", "SELECT count(*) FROM levels"], ["check", "cohort"], ["status", "cohort"],
        ["find", "cohort", "ann"], ["files", "cohort"], ["grade", "archive", "--out", "cohort"],
    ]  # fmt: skip
    code = f"import io, json, contextlib as c, modic; from modic.cli.main import main\nfor words in {commands}:\n"
    code += "    with c.redirect_stderr(io.StringIO()) as said, c.redirect_stdout(io.StringIO()): code = main(words)\n"
    code += "    print(json.dumps([words[0], code, said.getvalue()]))\nprint(len(modic.open('cohort').levels))"
    other = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, "-c", code]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(other, cwd=cohort.parent, env=environment, capture_output=True, text=True, check=True)
    *lines, levels = done.stdout.splitlines()
    assert levels == "12"
    for word, code_, said in map(json.loads, lines):
        if word in ("query", "check"):
            assert (code_, said) == (0, ""), said
        else:
            assert code_ == 2 and said.count("\n") == 1, said
            assert "cohort belongs to somebody else: only its owner can read its private folder" in said
