"""Header rows → series with contrast and geometry and, for a series that cannot be graded, the reason.

Series are split into stacks as modic/series/stacks.py says, and their contrast is found as modic/series/contrast.py
says. The first row that holds refuses a stack:

| row | condition                                                                           | reason                |
|-----|-------------------------------------------------------------------------------------|-----------------------|
| I1  | colour                                                                              | not_greyscale         |
| I2  | no ImageOrientationPatient                                                          | no_position           |
| I3  | normal over `sagittal_reject_deg` from the left-right axis (over `…_warn_deg`: warn)| not_sagittal          |
| I4  | contrast unknown, though the header has TR and TE                                   | role_unsure           |
| I5  | contrast known, and none of those to be graded (T1, T2, and what else is asked for) | not_t1_or_t2          |
| I6  | fewer than `min_slices` places, and further slices at them                          | conflicting_slices    |
| I7  | one of several stacks of the series that are regular only together                  | mixed_contrast, …     |
|     | (partial_stacks.py)                                                                 |                       |
| I8  | fewer than `min_slices` slices                                                      | too_few_slices        |
| I9  | Rows, Columns or PixelSpacing differ                                                | mixed_matrix          |
| I10 | no PixelSpacing, or one that is not two plausible numbers of millimetres            | no_spacing            |
| I11 | a slice without position that cannot be inferred                                    | no_position           |
| I12 | orientations differ by over `orientation_reject` (over `orientation_warn`: warn)    | mixed_orientation     |
| I13 | different slices at one place; missing slices; uneven spacing (geometry.py)         | conflicting_slices, … |
| I14 | contrast unknown; the pixels may show it (`with_contrast`)                          | role_unsure           |
| I15 | slices of another study, or of another series of the same TR, TE and matrix,        | missing_slice         |
|     | continue it in regular steps, so that it is only a part (company.py)                |                       |
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modic.archive.header_values import COLUMNS
from modic.archive.patient_identity import IDENTITY, identity_value, identity_values
from modic.archive.source import Row
from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected
from modic.records import ImageReference, Plane, Series, SeriesWarning, WarningKind
from modic.series.acquisition import reconstruction
from modic.series.company import refuse_parts, with_company
from modic.series.contrast import (
    ContrastFinding,
    accept_from_pixels,
    find_contrast,
    has_contrast_agent,
    lacks_times,
)
from modic.series.geometry import PIXEL_MM, Regularity, plane_of, regularity
from modic.series.stacks import Stack, split_stacks
from modic.text import counted

GREY = frozenset({"MONOCHROME1", "MONOCHROME2", None})
BLOCK = 20_000
KEYS = ["StudyInstanceUID", "SeriesInstanceUID"]
T1_AND_T2 = ("t1", "t2")


def identify(headers: pa.Table, *, contrasts: Collection[str] = T1_AND_T2, options: IdentifyOptions) -> list[Series]:
    """Every stack of every series, sorted by study, series and stack.

    Images of one series that name different patients come back as different stacks; modic.series.pair refuses their
    study. If an image names no patient, the only patient that its series, or else its study, names is taken.

    Args:
        headers: modic.archive.crawl.Crawl.headers.
        contrasts: contrasts that are graded or measured; a series of another contrast is refused (I5).
        options: limits of the geometry.
    """
    series = []
    for rows in _series_rows(headers):
        stacks = [stack for patient in _by_patient(rows) for stack in split_stacks(patient, options)]
        series += [_series(stack, number, contrasts, options) for number, stack in enumerate(stacks)]
    return with_company(refuse_parts(_with_patient_of_study(series), options), options)


def _by_patient(rows: list[Row]) -> list[list[Row]]:
    """The rows of a series by the patient that they name.

    If all name one patient, rows that leave out a part of the identity get it from the others.
    """
    named = identity_values(rows)
    if all(len(values) < 2 for values in named.values()):
        known = {k: next(row[k] for row in rows if identity_value(row, k)) for k, values in named.items() if values}
        return [[row if known.items() <= row.items() else {**row, **known} for row in rows]]
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(identity_value(row, keyword) or "" for keyword in IDENTITY)].append(row)
    return [groups[patient] for patient in sorted(groups)]


def _with_patient_of_study(stacks: list[Series]) -> list[Series]:
    """`stacks`, each of them of the only patient that its study names, if it names one only."""
    names: dict[str, set[str]] = defaultdict(set)
    for stack in stacks:
        if named := identity_value(stack.header, "PatientID"):
            names[stack.study_uid].add(named)
    only = {study: next(iter(known)) for study, known in names.items() if len(known) == 1}
    return [replace(stack, patient_id=only.get(stack.study_uid, stack.patient_id)) for stack in stacks]


def _series_rows(headers: pa.Table) -> Iterator[list[Row]]:
    """The rows of one series at a time. Only `BLOCK` rows and those of a series are Python objects at any moment."""
    texts = {key: headers[key].cast(pa.string()) for key in (*KEYS, "path", "member")}
    keys = pa.table({**texts, "frame": headers["frame"]})
    order = pc.sort_indices(keys, sort_keys=[(key, "ascending") for key in keys.column_names])
    rows: list[Row] = []
    for start in range(0, len(order), BLOCK):
        for row in _rows(headers.take(order[start : start + BLOCK])):
            if rows and any(row[key] != rows[-1][key] for key in KEYS):
                yield rows
                rows = []
            rows.append(row)
    if rows:
        yield rows


def _rows(headers: pa.Table) -> Iterator[Row]:
    """The rows of a table as `to_pylist` gives them; equal values of a dictionary are one object, which is 8 times as
    quick."""
    columns = map(_values, headers.columns)
    return (dict(zip(headers.column_names, row, strict=True)) for row in zip(*columns, strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    column = column.unify_dictionaries()
    known = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    places = (place for chunk in column.chunks for place in chunk.indices.to_pylist())
    return [None if place is None else known[place] for place in places]


@dataclass(frozen=True, eq=False)
class _Examined:
    """What the table decides on: a stack, its contrast, and its geometry."""

    stack: Stack
    contrast: ContrastFinding
    plane: Plane
    angle_deg: float  # between the slice normal and the nearest patient axis
    turn: float  # largest difference in ImageOrientationPatient
    shape: Regularity

    @property
    def header(self) -> Row:
        return self.stack.rows[0]


def _series(stack: Stack, number: int, contrasts: Collection[str], options: IdentifyOptions) -> Series:
    header = {key: stack.rows[0][key] for key in COLUMNS}
    plane, angle = plane_of(stack.normal, options)
    contrast, shape = find_contrast(header), _regularity(stack, options)
    examined = _Examined(stack, contrast, plane, angle, _orientation_spread(stack), shape)
    spacing, positions = header["PixelSpacing"], stack.positions
    return Series(
        study_uid=header["StudyInstanceUID"],
        series_uid=header["SeriesInstanceUID"],
        stack=number,
        patient_id=identity_value(header, "PatientID") or header["StudyInstanceUID"],  # unknown: no other study
        images=tuple(map(_image, stack.rows)),
        contrast=contrast.contrast,
        contrast_evidence=contrast.evidence,
        plane=plane,
        header=header,
        repetition_time_ms=header["RepetitionTime"],
        echo_time_ms=header["EchoTime"],
        inversion_time_ms=header["InversionTime"],
        pixel_spacing_mm=tuple(spacing) if _is_spacing(spacing) else None,
        slice_spacing_mm=shape.spacing_mm,
        slice_thickness_mm=header["SliceThickness"],
        n_slices=len(stack.rows),
        frame_of_reference_uid=header["FrameOfReferenceUID"],
        rejected=_refusal(examined, contrasts, options),
        warnings=tuple(_warnings(examined, options)),
        positions_mm=tuple(map(tuple, positions.tolist())) if np.isfinite(positions).all() else (),
        duplicates=_duplicates(stack),
    )


def _image(row: Row) -> ImageReference:
    return ImageReference(row["path"], row["member"], row["frame"], row["SOPInstanceUID"], row["size"], row["mtime_ns"])


def _duplicates(stack: Stack) -> tuple[tuple[int, ImageReference], ...]:
    index_of = {id(row): index for index, row in enumerate(stack.rows)}
    return tuple((index_of[id(kept)], _image(other)) for kept, other in stack.duplicates)


def _regularity(stack: Stack, options: IdentifyOptions) -> Regularity:
    if stack.normal is None:
        return Regularity(None, Rejected(Reason.SERIES_NO_POSITION, "no ImageOrientationPatient"))
    missing = int((~np.isfinite(stack.positions).all(axis=1)).sum())
    if missing:
        detail = f"{missing} of {counted(len(stack.rows), 'slice')}"
        return Regularity(None, Rejected(Reason.SERIES_NO_POSITION, detail))
    return regularity(stack.positions, stack.normal, options)


def _orientation_spread(stack: Stack) -> float:
    """Largest difference of any number of ImageOrientationPatient between slices."""
    values = [row["ImageOrientationPatient"] for row in stack.rows if len(row["ImageOrientationPatient"] or ()) == 6]
    return float(np.ptp(np.array(values), axis=0).max()) if values else 0.0


def _is_spacing(spacing: Any) -> bool:
    return spacing is not None and len(spacing) == 2 and all(PIXEL_MM[0] <= mm <= PIXEL_MM[1] for mm in spacing)


def _refusal(examined: _Examined, contrasts: Collection[str], options: IdentifyOptions) -> Rejected | None:
    """The first row of I1 to I14 that holds; None if the stack is accepted."""
    return next(_refusals(examined, contrasts, options), None)


def _refusals(examined: _Examined, contrasts: Collection[str], options: IdentifyOptions) -> Iterator[Rejected]:
    """The rows of I1 to I14 that hold, in their order."""
    stack, rows, count = examined.stack, examined.stack.rows, len(examined.stack.rows)
    if not all(map(_is_grey, rows)):
        yield Rejected(Reason.SERIES_NOT_GREYSCALE)
    if stack.normal is None:
        yield Rejected(Reason.SERIES_NO_POSITION, "no ImageOrientationPatient")
    if examined.plane != "sagittal":
        detail = f"{examined.plane}, {examined.angle_deg:.0f} degrees from its axis"
        yield Rejected(Reason.SERIES_NOT_SAGITTAL, detail)
    unsuitable = _unsuitable_contrast(examined.contrast, contrasts)
    if unsuitable and not (unsuitable.reason is Reason.SERIES_ROLE_UNSURE and lacks_times(examined.header)):
        yield unsuitable
    places = count + len(stack.duplicates)
    if count < options.min_slices <= places:
        yield Rejected(Reason.SERIES_CONFLICTING_SLICES, f"{counted(places, 'slice')} at {counted(count, 'place')}")
    if stack.rejected:
        yield stack.rejected
    if count < options.min_slices:
        yield Rejected(Reason.SERIES_TOO_FEW_SLICES, f"{counted(count, 'slice')}, {options.min_slices} needed")
    yield from _geometry_refusals(examined, options)
    if unsuitable:
        yield unsuitable


def _geometry_refusals(examined: _Examined, options: IdentifyOptions) -> Iterator[Rejected]:
    """The rows of I9 to I13 that hold, in their order."""
    rows = examined.stack.rows
    if examined.stack.mixed_matrix:
        yield Rejected(Reason.SERIES_MIXED_MATRIX, counted(len(rows), "slice"))
    if not all(_is_spacing(row["PixelSpacing"]) for row in rows):
        yield Rejected(Reason.SERIES_NO_SPACING)
    if examined.turn > options.orientation_reject:
        yield Rejected(Reason.SERIES_MIXED_ORIENTATION, f"ImageOrientationPatient differs by {examined.turn:.3f}")
    if examined.shape.rejected:
        yield examined.shape.rejected


def _unsuitable_contrast(finding: ContrastFinding, contrasts: Collection[str]) -> Rejected | None:
    """I4, I5 and I14."""
    if finding.contrast in contrasts:
        return None
    reason = Reason.SERIES_ROLE_UNSURE if finding.contrast == "unknown" else Reason.SERIES_NOT_T1_OR_T2
    return Rejected(reason, finding.evidence)


def is_unclear(series: Series) -> bool:
    """Whether a series is refused only because its header does not give its contrast (I14)."""
    unsure = series.rejected is not None and series.rejected.reason is Reason.SERIES_ROLE_UNSURE
    return unsure and lacks_times(series.header)


def with_contrast(series: Series, from_pixels: ContrastFinding, contrasts: Collection[str] = T1_AND_T2) -> Series:
    """A series that `is_unclear`, with the contrast that its pixels show (modic/series/contrast_from_pixels.py)."""
    finding = accept_from_pixels(series.header, from_pixels)
    return replace(
        series,
        contrast=finding.contrast,
        contrast_evidence=finding.evidence,
        rejected=_unsuitable_contrast(finding, contrasts),
        warnings=(*series.warnings, *_contrast_warnings(finding, series.header)),
    )


def _is_grey(row: Row) -> bool:
    return row["PhotometricInterpretation"] in GREY and row["SamplesPerPixel"] in (1, None)


def _warnings(examined: _Examined, options: IdentifyOptions) -> Iterator[SeriesWarning]:
    yield from examined.stack.warnings
    if examined.plane == "sagittal" and examined.angle_deg > options.sagittal_warn_deg:
        yield SeriesWarning(WarningKind.NOT_QUITE_SAGITTAL, f"{examined.angle_deg:.0f}")
    if examined.turn > options.orientation_warn:
        yield SeriesWarning(WarningKind.ORIENTATION_DIFFERS, f"{examined.turn:.1g}")
    yield from examined.shape.warnings
    yield from _thinned_warning(examined.shape.spacing_mm, examined.header)
    made = reconstruction(examined.header)
    if made.computed:
        yield SeriesWarning(WarningKind.COMPUTED)
    if made.reformatted:
        yield SeriesWarning(WarningKind.REFORMATTED)
    yield from _contrast_warnings(examined.contrast, examined.header)


def _thinned_warning(spacing: float | None, header: Row) -> Iterator[SeriesWarning]:
    """If the slices lie 2, 3, … SpacingBetweenSlices apart: others were left out.

    A SpacingBetweenSlices under the SliceThickness is the gap between slices, as some scanners write it.
    """
    nominal, thickness = header["SpacingBetweenSlices"] or 0.0, header["SliceThickness"] or 0.0
    if spacing is None or thickness <= 0 or nominal < 0.95 * thickness:
        return
    steps = spacing / nominal
    if round(steps) >= 2 and abs(steps - round(steps)) <= 0.05:
        detail = f"{spacing:.2f} mm apart, SpacingBetweenSlices {nominal:.2f}"
        yield SeriesWarning(WarningKind.SLICES_THINNED_OUT, detail)


def _contrast_warnings(finding: ContrastFinding, header: Row) -> Iterator[SeriesWarning]:
    if finding.contradicted:
        yield SeriesWarning(WarningKind.DESCRIPTION_DISAGREES)
    if finding.contrast == "t2" and has_contrast_agent(header):
        yield SeriesWarning(WarningKind.CONTRAST_AGENT)
