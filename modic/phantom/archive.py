"""A whole synthetic archive: patients on scanners of five manufacturers, with other series, and broken files.

`write_archive(out)` writes DICOM under `out` and the truth beside it, in `<out>.truth/studies.csv` and `levels.csv`.
The same seed gives the same bytes, whenever it runs.
"""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
)

from modic.imaging.volume import Volume
from modic.phantom import physics
from modic.phantom.anatomy import Patient, make_patient
from modic.phantom.headers import SCANNERS, Scanner, sequence_header
from modic.phantom.render import Grid, disc_boxes, render

STORIES = ("plain", "stir", "no_t1", "contrast", "repeat", "no_t2")
"""How a study differs from a plain sagittal T1 and T2; patient i gets the story i modulo 6."""

FAULTS = (
    "corrupt_pixels", "missing_slice", "mixed_matrix", "frame_of_reference", "no_position", "duplicate_files",
    "transitional",
)  # fmt: skip
"""Faults to choose from; each adds one study. `transitional`: a vertebra that makes the levels hard to name."""

EXPECTED = {
    "no_t1": ("excluded", "study.no_sagittal_t1"),
    "no_t2": ("excluded", "study.no_sagittal_t2"),
    "corrupt_pixels": ("failed", "study.pixels_unreadable"),
    "missing_slice": ("excluded", "study.no_sagittal_t2"),
    "mixed_matrix": ("excluded", "study.no_sagittal_t2"),
    "frame_of_reference": ("excluded", "study.frames_of_reference_differ"),
    "no_position": ("excluded", "study.no_sagittal_t2"),
}
"""Story or fault → status and reason that the study should end with; all others should be graded."""


@dataclass(frozen=True, eq=False)
class Study:
    """One study of one patient."""

    seed: int
    index: int
    story: str
    patient: Patient
    scanner: Scanner
    matrix: int

    @property
    def patient_id(self) -> str:
        """An id as hospitals give them."""
        return f"PHANTOM{self.seed:03d}{self.index:05d}"

    def uid(self, *parts: object) -> str:
        """A UID under the root 2.25, the same for the same seed, study and parts."""
        return _uid(self.seed, self.index, *parts)


def write_archive(
    out: Path, *, patients: int = 6, seed: int = 0, faults: Sequence[str] = (), matrix: int = 256, broken: bool = True
) -> None:
    """Write an archive of `patients` studies, one more for each fault, and broken files.

    Args:
        out: folder to make; the truth goes to `<out>.truth`.
        faults: names from FAULTS.
        matrix: rows and columns of the sagittal T2; a small matrix is written faster.
        broken: also write files that are not DICOM, cut off, or empty.

    Raises ValueError for an unknown fault.
    """
    unknown = set(faults) - set(FAULTS)
    if unknown:
        raise ValueError(f"unknown faults {sorted(unknown)}; known: {', '.join(FAULTS)}")
    stories = [STORIES[i % len(STORIES)] for i in range(patients)] + list(faults)
    studies, levels = [], []
    for index, story in enumerate(stories):
        unusual = 1.0 if story == "transitional" else 0.06
        person = make_patient(seed * 100_000 + index, p_mc1=0.12, p_mc2=0.2, p_transitional=unusual)
        study = Study(seed, index, story, person, SCANNERS[index % len(SCANNERS)], matrix)
        grid = _write_study(out, study)
        status, reason = EXPECTED.get(story, ("graded", ""))
        studies.append([study.patient_id, study.uid("study"), story, status, reason, int(person.transitional)])
        levels += list(_truth(study, grid)) if status == "graded" else []
    truth = out.with_name(out.name + ".truth")
    truth.mkdir(parents=True, exist_ok=True)
    _write_csv(truth / "studies.csv", "patient_id study_uid story status reason transitional", studies)
    _write_csv(truth / "levels.csv", "study_uid level mc t2_x0 t2_y0 t2_x1 t2_y1 t2_slice", levels)
    if broken:
        _write_broken(out, seed)


def _write_csv(path: Path, header: str, rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(), *rows])


def _truth(study: Study, grid: Grid) -> Iterator[list[Any]]:
    middle = grid.slices // 2
    for level, box in disc_boxes(study.patient, grid, middle):
        if level:
            yield [study.uid("study"), level, study.patient.grades[level], *(round(v, 2) for v in box), middle]


# --- the series of a study --------------------------------------------------------------------------------------------


def _write_study(out: Path, study: Study) -> Grid:
    """All series of one study; returns the grid of the sagittal T2."""
    rng = np.random.default_rng([study.seed, study.index, 11])
    t2_grid, t1_grid = _grids(study, rng)
    planned = _series(study, t2_grid, t1_grid, rng)
    for number, (name, grid, sequence, changes) in enumerate(planned, start=1):
        snr, coil = float(rng.uniform(22, 45)), float(rng.uniform(0.1, 0.7))
        volume = render(study.patient, grid, sequence, seed=number, snr=snr, coil=coil)
        header = sequence_header(study.scanner, sequence, grid.plane, variant=study.index // len(SCANNERS))
        header |= {"SeriesNumber": number, "SeriesTime": f"{10 + number:02d}0000", **changes}
        if "FrameOfReferenceUID" in changes:  # the patient got up in between and now lies 10 mm higher
            grid = replace(grid, centre_mm=(*grid.centre_mm[:2], grid.centre_mm[2] + 10))
        _write_series(out, study, name, volume, grid, header)
    return t2_grid


def _grids(study: Study, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Grids of T2, and of a T1 that may differ in matrix, field of view and number of slices."""
    _, y, z = study.patient.lumbar_centre_mm
    field_of_view = float(rng.uniform(270, 330))
    slices, spacing = int(rng.choice([11, 13, 15])), float(rng.choice([4.0, 4.4, 4.5]))
    centre = (round(float(study.patient.lateral(z)), 1), round(y + 5, 1), round(z - 20, 1))
    pixels = study.matrix
    t2 = Grid("sagittal", pixels, pixels, field_of_view / pixels, slices, spacing, spacing - 0.5, centre)
    if study.index % 3 == 0:
        return t2, t2
    other = round(pixels * 1.15)
    return t2, replace(t2, rows=other, columns=other, pixel_mm=field_of_view * 1.08 / other, slices=slices + 2)


def _series(
    study: Study, t2: Grid, t1: Grid, rng: np.random.Generator
) -> Iterator[tuple[str, Grid, physics.Sequence, dict[str, Any]]]:
    """(name, grid, sequence, changed header values) of every series, in the order of acquisition."""
    field = study.scanner.MagneticFieldStrength
    t1_weighted = physics.Sequence(
        "t1", round(float(rng.uniform(450, 700))), round(float(rng.uniform(8, 14)), 1), field_t=field
    )
    t2_weighted = physics.Sequence(
        "t2", round(float(rng.uniform(2800, 4500))), round(float(rng.uniform(85, 115))), field_t=field
    )
    small = max(study.matrix // 4, 32)
    localizer = physics.Sequence("localizer", 9.0, 4.0, field_t=field)
    for plane in ("sagittal", "coronal", "axial"):
        yield (
            f"localizer-{plane}",
            replace(t2, plane=plane, rows=small, columns=small, pixel_mm=400 / small, slices=3),
            localizer,
            {},
        )
    if study.story == "frame_of_reference":
        yield "t1", t1, t1_weighted, {"FrameOfReferenceUID": study.uid("other frame")}
    elif study.story != "no_t1":
        yield "t1", t1, t1_weighted, {}
    if study.story == "repeat":  # the patient moved, so a coarser T2 was acquired before
        yield (
            "t2-first",
            replace(t2, rows=t2.rows // 2, columns=t2.columns // 2, pixel_mm=t2.pixel_mm * 2),
            t2_weighted,
            {},
        )
    if study.story != "no_t2":
        yield "t2", t2, t2_weighted, {}
    if study.story in ("stir", "no_t2", "repeat"):
        stir = physics.Sequence("stir", 4000, 45, field_t=field)
        yield "stir", t2, replace(stir, ti_ms=round(physics.stir_null_ti(stir))), {}
    if study.story == "contrast":
        yield "t1-gd", t1, replace(t1_weighted, name="t1_post_contrast", fat_suppressed=True, contrast_agent=True), {}
    axial = replace(
        t2, plane="axial", rows=small * 2, columns=small * 2, pixel_mm=180 / (small * 2), slices=6, spacing_mm=8.0
    )
    yield "axial-t2", axial, t2_weighted, {}
    yield "axial-t1", axial, t1_weighted, {}


# --- files ----------------------------------------------------------------------------------------------------------


def _write_series(out: Path, study: Study, name: str, volume: Volume, grid: Grid, header: dict[str, Any]) -> None:
    """Write one file a slice; for every second study InstanceNumber follows an interleaved acquisition."""
    order = list(range(grid.slices))
    if study.index % 2:
        order = order[::2] + order[1::2]
    for number, index in enumerate(order):
        if study.story == "missing_slice" and name == "t2" and index == grid.slices // 2 - 2:
            continue
        path = out / _place(study, name, header["SeriesNumber"], number)
        image = _image(study, name, volume, grid, header, index, number)
        _save(path, image, study, name)
        if study.story == "duplicate_files" and name == "t2" and index < 2:
            _save(path.with_name(path.name + "_COPY"), image, study, name)


def _place(study: Study, name: str, series: int, number: int) -> str:
    if study.scanner.layout == "flat":
        return f"{study.patient_id}/D{series * 100 + number:07d}"
    if study.scanner.layout == "images":
        return f"DICOM/{study.index:04d}/IMAGES/{series:03d}/IM{number + 1:06d}"
    return f"{study.patient_id}/{study.uid('study')[-8:]}/SERIES{series:03d}/{study.uid(name, number)[-12:]}.dcm"


def _image(
    study: Study, name: str, volume: Volume, grid: Grid, header: dict[str, Any], index: int, number: int
) -> FileDataset:
    image = _dataset(study, ImplicitVRLittleEndian if study.scanner.implicit else ExplicitVRLittleEndian)
    pixels = np.clip(volume.voxels[index] * 2, 0, 4095).astype(np.uint16)
    if study.story == "mixed_matrix" and name == "t2" and index == 1:
        pixels = np.ascontiguousarray(pixels[:-8, :-8])
    directions = grid.affine[:3, :2] / np.linalg.norm(grid.affine[:3, :2], axis=0)
    image.update(Dataset())
    values = {
        "SOPInstanceUID": study.uid(name, index),
        "SeriesInstanceUID": study.uid(name),
        "FrameOfReferenceUID": study.uid("frame"),
        "InstanceNumber": number + 1,
        "ImageOrientationPatient": [round(float(v), 6) for v in directions.T.ravel()],
        "ImagePositionPatient": [round(float(v), 4) for v in (grid.affine @ [0, 0, index, 1])[:3]],
        "PixelSpacing": [round(grid.pixel_mm, 6)] * 2,
        "SliceThickness": round(grid.thickness_mm, 3),
        "SpacingBetweenSlices": round(grid.spacing_mm, 3),
        **header,
    }
    if study.story == "no_position" and name == "t2" and index == 3:
        del values["ImagePositionPatient"]
    for keyword, value in values.items():
        setattr(image, keyword, value)
    _set_pixels(image, pixels)
    return image


def _set_pixels(image: Dataset, pixels: np.ndarray) -> None:
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = pixels.tobytes()


def _dataset(study: Study, syntax: str) -> FileDataset:
    """A data set with the elements of patient and study; dates follow from the seed."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID("2.25.1")
    year = 2006 + (study.seed + 3 * study.index) % 18
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SpecificCharacterSet = (
        list(study.scanner.charset) if len(study.scanner.charset) > 1 else study.scanner.charset[0]
    )
    image.SOPClassUID = MRImageStorage
    image.PatientName = study.scanner.names[study.index % 2]
    image.PatientID = study.patient_id
    image.PatientBirthDate = f"{year - study.patient.age_years}0315"
    image.PatientSex, image.PatientAge = study.patient.sex, f"{study.patient.age_years:03d}Y"
    image.StudyInstanceUID, image.StudyID = study.uid("study"), str(study.index + 1)
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = f"{year}{1 + study.index % 12:02d}17"
    image.StudyTime, image.AccessionNumber = "101500", f"A{study.seed}{study.index:06d}"
    image.InstitutionName, image.ReferringPhysicianName = "PHANTOM HOSPITAL", "HOUSE^GREGORY"
    return image


def _save(path: Path, image: FileDataset, study: Study, name: str) -> None:
    if name == "stir" and image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian:
        image.compress(RLELossless, generate_instance_uid=False)
    if study.story == "corrupt_pixels" and name == "t2":
        from pydicom.encaps import encapsulate

        image.file_meta.TransferSyntaxUID = JPEG2000Lossless
        image.PixelData = encapsulate([b"\xff\x4f\xff\x51not a code stream" * 20])
        image["PixelData"].VR = "OB"
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


def _write_broken(out: Path, seed: int) -> None:
    """Write what archives hold besides images: a note, an empty file, noise, a cut header, cut pixels, a DICOMDIR."""
    folder = out / "LOST+FOUND"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "readme.txt").write_text("Copied from the old PACS. Ask radiology before deleting.\n", encoding="utf-8")
    (folder / "EMPTY").write_bytes(b"")
    (folder / "noise.dcm").write_bytes(np.random.default_rng([seed, 99]).bytes(3000))
    study = Study(seed, 99_999, "plain", make_patient(seed), SCANNERS[0], 64)
    grid = Grid("sagittal", 64, 64, 5.0, 3, 10.0, 1.5, study.patient.lumbar_centre_mm)
    sequence = physics.Sequence("localizer", 9.0, 4.0)
    volume = render(study.patient, grid, sequence, seed=1)
    header = sequence_header(study.scanner, sequence, "sagittal") | {"SeriesNumber": 1, "SeriesTime": "100000"}
    whole = folder / "IM1"
    _save(whole, _image(study, "localizer", volume, grid, header, 0, 0), study, "localizer")
    data = whole.read_bytes()
    (folder / "cut_in_header").write_bytes(data[:400])
    whole.write_bytes(data[: len(data) - 3000])
    _write_dicomdir(out / "DICOMDIR")


def _write_dicomdir(path: Path) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, UID("2.25.1")
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, UID("2.25.2")
    directory = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    directory.FileSetID, directory.DirectoryRecordSequence = "PHANTOM", []
    directory.save_as(path, enforce_file_format=True)


def _uid(*parts: object) -> str:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"
