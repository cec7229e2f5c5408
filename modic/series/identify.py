"""Header rows → series with roles, geometry and, where they cannot serve as T1 or T2, the reason.

Stacks are split as modic/series/stacks.py says, roles found as modic/series/contrast.py says. The first row that
holds refuses a stack:

| row | condition                                                                           | reason                |
|-----|-------------------------------------------------------------------------------------|-----------------------|
| I1  | colour                                                                              | not_greyscale         |
| I2  | no ImageOrientationPatient                                                          | no_position           |
| I3  | normal over `sagittal_reject_deg` from the left-right axis (over `…_warn_deg`: warn)| not_sagittal          |
| I4  | role unknown, though the header says TR and TE                                      | role_unsure           |
| I5  | role known, and none of the `contrasts` to grade                                    | not_t1_or_t2          |
| I6  | fewer than `min_slices` places, and other slices at them                            | conflicting_slices    |
| I7  | one of several parts that only together make a regular stack (partial_stacks.py)       | mixed_contrast, …     |
| I8  | fewer than `min_slices` slices                                                      | too_few_slices        |
| I9  | Rows, Columns or PixelSpacing differ                                                | mixed_matrix          |
| I10 | no PixelSpacing, or one that is not two numbers of millimetres                      | no_spacing            |
| I11 | a slice without position that cannot be inferred                                    | no_position           |
| I12 | orientations differ by over `orientation_reject` (over `orientation_warn`: warn)    | mixed_orientation     |
| I13 | slices at one place that differ; missing slices; uneven spacing (geometry.py) | conflicting_slices, … |
| I14 | role unknown: the pixels may tell (`with_role`)                                     | role_unsure           |
| I15 | slices of another study, or another series of the same TR, TE and pixels, continue  | missing_slice         |
|     | it in regular steps: it is a part                                                   |                       |
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modic.archive.headers import COLUMNS
from modic.archive.patient_identity import IDENTITY, all_said, said
from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected
from modic.records import Plane, Series
from modic.series.contrast import RoleFound, find_role, has_contrast_agent, told_by_pixels
from modic.series.contrast import is_untold as header_is_untold
from modic.series.geometry import PIXEL_MM, Regularity, leftward, normal_of, plane_of, regularity
from modic.series.partial_stacks import refuse_parts
from modic.series.stacks import Row, Stack, split_stacks

GREY = frozenset({"MONOCHROME1", "MONOCHROME2", None})
BLOCK = 20_000
KEYS = ["StudyInstanceUID", "SeriesInstanceUID"]
SAME_SERIES = ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "RepetitionTime", "EchoTime")
MOST_PARTS = 64  # series that are looked through for the parts of one


def identify(headers: pa.Table, *, contrasts: Collection[str] = ("t1", "t2"), options: IdentifyOptions) -> list[Series]:
    """Every stack of every series of `headers` (modic.archive.crawl.Crawl.headers), sorted by study, series and stack.

    `contrasts` are those that the classifier asks for; a series of another contrast is refused (I5).

    Images of one series that name different patients come back as different stacks; modic.series.pair refuses their
    study. An image that names no patient is of the only one that its series, or else its study, names.
    """
    found = []
    for rows in _series_rows(headers):
        stacks = [stack for person in _by_person(rows) for stack in split_stacks(person, options)]
        found += [_series(stack, number, contrasts, options) for number, stack in enumerate(stacks)]
    return _without_parts(_with_patient_of_study(found), options)


def _by_person(rows: list[Row]) -> list[list[Row]]:
    """The rows of a series, by the person that they name where that are several; else with what some leave out."""
    named = all_said(rows)
    if all(len(values) < 2 for values in named.values()):
        known = {k: next(row[k] for row in rows if said(row, k)) for k, values in named.items() if values}
        return [[row if known.items() <= row.items() else {**row, **known} for row in rows]]
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(said(row, keyword) or "" for keyword in IDENTITY)].append(row)
    return [groups[person] for person in sorted(groups)]


def _with_patient_of_study(found: list[Series]) -> list[Series]:
    names: dict[str, set[str]] = defaultdict(set)
    for one in found:
        names[one.study_uid] |= {one.header["PatientID"]} - {None}
    only = {study: next(iter(known)) for study, known in names.items() if len(known) == 1}
    return [replace(one, patient_id=only.get(one.study_uid, one.patient_id)) for one in found]


def _without_parts(found: list[Series], options: IdentifyOptions) -> list[Series]:
    """`found`, with series refused whose other slices lie in another study or series (I15)."""
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for index, one in enumerate(found):
        if one.rejected is None:
            where = one.frame_of_reference_uid or one.patient_id
            alike[one.series_uid, where].append(index)
            alike[one.study_uid, where, *(str(one.header[key]) for key in SAME_SERIES)].append(index)
    for indices in alike.values():
        parts = [found[index] for index in indices]
        if not 1 < len({(one.study_uid, one.series_uid) for one in parts}) <= MOST_PARTS:
            continue
        beside = len({one.series_uid for one in parts}) > 1  # what was run twice, a little aside, is not in two parts
        refused = refuse_parts([_placed(one) for one in parts], options, only_beside=beside)
        for index, why in zip(indices, refused, strict=True):
            if why:
                rejected = Rejected(Reason.SERIES_MISSING_SLICE, f"{why.detail} in several series or studies")
                found[index] = replace(found[index], rejected=rejected)
    return found


def _placed(one: Series) -> tuple[list[Row], np.ndarray | None]:
    rows = [{**one.header, "ImagePositionPatient": place} for place in one.positions_mm]
    normal = normal_of(one.header["ImageOrientationPatient"])
    return rows, None if normal is None else leftward(normal)


def _series_rows(headers: pa.Table) -> Iterator[list[Row]]:
    """The rows of one series at a time; `BLOCK` rows and a series are Python objects at any moment."""
    keys = pa.table({key: headers[key].cast(pa.string()) for key in (*KEYS, "path")} | {"frame": headers["frame"]})
    order = pc.sort_indices(keys, sort_keys=[(key, "ascending") for key in keys.column_names])
    rows: list[Row] = []
    for start in range(0, len(order), BLOCK):
        for row in headers.take(order[start : start + BLOCK]).to_pylist():
            if rows and any(row[key] != rows[-1][key] for key in KEYS):
                yield rows
                rows = []
            rows.append(row)
    if rows:
        yield rows


def _series(stack: Stack, number: int, contrasts: Collection[str], options: IdentifyOptions) -> Series:
    header = {key: stack.rows[0][key] for key in COLUMNS}
    role = find_role(header)
    plane, angle = plane_of(stack.normal, options)
    shape = _regularity(stack, options)
    tilt, turn = _angle_warning(plane, angle, options), _orientation_spread(stack)
    warnings = (*stack.warnings, *tilt, *_turn_warning(turn, options), *shape.warnings)
    warnings = (*warnings, *_thinned_warning(shape.spacing_mm, header), *_role_warnings(role, header))
    spacing = header["PixelSpacing"]
    return Series(
        study_uid=header["StudyInstanceUID"],
        series_uid=header["SeriesInstanceUID"],
        stack=number,
        patient_id=header["PatientID"] or header["StudyInstanceUID"],  # nobody knows: then nobody else's
        files=tuple(row["path"] for row in stack.rows),
        frames=tuple(row["frame"] for row in stack.rows),
        role=role.role,
        role_evidence=role.evidence,
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
        rejected=_refusal(stack, role, contrasts, plane, angle, turn, shape, options),
        warnings=warnings,
        **_details(stack),
    )


def _details(stack: Stack) -> dict[str, Any]:
    where = {id(row): index for index, row in enumerate(stack.rows)}
    twins = tuple((where[id(kept)], other["path"], other["frame"]) for kept, other in stack.duplicates)
    positions = stack.positions
    known = bool(np.isfinite(positions).all())
    return {
        "duplicates": twins,
        "positions_mm": tuple(map(tuple, positions.tolist())) if known else (),
        "sop_uids": tuple(row["SOPInstanceUID"] for row in stack.rows),
        "sizes": tuple(row["size"] for row in stack.rows),
        "mtimes_ns": tuple(row["mtime_ns"] for row in stack.rows),
    }


def _regularity(stack: Stack, options: IdentifyOptions) -> Regularity:
    if stack.normal is None:
        return Regularity(None, Rejected(Reason.SERIES_NO_POSITION, "no ImageOrientationPatient"))
    lost = int((~np.isfinite(stack.positions).all(axis=1)).sum())
    if lost:
        return Regularity(None, Rejected(Reason.SERIES_NO_POSITION, f"{lost} of {len(stack.rows)} slices"))
    return regularity(stack.positions, stack.normal, options)


def _orientation_spread(stack: Stack) -> float:
    values = [row["ImageOrientationPatient"] for row in stack.rows if len(row["ImageOrientationPatient"] or ()) == 6]
    return float(np.ptp(np.array(values), axis=0).max()) if values else 0.0


def _is_spacing(spacing: Any) -> bool:
    return spacing is not None and len(spacing) == 2 and all(PIXEL_MM[0] <= one <= PIXEL_MM[1] for one in spacing)


def _refusal(
    stack: Stack,
    role: RoleFound,
    contrasts: Collection[str],
    plane: Plane,
    angle: float,
    turn: float,
    shape: Regularity,
    options: IdentifyOptions,
) -> Rejected | None:
    rows, count, untold = stack.rows, len(stack.rows), header_is_untold(stack.rows[0])
    checks: list[tuple[bool, Reason, str]] = [
        (not all(map(_is_grey, rows)), Reason.SERIES_NOT_GREYSCALE, ""),
        (stack.normal is None, Reason.SERIES_NO_POSITION, "no ImageOrientationPatient"),
        (plane != "sagittal", Reason.SERIES_NOT_SAGITTAL, f"{plane}, {angle:.0f} degrees from its axis"),
        (role.role == "unknown" and not untold, Reason.SERIES_ROLE_UNSURE, role.evidence),
        (role.role not in (*contrasts, "unknown"), Reason.SERIES_NOT_T1_OR_T2, role.evidence),
        (
            count < options.min_slices <= count + len(stack.duplicates),
            Reason.SERIES_CONFLICTING_SLICES,
            f"{count + len(stack.duplicates)} slices at {count} places",
        ),
        *([(True, stack.rejected.reason, stack.rejected.detail)] if stack.rejected else []),
        (count < options.min_slices, Reason.SERIES_TOO_FEW_SLICES, f"{count} slices, {options.min_slices} needed"),
        (stack.mixed_matrix, Reason.SERIES_MIXED_MATRIX, f"{count} slices"),
        (not all(_is_spacing(row["PixelSpacing"]) for row in rows), Reason.SERIES_NO_SPACING, ""),
    ]
    for holds, reason, detail in checks:
        if holds:
            return Rejected(reason, detail)
    if turn > options.orientation_reject:
        return Rejected(Reason.SERIES_MIXED_ORIENTATION, f"ImageOrientationPatient differs by {turn:.3f}")
    return shape.rejected or _refused_role(role, contrasts)


def _refused_role(role: RoleFound, contrasts: Collection[str]) -> Rejected | None:
    """I4, I5, I14."""
    if role.role in contrasts:
        return None
    return Rejected(Reason.SERIES_ROLE_UNSURE if role.role == "unknown" else Reason.SERIES_NOT_T1_OR_T2, role.evidence)


def is_untold(series: Series) -> bool:
    """Whether nothing but its role is against a series (I14)."""
    unsure = series.rejected is not None and series.rejected.reason == Reason.SERIES_ROLE_UNSURE
    return unsure and header_is_untold(series.header)


def with_role(series: Series, seen: RoleFound, contrasts: Collection[str] = ("t1", "t2")) -> Series:
    """A series that `is_untold`, with the role that its pixels were `seen` to have
    (modic/series/contrast_from_pixels.py)."""
    role = told_by_pixels(series.header, seen)
    warnings = (*series.warnings, *_role_warnings(role, series.header))
    rejected = _refused_role(role, contrasts)
    return replace(series, role=role.role, role_evidence=role.evidence, rejected=rejected, warnings=warnings)


def _is_grey(row: Row) -> bool:
    return row["PhotometricInterpretation"] in GREY and row["SamplesPerPixel"] in (1, None)


def _angle_warning(plane: Plane, angle: float, options: IdentifyOptions) -> tuple[str, ...]:
    warned = plane == "sagittal" and angle > options.sagittal_warn_deg
    return (f"slice normal {angle:.0f} degrees from the left-right axis",) if warned else ()


def _turn_warning(turn: float, options: IdentifyOptions) -> tuple[str, ...]:
    return (f"ImageOrientationPatient differs by {turn:.1g}",) if turn > options.orientation_warn else ()


def _thinned_warning(spacing: float | None, header: Row) -> tuple[str, ...]:
    """Where whole steps of SpacingBetweenSlices (no gap: not less than the thickness) are missing throughout."""
    said, thickness = header["SpacingBetweenSlices"] or 0.0, header["SliceThickness"] or 0.0
    if spacing is None or thickness <= 0 or said < 0.95 * thickness:
        return ()
    steps = spacing / said
    thinned = round(steps) >= 2 and abs(steps - round(steps)) <= 0.05
    return (f"slices {spacing:.2f} mm apart, SpacingBetweenSlices {said:.2f}",) if thinned else ()


DESCRIPTION_DISAGREES = "SeriesDescription disagrees with TR, TE and TI"
CONTRAST_AGENT = "T2 after ContrastBolusAgent"


def _role_warnings(role: RoleFound, header: Row) -> Iterator[str]:
    if role.contradicted:
        yield DESCRIPTION_DISAGREES
    if role.role == "t2" and has_contrast_agent(header):
        yield CONTRAST_AGENT
