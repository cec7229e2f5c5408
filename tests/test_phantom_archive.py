"""Synthetic archives: repeatable to the byte, readable, and with the truth beside them."""

import csv
import hashlib
from pathlib import Path

import pydicom
import pytest

from modic.phantom.archive import FAULTS, write_archive

SMALL = {"matrix": 48}


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "archive"
    write_archive(out, patients=5, seed=7, **SMALL)
    return out


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def headers(archive):
    for path in sorted(archive.rglob("*")):
        if path.is_file() and path.parent.name != "LOST+FOUND" and path.name != "DICOMDIR":
            yield pydicom.dcmread(path, stop_before_pixels=True)


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_archive(tmp_path / name, patients=1, seed=seed, **SMALL)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    assert digest(tmp_path / "a.truth") == digest(tmp_path / "b.truth")


def test_five_manufacturers_and_their_habits(archive):
    seen = list(headers(archive))
    assert {h.Manufacturer.split()[0] for h in seen} == {"SIEMENS", "GE", "Philips", "CANON_MEC", "Hitachi,"}
    assert any(not h.SeriesDescription for h in seen)
    assert any("DERIVED" in h.ImageType for h in seen)
    assert any("佐藤" in str(h.PatientName) or "田中" in str(h.PatientName) for h in seen)
    assert any(h.get("InversionTime") for h in seen)


def test_the_truth_is_complete_and_beside_the_archive(archive):
    truth = archive.with_name("archive.truth")
    studies = table(truth / "studies.csv")
    levels = table(truth / "levels.csv")
    assert [s["status"] for s in studies] == ["graded", "graded", "excluded", "graded", "graded"]
    graded = {s["study_uid"] for s in studies if s["status"] == "graded"}
    assert {row["study_uid"] for row in levels} == graded
    assert len(levels) == 6 * len(graded)
    assert graded <= {h.StudyInstanceUID for h in headers(archive)}


def test_every_fault_adds_a_study(tmp_path):
    write_archive(tmp_path / "a", patients=0, faults=FAULTS, broken=False, matrix=32)
    studies = table(tmp_path / "a.truth" / "studies.csv")
    assert [s["story"] for s in studies] == list(FAULTS)
    assert {s["status"] for s in studies} == {"graded", "excluded", "failed"}


def test_an_unknown_fault_is_named(tmp_path):
    with pytest.raises(ValueError, match="earthquake"):
        write_archive(tmp_path / "a", faults=["earthquake"])
