"""The slices of one series → stacks that share contrast and geometry, duplicates set aside.

The steps, in order:

| step | what                                                                                                  |
|------|-------------------------------------------------------------------------------------------------------|
| S1   | slices that differ in echo, inversion, b value, ImageType, StackID, contrast agent, fat suppression,  |
|      | colour, SOP class or frame of reference are split; a slice that names no frame of reference has the   |
|      | one that all others name                                                                              |
| S2   | slices whose orientations differ by more than `SPLIT_ORIENTATION` are split (a localizer in the       |
|      | series)                                                                                               |
| S3   | slices whose corners lie over `SPLIT_OFFSET_MM` apart within the plane are split (upper and lower     |
|      | station)                                                                                              |
| S4   | slices of another matrix or pixel spacing are split, if the largest group is regular without them and |
|      | they lie at places it has already; else all stay together and are refused (mixed_matrix)              |
| S5   | a slice without position gets one, if the places of all others follow InstanceNumber exactly          |
| S6   | slices at one place whose headers are equal but for SOPInstanceUID and InstanceNumber are duplicates: |
|      | one is kept, and modic.imaging.load compares the pixels; if they have one SOPInstanceUID (sent again  |
|      | after a correction), description, patient and study date may differ as well                           |
| S7   | other slices at one place are split by ImageType (ORIGINAL and DERIVED), TemporalPositionIdentifier,  |
|      | AcquisitionNumber, AcquisitionTime, SeriesTime or as blocks of InstanceNumber, whichever first makes  |
|      | every group regular                                                                                   |
| S8   | stacks that are regular only together were cut up by S1-S3 (partial_stacks.py); each is refused by    |
|      | what differs, because half a spine would pass for a whole one                                         |
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from modic.archive.headers import MR_CLASSES
from modic.archive.source import Row
from modic.config import IdentifyOptions
from modic.errors import Rejected
from modic.records import SeriesWarning, WarningKind
from modic.series.contrast import has_contrast_agent, has_fat_suppression
from modic.series.geometry import SAME_PLACE_MM, leftward, normal_of, positions_of, regularity
from modic.series.partial_stacks import refuse_partial_stacks
from modic.text import counted

SPLIT_ORIENTATION = 0.05  # largest difference in ImageOrientationPatient, about 3 degrees
SPLIT_OFFSET_MM = 15.0
SPLIT_TIME_MS = 0.5  # between echo or inversion times: nearer ones differ by rounding
MIN_TO_INFER = 5
MAX_GROUPS = 64  # of orientations, or of stations; further slices join the last group, which is then refused
FILE_KEYS = frozenset({"path", "size", "mtime_ns", "member", "frame"})
MAY_DIFFER = FILE_KEYS | {"SOPInstanceUID", "InstanceNumber", "TransferSyntaxUID", "SOPClassUID"}
PATIENT = frozenset({"PatientID", "PatientSex", "PatientAge", "PatientBirthDate"})
CORRECTED = PATIENT | {"SeriesDescription", "SeriesNumber", "BodyPartExamined", "StudyDate"}
"""May differ too if the SOPInstanceUID is the same: what people correct by hand before they send images again."""
DISCRIMINATORS = ("ImageType", "TemporalPositionIdentifier", "AcquisitionNumber", "AcquisitionTime", "SeriesTime")


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one contrast and plane, sorted along their normal if all have positions."""

    rows: list[Row]
    normal: np.ndarray | None  # unit vector (3,), LPS; None if no slice has an orientation
    mixed_matrix: bool = False
    warnings: tuple[SeriesWarning, ...] = ()
    duplicates: list[tuple[Row, Row]] = field(default_factory=list)  # (kept, set aside)
    rejected: Rejected | None = None  # only a part of a stack (S8)

    @property
    def positions(self) -> np.ndarray:
        """(n, 3) float64, LPS mm; nan for a slice without position."""
        return positions_of(self.rows)


def split_stacks(rows: list[Row], options: IdentifyOptions) -> list[Stack]:
    """The stacks of one series, the one with the lowest InstanceNumber first."""
    stacks = []
    for contrast in _groups(_with_frame(rows), _contrast(rows)):
        for normal, group in _by_orientation(contrast):
            for station in _by_offset(group, normal):
                for stack in _by_matrix(Stack(station, normal), options):
                    stacks += _finish(stack, options)
    stacks.sort(key=lambda stack: min(_order(row) for row in stack.rows))
    refused = refuse_partial_stacks([(stack.rows, stack.normal) for stack in stacks], options)
    return [replace(stack, rejected=why) for stack, why in zip(stacks, refused, strict=True)]


def _order(row: Row) -> tuple[float, str, int]:
    """Sorts slices by InstanceNumber, those without one last."""
    number = row["InstanceNumber"]
    return (float("inf") if number is None else float(number), row["path"], row["frame"])


def _groups(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> list[list[Row]]:
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return list(groups.values())


def _contrast(rows: list[Row]) -> Callable[[Row], Hashable]:
    """A function of a row that gives the same value for slices of one contrast (S1)."""
    clusters = {key: _clusters([row[key] for row in rows]) for key in ("EchoTime", "InversionTime")}

    def key(row: Row) -> Hashable:
        times = tuple(clusters[keyword].get(row[keyword]) for keyword in clusters)
        kind = tuple((row["ImageType"] or "").split("\\")[2:])
        image = row["PhotometricInterpretation"] or "MONOCHROME2", row["SOPClassUID"] in MR_CLASSES
        names = ("EchoNumbers", "DiffusionBValue", "StackID", "FrameOfReferenceUID", "ScanningSequence",
                 "AcquisitionContrast")  # fmt: skip
        agent, suppressed = has_contrast_agent(row), has_fat_suppression(row)
        return (*times, kind, image, agent, suppressed, *(row[name] for name in names))

    return key


def _clusters(times: Iterable[float | None]) -> dict[float | None, int]:
    """Time in ms → number of its cluster; clusters are `SPLIT_TIME_MS` or more apart."""
    known = sorted({time for time in times if time is not None})
    starts = np.diff(known, prepend=known[:1]) >= SPLIT_TIME_MS
    return dict(zip(known, np.cumsum(starts).tolist(), strict=True))


def _with_frame(rows: list[Row]) -> list[Row]:
    """A row that names no FrameOfReferenceUID gets the one that all others name."""
    names = {row["FrameOfReferenceUID"] for row in rows}
    if len(names) != 2 or None not in names:
        return rows
    (only,) = names - {None}
    return [row if row["FrameOfReferenceUID"] else {**row, "FrameOfReferenceUID": only} for row in rows]


def _by_orientation(rows: list[Row]) -> list[tuple[np.ndarray | None, list[Row]]]:
    """The normal and the rows of each orientation (S2). Slices without orientation stay with the largest group."""
    groups: list[tuple[np.ndarray, list[Row]]] = []
    unoriented: list[Row] = []
    group_of: dict[tuple[float, ...], list[Row]] = {}  # slices of a stack mostly say the same, number for number
    for row in rows:
        orientation = tuple(row["ImageOrientationPatient"] or ())
        if orientation not in group_of:
            oriented = normal_of(orientation) is not None
            group_of[orientation] = _alike(np.array(orientation), groups) if oriented else unoriented
        group_of[orientation].append(row)
    if not groups:
        return [(None, unoriented)]
    max(groups, key=lambda group: len(group[1]))[1].extend(unoriented)
    return [(leftward(normal_of(values)), group) for values, group in groups]  # type: ignore[arg-type]


def _alike(values: np.ndarray, groups: list[tuple[np.ndarray, list[Row]]]) -> list[Row]:
    """The rows of the first group whose orientation is like `values` (6,); of a new one; of the last of MAX_GROUPS."""
    alike = next((rows for known, rows in groups if np.abs(known - values).max() <= SPLIT_ORIENTATION), None)
    if alike is not None:
        return alike
    if len(groups) < MAX_GROUPS:
        groups.append((values, []))
    return groups[-1][1]


def _by_offset(rows: list[Row], normal: np.ndarray | None) -> list[list[Row]]:
    """The rows of each station (S3). Slices without position stay with the largest station.

    A slice is of a station if its first corner lies near that of the station's last slice, within the plane.
    """
    if normal is None:
        return [rows]
    positions = positions_of(rows)
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    if not len(known):
        return [rows]
    inside = positions - np.outer(positions @ normal, normal)
    order = known[np.argsort(positions[known] @ normal, kind="stable")]
    groups: list[list[int]] = []
    for index in order.tolist():
        near = (g for g in groups if np.linalg.norm(inside[g[-1]] - inside[index]) <= SPLIT_OFFSET_MM)
        group = next(near, None)
        if group is None and len(groups) < MAX_GROUPS:
            groups.append([index])
        else:
            (group or groups[-1]).append(index)
    if len(known) < len(rows):
        max(groups, key=len).extend(np.setdiff1d(np.arange(len(rows)), known).tolist())
    return [[rows[index] for index in group] for group in groups]


def _by_matrix(stack: Stack, options: IdentifyOptions) -> list[Stack]:
    """A stack of each matrix, or one that is marked as mixed (S4)."""
    groups = sorted(_groups(stack.rows, _matrix), key=len, reverse=True)
    if len(groups) == 1 or stack.normal is None:
        return [replace(stack, mixed_matrix=len(groups) > 1)]
    largest = np.sort(positions_of(groups[0]) @ stack.normal)
    others = positions_of([row for group in groups[1:] for row in group]) @ stack.normal
    spacing = float(np.median(np.diff(largest))) if len(largest) > 1 else np.nan
    same_places = bool((np.abs(others[:, None] - largest[None, :]).min(axis=1) <= 0.5 * spacing).all())
    if same_places and len(groups[0]) >= options.min_slices and _regular(groups[0], stack.normal, options):
        return [Stack(group, stack.normal) for group in groups]
    return [replace(stack, mixed_matrix=True)]


def _matrix(row: Row) -> Hashable:
    spacing = row["PixelSpacing"]
    return row["Rows"], row["Columns"], None if spacing is None else tuple(round(value, 3) for value in spacing)


def _regular(rows: list[Row], normal: np.ndarray, options: IdentifyOptions) -> bool:
    positions = positions_of(rows)
    if not np.isfinite(positions).all():
        return False
    return regularity(positions[np.argsort(positions @ normal)], normal, options).rejected is None


def _finish(stack: Stack, options: IdentifyOptions) -> list[Stack]:
    """Infer positions, set duplicates aside, split the slices left at one place, and sort along the normal (S5-S7)."""
    if stack.normal is None:
        return [replace(stack, rows=sorted(stack.rows, key=_order))]
    stack = _infer_positions(stack)
    if not np.isfinite(stack.positions).all():
        return [replace(stack, rows=sorted(stack.rows, key=_order))]
    stack = _dedupe(_sorted(stack))
    repeats = _split_repeats(stack, options)
    if len(repeats) == 1:
        return [stack]
    return [_sorted(replace(stack, rows=rows, duplicates=_duplicates_of(rows, stack))) for rows in repeats]


def _duplicates_of(rows: list[Row], stack: Stack) -> list[tuple[Row, Row]]:
    return [(kept, other) for kept, other in stack.duplicates if any(kept is row for row in rows)]


def _sorted(stack: Stack) -> Stack:
    places = stack.positions @ stack.normal
    keys = [(place, _order(row)) for place, row in zip(places.tolist(), stack.rows, strict=True)]
    return replace(stack, rows=[stack.rows[index] for index in sorted(range(len(keys)), key=keys.__getitem__)])


def _infer_positions(stack: Stack) -> Stack:
    """Place = offset + InstanceNumber * step, if that holds to 1 % of a step for all places that are known (S5)."""
    positions = stack.positions
    known = np.isfinite(positions).all(axis=1)
    numbers = np.array(
        [np.nan if row["InstanceNumber"] is None else row["InstanceNumber"] for row in stack.rows], float
    )
    distinct = len(np.unique(numbers)) == len(numbers)
    if known.all() or known.sum() < MIN_TO_INFER or not np.isfinite(numbers).all() or not distinct:
        return stack
    design = np.stack([np.ones_like(numbers), numbers], axis=1)
    fit, *_ = np.linalg.lstsq(design[known], positions[known], rcond=None)  # (2, 3): offset and step a number
    step = float(np.linalg.norm(fit[1]))
    if step < SAME_PLACE_MM or np.abs(design[known] @ fit - positions[known]).max() > 0.01 * step:
        return stack
    orientation = next(row["ImageOrientationPatient"] for row, has in zip(stack.rows, known, strict=True) if has)
    inferred = {"ImageOrientationPatient": orientation}
    rows = [
        row if has else {**row, **inferred, "ImagePositionPatient": place.tolist()}
        for row, has, place in zip(stack.rows, known, design @ fit, strict=True)
    ]
    warning = SeriesWarning(WarningKind.POSITION_INFERRED, counted(int((~known).sum()), "slice"))
    return replace(stack, rows=rows, warnings=(*stack.warnings, warning))


def _dedupe(stack: Stack) -> Stack:
    """The stack with its duplicates set aside (S6)."""
    kept: list[Row] = []
    duplicates: list[tuple[Row, Row]] = []
    by_place: dict[Hashable, list[Row]] = defaultdict(list)
    for row in stack.rows:
        neighbours = by_place[tuple(row["ImagePositionPatient"]), row["frame"]]
        twin = next((other for other in neighbours if _same_image(other, row)), None)
        if twin is None:
            kept.append(row)
            neighbours.append(row)
        else:
            duplicates.append((twin, row))
    warning = SeriesWarning(WarningKind.DUPLICATE_SLICES, counted(len(duplicates), "duplicate slice"))
    warnings = (*stack.warnings, warning) if duplicates else stack.warnings
    return replace(stack, rows=kept, duplicates=duplicates, warnings=warnings)


def _same_image(first: Row, second: Row) -> bool:
    corrected = CORRECTED if first["SOPInstanceUID"] == second["SOPInstanceUID"] else frozenset()
    return all(first[key] == second[key] for key in first.keys() - MAY_DIFFER - corrected)


def _split_repeats(stack: Stack, options: IdentifyOptions) -> list[list[Row]]:
    """The rows of each repeat (S7); all rows in one list if no element splits them into regular groups."""
    normal = stack.normal
    if normal is None or len(stack.rows) < 2 * options.min_slices:
        return [stack.rows]
    if np.diff(stack.positions @ normal).min() >= SAME_PLACE_MM and _regular(stack.rows, normal, options):
        return [stack.rows]
    keys: list[Callable[[Row], Hashable]] = [lambda row, key=key: row[key] for key in DISCRIMINATORS]  # type: ignore[misc]
    for groups in (*(_groups(stack.rows, key) for key in keys), _blocks(stack)):
        if len(groups) > 1 and all(len(g) >= options.min_slices and _regular(g, normal, options) for g in groups):
            return groups
    return [stack.rows]


def _blocks(stack: Stack) -> list[list[Row]]:
    """The n-th slices of all places, by InstanceNumber, if all first slices come before all second ones, and so on."""
    places = np.round(stack.positions @ stack.normal / SAME_PLACE_MM)
    counts: dict[float, int] = defaultdict(int)
    by_repeat: dict[int, list[Row]] = defaultdict(list)
    for index in sorted(range(len(places)), key=lambda i: _order(stack.rows[i])):
        by_repeat[counts[places[index]]].append(stack.rows[index])
        counts[places[index]] += 1
    blocks = [by_repeat[number] for number in sorted(by_repeat)]
    in_turn = all(max(map(_order, a)) < min(map(_order, b)) for a, b in pairwise(blocks))
    return blocks if in_turn and len({len(block) for block in blocks}) == 1 else [stack.rows]
