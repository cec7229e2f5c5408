"""Synthetic archives: repeatable to the byte, readable, and with the truth beside them."""

import csv
import hashlib
from pathlib import Path

import pydicom
import pytest
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

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
    read = list(headers(archive))
    assert {h.Manufacturer.split()[0] for h in read} == {"SIEMENS", "GE", "Philips", "CANON_MEC", "Hitachi,"}
    assert any(not h.SeriesDescription for h in read)
    assert any("DERIVED" in h.ImageType for h in read)
    assert any("佐藤" in str(h.PatientName) or "田中" in str(h.PatientName) for h in read)
    assert any(h.get("InversionTime") for h in read)


def test_the_truth_is_complete_and_beside_the_archive(archive):
    truth = archive.with_name("archive.truth")
    studies = table(truth / "studies.csv")
    levels = table(truth / "levels.csv")
    assert [s["status"] for s in studies] == ["graded", "graded", "excluded", "graded", "graded"]
    graded = {s["study_uid"] for s in studies if s["status"] == "graded"}
    assert {row["study_uid"] for row in levels} == graded
    assert len(levels) == 6 * len(graded)
    assert graded <= {h.StudyInstanceUID for h in headers(archive)}


def test_encodings_differ_and_every_pixel_can_be_read(archive):
    syntaxes = set()
    for path in sorted(p for p in archive.rglob("*") if p.is_file() and p.parent.name != "LOST+FOUND"):
        if path.name != "DICOMDIR":
            image = pydicom.dcmread(path)
            assert image.pixel_array.shape == (image.Rows, image.Columns)
            syntaxes.add(image.file_meta.TransferSyntaxUID)
    assert syntaxes == {ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless}


def test_broken_files_are_what_archives_hold(archive):
    lost = archive / "LOST+FOUND"
    assert {p.name for p in lost.iterdir()} == {"readme.txt", "EMPTY", "noise.dcm", "cut_in_header", "IM1"}
    cut = pydicom.dcmread(lost / "IM1")
    assert len(cut.PixelData) < cut.Rows * cut.Columns * 2
    with pytest.raises(InvalidDicomError):
        pydicom.dcmread(lost / "noise.dcm")


def test_a_transitional_spine_can_be_asked_for(tmp_path):
    write_archive(tmp_path / "a", patients=1, faults=["transitional"], broken=False, matrix=32)
    assert [s["transitional"] for s in table(tmp_path / "a.truth" / "studies.csv")] == ["0", "1"]


def test_every_fault_adds_a_study(tmp_path):
    write_archive(tmp_path / "a", patients=0, faults=FAULTS, broken=False, matrix=32)
    studies = table(tmp_path / "a.truth" / "studies.csv")
    assert [s["story"] for s in studies] == list(FAULTS)
    assert {s["status"] for s in studies} == {"graded", "excluded", "failed"}


def test_an_unknown_fault_is_named(tmp_path):
    with pytest.raises(ValueError, match="earthquake"):
        write_archive(tmp_path / "a", faults=["earthquake"])
