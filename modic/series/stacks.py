"""The slices of one series → stacks that share contrast and geometry, duplicates set aside.

| order | what                                                                                                 |
|-------|------------------------------------------------------------------------------------------------------|
| S1    | slices that differ in echo, inversion, b value, ImageType, StackID, contrast agent, fat suppression, |
|       | colour, class or frame of reference are split; a slice without frame is in the series' only one      |
| S2    | so are slices whose orientations differ by more than `SPLIT_ORIENTATION` (a localizer in the series) |
| S3    | so are slices whose corners lie over `SPLIT_OFFSET_MM` apart within the plane (upper, lower station) |
| S4    | so are slices of another matrix or pixel spacing, where the largest group is regular without them    |
|       | and they lie at places it has already; else all stay together and are refused (mixed_matrix)         |
| S5    | a slice without position gets one where places follow InstanceNumber exactly in all the others       |
| S6    | slices at one place whose headers are equal but for SOPInstanceUID and InstanceNumber are duplicates:|
|       | one is kept, and modic.imaging.load compares the pixels; under one SOPInstanceUID (sent again, corrected)  |
|       | description, patient and study date may differ as well                                               |
| S7    | other slices at one place: split by TemporalPositionIdentifier, AcquisitionNumber, AcquisitionTime,  |
|       | SeriesTime or as blocks of InstanceNumber, whichever first makes every part regular                  |
| S8    | stacks that only together make one regular stack are parts of it that S1-S3 cut up (partial_stacks.py): |
|       | each is refused by what differs, since half a spine would pass for a whole one                       |
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from modic.config import IdentifyOptions
from modic.errors import Rejected
from modic.series.contrast import MR_CLASSES, has_contrast_agent, has_fat_suppression
from modic.series.geometry import SAME_PLACE_MM, leftward, normal_of, positions_of, regularity
from modic.series.partial_stacks import refuse_parts

Row = dict[str, Any]
SPLIT_ORIENTATION = 0.05  # largest difference in ImageOrientationPatient, about 3 degrees
SPLIT_OFFSET_MM = 15.0
SPLIT_TIME_MS = 0.5  # between echo or inversion times: nearer ones differ by rounding
MIN_TO_INFER = 5
MAX_GROUPS = 64  # of orientations, or of stations: what lies beyond joins the last group, which is then refused
FILE_KEYS = frozenset({"path", "size", "mtime_ns", "frame"})
MAY_DIFFER = FILE_KEYS | {"SOPInstanceUID", "InstanceNumber", "TransferSyntaxUID", "SOPClassUID"}
PATIENT = frozenset({"PatientID", "PatientSex", "PatientAge", "PatientBirthDate"})
CORRECTED = PATIENT | {"SeriesDescription", "SeriesNumber", "BodyPartExamined", "StudyDate"}
"""May differ besides under one SOPInstanceUID: what is corrected by hand before images are sent again."""
DISCRIMINATORS = ("TemporalPositionIdentifier", "AcquisitionNumber", "AcquisitionTime", "SeriesTime")


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one contrast and plane, sorted along `normal` where they have positions."""

    rows: list[Row]
    normal: np.ndarray | None
    mixed_matrix: bool = False
    warnings: tuple[str, ...] = ()
    duplicates: list[tuple[Row, Row]] = field(default_factory=list)  # (kept, set aside)
    rejected: Rejected | None = None  # a part of a stack (S8)

    @property
    def positions(self) -> np.ndarray:
        """(n, 3) mm; nan where a slice has none."""
        return positions_of(self.rows)


def split_stacks(rows: list[Row], options: IdentifyOptions) -> list[Stack]:
    """The stacks of one series, the one with the lowest InstanceNumber first."""
    stacks = []
    for contrast in _groups(_with_frame(rows), _contrast(rows)):
        for normal, group in _by_orientation(contrast):
            for station in _by_offset(group, normal):
                for part in _by_matrix(Stack(station, normal), options):
                    stacks += _settle(part, options)
    stacks.sort(key=lambda stack: min(_order(row) for row in stack.rows))
    refused = refuse_parts([(stack.rows, stack.normal) for stack in stacks], options)
    return [replace(stack, rejected=why) for stack, why in zip(stacks, refused, strict=True)]


def _order(row: Row) -> tuple[float, str, int]:
    number = row["InstanceNumber"]
    return (float("inf") if number is None else float(number), row["path"], row["frame"])


def _groups(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> list[list[Row]]:
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return list(groups.values())


def _contrast(rows: list[Row]) -> Callable[[Row], Hashable]:
    """What tells the contrasts of a series apart, for one of its rows."""
    clusters = {key: _clusters([row[key] for row in rows]) for key in ("EchoTime", "InversionTime")}

    def key(row: Row) -> Hashable:
        times = tuple(clusters[keyword].get(row[keyword]) for keyword in clusters)
        kind = tuple((row["ImageType"] or "").split("\\")[2:])
        image = row["PhotometricInterpretation"] or "MONOCHROME2", row["SOPClassUID"] in MR_CLASSES
        names = ("EchoNumbers", "DiffusionBValue", "StackID", "FrameOfReferenceUID", "ScanningSequence")
        agent, suppressed = has_contrast_agent(row), has_fat_suppression(row)
        return (*times, kind, image, agent, suppressed, *(row[name] for name in names))

    return key


def _clusters(times: Iterable[float | None]) -> dict[float | None, int]:
    """Time in ms → number of its cluster; clusters are `SPLIT_TIME_MS` or more apart."""
    known = sorted({time for time in times if time is not None})
    starts = np.diff(known, prepend=known[:1]) >= SPLIT_TIME_MS
    return dict(zip(known, np.cumsum(starts).tolist(), strict=True))


def _with_frame(rows: list[Row]) -> list[Row]:
    """Rows that name no FrameOfReferenceUID get the one that all others name."""
    names = {row["FrameOfReferenceUID"] for row in rows}
    if len(names) != 2 or None not in names:
        return rows
    (only,) = names - {None}
    return [row if row["FrameOfReferenceUID"] else {**row, "FrameOfReferenceUID": only} for row in rows]


def _by_orientation(rows: list[Row]) -> list[tuple[np.ndarray | None, list[Row]]]:
    """Groups around the first slice of each; slices without orientation stay with the largest group (S2)."""
    groups: list[tuple[np.ndarray, list[Row]]] = []
    lost = []
    for row in rows:
        if normal_of(row["ImageOrientationPatient"]) is None:
            lost.append(row)
            continue
        values = np.array(row["ImageOrientationPatient"])
        home = next((g for g in groups if np.abs(g[0] - values).max() <= SPLIT_ORIENTATION), None)
        if home is None and len(groups) < MAX_GROUPS:
            groups.append((values, [row]))
        else:
            (home or groups[-1])[1].append(row)
    if not groups:
        return [(None, lost)]
    max(groups, key=lambda group: len(group[1]))[1].extend(lost)
    return [(leftward(normal_of(values)), group) for values, group in groups]  # type: ignore[arg-type]


def _by_offset(rows: list[Row], normal: np.ndarray | None) -> list[list[Row]]:
    """Groups whose first corners are chained within the plane (S3); slices without position stay with the largest."""
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
        home = next(near, None)
        if home is None and len(groups) < MAX_GROUPS:
            groups.append([index])
        else:
            (home or groups[-1]).append(index)
    max(groups, key=len).extend(np.setdiff1d(np.arange(len(rows)), known).tolist())
    return [[rows[index] for index in group] for group in groups]


def _by_matrix(stack: Stack, options: IdentifyOptions) -> list[Stack]:
    """S4."""
    parts = sorted(_groups(stack.rows, _matrix), key=len, reverse=True)
    if len(parts) == 1 or stack.normal is None:
        return [replace(stack, mixed_matrix=len(parts) > 1)]
    largest = np.sort(positions_of(parts[0]) @ stack.normal)
    others = positions_of([row for part in parts[1:] for row in part]) @ stack.normal
    spacing = float(np.median(np.diff(largest))) if len(largest) > 1 else np.nan
    has_place = bool((np.abs(others[:, None] - largest[None, :]).min(axis=1) <= 0.5 * spacing).all())
    if has_place and len(parts[0]) >= options.min_slices and _regular(parts[0], stack.normal, options):
        return [Stack(part, stack.normal) for part in parts]
    return [replace(stack, mixed_matrix=True)]


def _matrix(row: Row) -> Hashable:
    spacing = row["PixelSpacing"]
    return row["Rows"], row["Columns"], None if spacing is None else tuple(round(value, 3) for value in spacing)


def _regular(rows: list[Row], normal: np.ndarray, options: IdentifyOptions) -> bool:
    positions = positions_of(rows)
    if not np.isfinite(positions).all():
        return False
    return regularity(positions[np.argsort(positions @ normal)], normal, options).rejected is None


def _settle(stack: Stack, options: IdentifyOptions) -> list[Stack]:
    """Infer, dedupe, split what is left at one place, and sort along the normal (S5-S7)."""
    if stack.normal is None:
        return [replace(stack, rows=sorted(stack.rows, key=_order))]
    stack = _infer_positions(stack)
    if not np.isfinite(stack.positions).all():
        return [replace(stack, rows=sorted(stack.rows, key=_order))]
    stack = _dedupe(_sorted(stack))
    parts = _split_repeats(stack, options)
    if len(parts) == 1:
        return [stack]
    mine = [[pair for pair in stack.duplicates if any(pair[0] is row for row in part)] for part in parts]
    return [_sorted(replace(stack, rows=part, duplicates=pairs)) for part, pairs in zip(parts, mine, strict=True)]


def _sorted(stack: Stack) -> Stack:
    places = stack.positions @ stack.normal
    keys = [(place, _order(row)) for place, row in zip(places.tolist(), stack.rows, strict=True)]
    return replace(stack, rows=[stack.rows[index] for index in sorted(range(len(keys)), key=keys.__getitem__)])


def _infer_positions(stack: Stack) -> Stack:
    """S5: place = offset + InstanceNumber * step, if that holds to 1 % of a step wherever the place is known."""
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
    warning = f"ImagePositionPatient inferred from InstanceNumber for {int((~known).sum())} slices"
    return replace(stack, rows=rows, warnings=(*stack.warnings, warning))


def _dedupe(stack: Stack) -> Stack:
    """S6."""
    kept: list[Row] = []
    duplicates: list[tuple[Row, Row]] = []
    seen: dict[Hashable, list[Row]] = defaultdict(list)
    for row in stack.rows:
        twins = seen[tuple(row["ImagePositionPatient"]), row["frame"]]
        twin = next((other for other in twins if _same_image(other, row)), None)
        if twin is None:
            kept.append(row)
            twins.append(row)
        else:
            duplicates.append((twin, row))
    warnings = stack.warnings + ((f"{len(duplicates)} duplicate slices",) if duplicates else ())
    return replace(stack, rows=kept, duplicates=duplicates, warnings=warnings)


def _same_image(one: Row, other: Row) -> bool:
    corrected = CORRECTED if one["SOPInstanceUID"] == other["SOPInstanceUID"] else frozenset()
    return all(one[key] == other[key] for key in one.keys() - MAY_DIFFER - corrected)


def _split_repeats(stack: Stack, options: IdentifyOptions) -> list[list[Row]]:
    """S7; the stack as it is where nothing makes every part regular."""
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
    """The n-th slice at each place, by InstanceNumber, where all first ones come before all second ones."""
    places = np.round(stack.positions @ stack.normal / SAME_PLACE_MM)
    seen: dict[float, int] = defaultdict(int)
    blocks: dict[int, list[Row]] = defaultdict(list)
    for index in sorted(range(len(places)), key=lambda i: _order(stack.rows[i])):
        blocks[seen[places[index]]].append(stack.rows[index])
        seen[places[index]] += 1
    found = [blocks[number] for number in sorted(blocks)]
    apart = all(max(map(_order, a)) < min(map(_order, b)) for a, b in pairwise(found))
    return found if apart and len({len(block) for block in found}) == 1 else [stack.rows]
