"""Stacks that are only parts of one stack: they are regular only together, and none may pass for a whole one.

The first difference between the parts that holds gives the reason:

| what differs                                                      | reason of each part       |
|-------------------------------------------------------------------|---------------------------|
| FrameOfReferenceUID                                               | mixed_frame_of_reference  |
| ImageOrientationPatient, by over `orientation_reject`             | mixed_orientation         |
| neither, and the corners lie apart: parts side by side            | uneven_spacing            |
| neither, and corners agree: echo, agent, fat suppression, …       | mixed_contrast            |

Slices of different parts never lie at the same place. Those of two contrasts or repeats of one series do; these are
whole stacks.
"""

from collections.abc import Iterable
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected
from modic.series.geometry import SAME_PLACE_MM, positions_of

RowsAndNormal = tuple[list[dict[str, Any]], np.ndarray | None]
"""Header rows of a stack, sorted along its slice normal (3,), and that normal."""
PARALLEL = 0.998  # cosine between normals: within 3.6 degrees
APART_MM = 5.0  # first corners of one stack lie nearer to each other within the plane


def refuse_partial_stacks(
    stacks: list[RowsAndNormal], options: IdentifyOptions, *, interleaved: bool = True
) -> list[Rejected | None]:
    """For each stack the reason why it is only a part of one, or None.

    Args:
        stacks: stacks that may belong together, usually those of one series.
        options: how even the spacing of the whole must be.
        interleaved: whether stacks whose slices lie between each other's can be parts; else only stacks side by side.
    """
    refused: list[Rejected | None] = [None] * len(stacks)
    placed = [i for i, (rows, normal) in enumerate(stacks) if normal is not None and _has_positions(rows)]
    for cluster in _parallel(stacks, placed):
        for group in (*combinations(cluster, 2), tuple(cluster)):
            if len(group) > 1 and (reason := _reason([stacks[i] for i in group], options, interleaved)):
                slices = " + ".join(str(len(stacks[i][0])) for i in group)
                for i in group:
                    refused[i] = refused[i] or Rejected(reason, f"parts of {slices} slices")
    return refused


def _has_positions(rows: list[dict[str, Any]]) -> bool:
    return bool(np.isfinite(positions_of(rows)).all())


def _parallel(stacks: list[RowsAndNormal], indices: Iterable[int]) -> list[list[int]]:
    """Indices of stacks in groups of the same orientation."""
    clusters: list[list[int]] = []
    for i in indices:
        normal = stacks[i][1]
        cluster = next((c for c in clusters if abs(float(stacks[c[0]][1] @ normal)) > PARALLEL), None)  # type: ignore[operator]
        if cluster is None:
            clusters.append([i])
        else:
            cluster.append(i)
    return clusters


def _reason(parts: list[RowsAndNormal], options: IdentifyOptions, interleaved: bool) -> Reason | None:
    """Why these are parts of one stack; None if they are not."""
    normal = parts[0][1]
    if normal is None or len({(row["Rows"], row["Columns"]) for rows, _ in parts for row in rows}) > 1:
        return None
    places = [positions_of(rows) @ normal for rows, _ in parts]
    if not _regular(np.sort(np.concatenate(places)), options):
        return None
    spans = sorted((place.min(), place.max()) for place in places)
    side_by_side = all(a[1] < b[0] for a, b in pairwise(spans))
    if not side_by_side and not interleaved:
        return None
    heads = [rows[0] for rows, _ in parts]
    if len({head["FrameOfReferenceUID"] for head in heads}) > 1:
        return Reason.SERIES_MIXED_FRAME_OF_REFERENCE
    turns = [np.subtract(a["ImageOrientationPatient"], b["ImageOrientationPatient"]) for a, b in pairwise(heads)]
    if np.abs(turns).max() > options.orientation_reject:
        return Reason.SERIES_MIXED_ORIENTATION
    corners = np.array([head["ImagePositionPatient"] for head in heads])
    inside = corners - np.outer(corners @ normal, normal)
    if np.linalg.norm(np.diff(inside, axis=0), axis=1).max() <= APART_MM:
        return Reason.SERIES_MIXED_CONTRAST
    return Reason.SERIES_UNEVEN_SPACING if side_by_side else None


def _regular(places: np.ndarray, options: IdentifyOptions) -> bool:
    """Whether sorted places (n,) in mm are evenly spaced."""
    steps = np.diff(places)
    if len(places) < options.min_slices or steps.min() < SAME_PLACE_MM:
        return False
    return bool(np.abs(steps / np.median(steps) - 1).max() <= options.spacing_reject)
