"""A strip along the spine: the curve through the discs' centres, straightened, so that endplates lie across it.

The curve runs through the centres of the detector's boxes, head to foot, and on in a straight line beyond the outermost
ones. A strip's rows follow the curve, its columns run across it from front to back. Lengths scale with the
discs' boxes (`WIDTH_PX`), so that a strip shows every patient alike, also where the pixel size is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modic.models.endplate_net import STRIP

WIDTH_PX = STRIP["width_px"]  # columns that the median box is wide
COLUMNS = int(STRIP["columns"])  # the disc, the canal behind it, and a margin
REACH = 0.95  # box widths beyond the outermost centres: a vertebra, and half of the next disc
MULTIPLE = 16  # rows come in multiples of this (modic/models/endplate_net.py)


@dataclass(frozen=True, eq=False)
class Strip:
    """Where the pixels of a strip lie in a plane of isotropic units (mm of a slice, or pixels)."""

    points: np.ndarray  # float64 (rows, columns, 2) of (x, y); rows head to foot, columns front to back
    rhythm: np.ndarray  # float64 (rows,): whole numbers at the discs (index in LEVELS), halves within vertebrae
    step: float  # distance between neighbouring rows and columns, in the plane's units

    def row_of(self, rhythm: float) -> float:
        """The (fractional) row of a place on the spine; `rhythm` as in `Strip.rhythm`."""
        return float(np.interp(rhythm, self.rhythm, np.arange(len(self.rhythm))))


def lay_strip(centres: np.ndarray, levels: Sequence[int], width: float, *, columns: int = COLUMNS) -> Strip:
    """The strip through disc centres (n, 2) of (x, y), head to foot.

    Args:
        centres: in isotropic units, y to the feet and x to the back.
        levels: index in LEVELS of each, increasing; gaps are levels that were not found.
        width: of the median disc box, in the same units.
        columns: of the strip.

    Raises ValueError if there is no centre, or the width is not positive.
    """
    if not len(centres) or not width > 0:
        raise ValueError("a strip needs a disc and its width")
    step = width / WIDTH_PX
    along, curve, tangents = _curve(np.asarray(centres, float), REACH * width, step)
    normals = np.stack([tangents[:, 1], -tangents[:, 0]], 1)  # a quarter turn: front to back
    across = (np.arange(columns) - (columns - 1) / 2) * step
    points = curve[:, None] + across[None, :, None] * normals[:, None]
    chords = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centres, axis=0), axis=1))])
    return Strip(points, _rhythm(along, chords, np.asarray(levels, float), width), step)


def _curve(centres: np.ndarray, reach: float, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chord parameter (rows,), points (rows, 2) a step apart, and unit tangents (rows, 2)."""
    tangents = _tangents(centres)
    ends = np.array([centres[0] - reach * tangents[0], centres[-1] + reach * tangents[-1]])
    knots = np.vstack([ends[:1], centres, ends[1:]])
    slopes = np.vstack([tangents[:1], tangents, tangents[-1:]])
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    fine = np.linspace(0, chord[-1], 2000)
    on_curve, _ = _hermite(fine, chord, knots, slopes)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(on_curve, axis=0), axis=1))])
    rows = int(np.ceil(length[-1] / step / MULTIPLE)) * MULTIPLE
    wanted = (length[-1] - (rows - 1) * step) / 2 + np.arange(rows) * step  # centred on the curve; ends may stick out
    parameter = np.interp(wanted, length, fine)
    beyond = np.where(wanted < 0, wanted, np.maximum(wanted - length[-1], 0))
    points, direction = _hermite(parameter, chord, knots, slopes)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return parameter + beyond - reach, points + beyond[:, None] * direction, direction


def _hermite(at: np.ndarray, chord: np.ndarray, knots: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and derivatives (m, 2) at parameters `at` of the cubic Hermite spline through knots (n, 2).

    As `scipy.interpolate.CubicHermiteSpline`, whose package takes a quarter of a second to import.
    """
    piece = (np.searchsorted(chord, at, side="right") - 1).clip(0, len(chord) - 2)
    h = np.diff(chord)[piece][:, None]
    t = (at - chord[piece])[:, None] / h
    start, end, leaves, arrives = knots[piece], knots[piece + 1], h * slopes[piece], h * slopes[piece + 1]
    square, cube = 3 * (end - start) - 2 * leaves - arrives, 2 * (start - end) + leaves + arrives
    return start + t * (leaves + t * (square + t * cube)), (leaves + t * (2 * square + 3 * t * cube)) / h


def _tangents(centres: np.ndarray) -> np.ndarray:
    """Unit directions (n, 2) of the curve at the centres; at the outermost ones it goes on turning."""
    if len(centres) == 1:
        return np.array([[0.0, 1.0]])
    chords = np.diff(centres, axis=0)
    chords /= np.linalg.norm(chords, axis=1, keepdims=True)
    inner = chords[:-1] + chords[1:]
    if not len(inner):
        return np.vstack([chords, chords])
    inner /= np.linalg.norm(inner, axis=1, keepdims=True)
    tangents = np.vstack([2 * chords[:1] - inner[:1], inner, 2 * chords[-1:] - inner[-1:]])
    return tangents / np.linalg.norm(tangents, axis=1, keepdims=True)


def _rhythm(along: np.ndarray, chords: np.ndarray, levels: np.ndarray, width: float) -> np.ndarray:
    """Level index at chord parameters, straight on beyond the outermost discs with the distance of the nearest two."""
    gaps = np.diff(chords) / np.diff(levels) if len(levels) > 1 else np.array([0.8 * width])
    inside = np.interp(along, chords, levels)
    above, below = np.minimum(along - chords[0], 0) / gaps[0], np.maximum(along - chords[-1], 0) / gaps[-1]
    return inside + above + below
