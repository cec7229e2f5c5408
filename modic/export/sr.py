"""Boxes and grades as DICOM structured reports (TID 1500 Measurement Report), to show them in the PACS.

Each graded study gives one report. Each graded level in it is a planar region of interest (TID 1410) on the T2 slice of
its box, with the grade and its probabilities. A report names the patient and the original UIDs, since no viewer could
show it otherwise: `private/links.parquet` leads back from the pseudonyms, and the reports must be kept as safe as the
archive.

Pixels of a report count from the corner of the first pixel (DICOM PS3.3 C.18.6), those of the tables from its centre.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pydicom
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from modic.archive.containers import place_of
from modic.archive.sources import Opener
from modic.cohort import STUDY_KEY, Cohort, formed, is_cohort
from modic.errors import UsageError
from modic.grades import GRADES, P
from modic.records import LEVELS
from modic.tables.query import connect, rows_of, statements
from modic.text import plural

SCHEME = "99MODIC"
"""Private coding scheme: no standard one has Modic's types."""

MODIC_CHANGE = Code("MODIC", SCHEME, "Modic change")
MEANINGS = ("No Modic change", *(f"Modic change type {grade[-1]}" for grade in GRADES[1:]))
GRADE_CODES: dict[int | None, Code] = {k: Code(grade, SCHEME, MEANINGS[k]) for k, grade in enumerate(GRADES)}
GRADE_CODES[None] = Code("ABSTAINED", SCHEME, "No single grade")
PROBABILITY_CODES = {
    column: Code(f"P_{grade}", SCHEME, f"Probability of {grade}") for column, grade in zip(P, GRADES, strict=True)
}
SITES = {level: getattr(codes.SCT, f"LevelOf{level.replace('/', '')}IntervertebralDisc") for level in LEVELS}
CORNER = 0.5
"""Pixels from the centre of the first pixel to its corner."""

UNICODE = "ISO_IR 192"
"""Character set of the reports (UTF-8): it holds the names of any archive; highdicom refuses some other sets."""

NEAR_MM = 0.5
"""Largest distance between the corner of a box as a file's header places it and as the table does: beyond it, the file
is not the slice that was graded."""


def write_sr(cohort: Path, out: Path) -> list[str]:
    """Write `<study_key>.dcm` of every graded study whose T2 files are still in the archive.

    Returns lines that say how many were written, and how many were left out and why. Raises UsageError if the cohort
    lacks `private/links.parquet`.
    """
    links = Cohort(cohort).links
    if not is_cohort(cohort) or not links.is_file():
        raise UsageError(f"{cohort} has no private/links.parquet, and without it there is no way back to the images")
    opener = Opener.of_cache(Cohort(cohort).cache)
    files = dict(zip(*pq.read_table(links, columns=["series_key", "files"]).to_pydict().values(), strict=True))
    with connect(cohort) as connection:
        studies = rows_of(connection, statements("sr")["studies"])
    left_out: Counter[str] = Counter()
    for study in studies:
        report, why = make_report(study, files.get(study["t2_series_key"], []), opener)
        if report is None:
            left_out[why] += 1
        else:
            report.save_as(out / f"{formed(STUDY_KEY, study['study_key'])}.dcm", enforce_file_format=True)
    written = len(studies) - left_out.total()
    return [
        f"{out}: {written:,} reports. They name patients and original UIDs: keep them like the archive",
        *(f"{n:,} {plural(n, 'study')} left out: {why}" for why, n in sorted(left_out.items())),
    ]


def make_report(study: dict[str, Any], files: list[str], opener: Opener | None = None) -> tuple[Dataset | None, str]:
    """The report of one study; or None, and why there is none.

    Args:
        study: a row of sql/sr/studies.sql.
        files: names of its T2 images (modic.archive.containers.full_name) in the order of the slices.
        opener: opens them.
    """
    slices: dict[int, Dataset] = {}
    for level in study["levels"]:
        index = level["t2_slice"]
        if index is None:
            return None, "graded on STIR, in the place of T2 (not supported)"
        if index not in slices:
            if index >= len(files):
                return None, "the slice of a box is not in private/links.parquet"
            try:
                with (opener or Opener()).open(*place_of(files[index])) as file:
                    slices[index] = pydicom.dcmread(file, stop_before_pixels=True)
            except (OSError, pydicom.errors.InvalidDicomError):
                return None, "a T2 file is gone or cannot be read"
            slices[index].decode()
            slices[index].SpecificCharacterSet = UNICODE
        if int(slices[index].get("NumberOfFrames") or 1) > 1:
            return None, "multi-frame T2 (not supported)"
        if not _is_slice(slices[index], level):
            return None, "a T2 file is not the slice that was graded"
    return _document(study, slices), ""


def _is_slice(file: Dataset, level: dict[str, Any]) -> bool:
    """Whether this file's header places the corner of the box (t2_x0, t2_y0) where the table does (mm, LPS)."""
    try:
        row, column = np.array(file.ImageOrientationPatient, float).reshape(2, 3)
        down, across = (float(step) for step in file.PixelSpacing)
        origin = np.array(file.ImagePositionPatient, float)
    except (AttributeError, TypeError, ValueError):
        return False
    here = origin + row * across * level["t2_x0"] + column * down * level["t2_y0"]
    return float(np.linalg.norm(here - [level["mm_x0"], level["mm_y0"], level["mm_z0"]])) < NEAR_MM


def _document(study: dict[str, Any], slices: dict[int, Dataset]) -> Dataset:
    own = [study["study_key"], *(f"{level['run_id']}{level['classifier_id']}" for level in study["levels"])]
    first = study["levels"][0]
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["device", first["classifier_id"], first["detector_id"]]),
        name="modic",
        model_name=f"modic {study['code_version']}",
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.MRIUnspecifiedBodyRegion,
        imaging_measurements=[_group(level, slices[level["t2_slice"]], own) for level in study["levels"]],
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.ComprehensiveSR(
        evidence=list(slices.values()),
        content=content[0],
        series_number=9000,
        series_instance_uid=generate_uid(entropy_srcs=["series", *own]),
        sop_instance_uid=generate_uid(entropy_srcs=["instance", *own]),
        instance_number=1,
        manufacturer="modic",
        is_complete=True,
        series_description="Modic changes (research use only)",
    )


def _group(level: dict[str, Any], file: Dataset, own: list[str]) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    """One level: the closed outline of its box (columns, rows), the grade and the probabilities."""
    x0, y0, x1, y1 = (level[f"t2_{side}"] + CORNER for side in ("x0", "y0", "x1", "y1"))
    outline = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]])
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=generate_uid(entropy_srcs=["level", level["level"], *own]), identifier=level["level"]
        ),
        referenced_region=sr.ImageRegion(
            sr.GraphicTypeValues.POLYLINE, outline, sr.SourceImageForRegion(file.SOPClassUID, file.SOPInstanceUID)
        ),
        finding_type=MODIC_CHANGE,
        finding_sites=[sr.FindingSite(SITES[level["level"]])],
        algorithm_id=sr.AlgorithmIdentification("modic", f"{level['detector_id']} {level['classifier_id']}"),
        measurements=[
            sr.Measurement(code, level[name], codes.UCUM.NoUnits) for name, code in PROBABILITY_CODES.items()
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(MODIC_CHANGE, GRADE_CODES[level["mc"]])],
    )
