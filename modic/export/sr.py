"""Boxes and grades as DICOM structured reports (TID 1500 Measurement Report), for those who want them in the PACS.

One report a graded study; one planar ROI (TID 1410) a level that was found, on the T2 slice of its box, with the grade
and its probabilities. A report names the patient and the original UIDs, or no viewer could show it: this is the way
back from the pseudonyms, through `private/links.parquet`, and the reports must be kept like the archive itself.

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

from modic.archive.walk import on_disk
from modic.cohort import is_cohort
from modic.errors import UsageError
from modic.tables.query import connect, rows_of

SCHEME = "99MODIC"
"""Private coding scheme: no standard one has Modic's types."""

MODIC_CHANGE = Code("MODIC", SCHEME, "Modic change")
GRADES = {
    0: Code("MC0", SCHEME, "No Modic change"),
    1: Code("MC1", SCHEME, "Modic change type 1"),
    2: Code("MC2", SCHEME, "Modic change type 2"),
    None: Code("ABSTAINED", SCHEME, "No single grade"),
}
PROBABILITIES = {f"p_mc{k}": Code(f"P_MC{k}", SCHEME, f"Probability of MC{k}") for k in range(3)}
SITES = {
    level: getattr(codes.SCT, f"LevelOf{level.replace('/', '')}IntervertebralDisc")
    for level in ("T12/L1", "L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")
}
CORNER = 0.5
"""From the centre of the first pixel to its corner."""

UNICODE = "ISO_IR 192"
"""Character set of the reports: names of any archive fit, and highdicom refuses some that DICOM allows."""

NEAR_MM = 0.5
"""So near must a box's corner on a file lie to where the table says, or the file is not the slice that was graded."""

STUDIES = """
SELECT studies.study_key, studies.t2_series_key, latest_run.code_version, list(levels ORDER BY mm_z0 DESC) AS levels
FROM studies JOIN levels USING (study_key), latest_run
WHERE studies.status = 'graded' AND levels.status = 'graded' GROUP BY ALL ORDER BY study_key"""


def write_sr(cohort: Path, out: Path) -> list[str]:
    """`<study_key>.dcm` of every graded study whose T2 files are still where they were.

    Raises UsageError where the cohort lacks `private/links.parquet`.
    """
    links = cohort / "private" / "links.parquet"
    if not is_cohort(cohort) or not links.is_file():
        raise UsageError(f"{cohort} has no private/links.parquet, and without it there is no way back to the images")
    files = dict(zip(*pq.read_table(links, columns=["series_key", "files"]).to_pydict().values(), strict=True))
    with connect(cohort) as connection:
        studies = rows_of(connection, STUDIES)
    left_out: Counter[str] = Counter()
    for study in studies:
        report, why = _report(study, files.get(study["t2_series_key"], []))
        if report is None:
            left_out[why] += 1
        else:
            report.save_as(out / f"{study['study_key']}.dcm", enforce_file_format=True)
    written = len(studies) - left_out.total()
    return [
        f"{out}: {written:,} reports. They name patients and original UIDs: keep them like the archive",
        *(f"{n:,} studies left out: {why}" for why, n in sorted(left_out.items())),
    ]


def _report(study: dict[str, Any], files: list[str]) -> tuple[Dataset | None, str]:
    """The report of one study; or None and why."""
    slices: dict[int, Dataset] = {}
    for level in study["levels"]:
        index = level["t2_slice"]
        if index not in slices:
            if index >= len(files):
                return None, "the slice of a box is not in private/links.parquet"
            try:
                slices[index] = pydicom.dcmread(on_disk(files[index]), stop_before_pixels=True)
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
    """Whether the corner of the box, put on this file by its own header, is where the table says in patient mm."""
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
    """One level: the closed outline of its box, the grade and the three probabilities."""
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
        measurements=[sr.Measurement(code, level[name], codes.UCUM.NoUnits) for name, code in PROBABILITIES.items()],
        qualitative_evaluations=[sr.QualitativeEvaluation(MODIC_CHANGE, GRADES[level["mc"]])],
    )
