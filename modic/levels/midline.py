"""The slices to show to the detector: those around the midline, which is the slice through the spinal canal."""

from collections.abc import Callable

import numpy as np

from modic.levels.detect import Detections

LOOK_MM = 8.0  # between the slices among which the midline is searched; a lumbar disc is about 50 mm wide
LOOK_MOST = 9  # slices
FEWEST_LOOKS = 5  # slices; fewer cannot tell that the midline is among them
CANAL = 0.45  # of the width of a disc's box: how far the strip reaches back from it that should show the canal


def spread_slices(n: int, spacing_mm: float) -> list[int]:
    """At most `LOOK_MOST` slices of a stack of `n`, `LOOK_MM` or more apart, spread evenly around its middle."""
    step = max(1, round(LOOK_MM / spacing_mm), -(-n // LOOK_MOST))
    return list(range((n - 1) % step // 2, n, step))


Look = Callable[[list[int]], dict[int, Detections]]
"""Slices by their indices → what `modic.levels.detect.detect` finds on each."""


def look_for_midline(voxels: np.ndarray, spread: list[int], look: Look) -> tuple[int, dict[int, Detections]]:
    """The midline, and what was found on the slices that were looked at.

    Of the slices `spread` over the stack those in its middle are looked at first, and outer ones only until the midline
    is clearly within: `find_midline` of all of them says the same if no outer slice shows more of discs and canal.
    """
    detections: dict[int, Detections] = {}
    for outer in range(max(0, len(spread) - FEWEST_LOOKS) // 2, -1, -1):
        inner = spread[outer : len(spread) - outer]
        detections |= look([index for index in inner if index not in detections])
        signal = _signal(voxels, detections)
        if _is_within(signal):
            break
    return _midline_of(sorted(detections), signal), detections


def _is_within(signal: np.ndarray) -> bool:
    """Whether the slice that shows most is so far from both ends that slices beyond them would not move the midline."""
    return 2 <= int(_smooth(signal).argmax()) <= len(signal) - 3 and max(signal[0], signal[-1]) < signal.max()


def find_midline(voxels: np.ndarray, detections: dict[int, Detections]) -> int:
    """The slice through the canal: the one where discs score highest and what lies behind them is brightest.

    That slice is moved towards the better of its neighbours. Without any disc it is the middle one.

    Args:
        voxels: (slices, rows, columns) of a canonical T2 volume.
        detections: of `modic.levels.detect.detect`, by the index of the slice.
    """
    return _midline_of(sorted(detections), _signal(voxels, detections))


def _midline_of(searched: list[int], signal: np.ndarray) -> int:
    """`find_midline`, from the indices of the slices and what each shows (`_signal`)."""
    smooth = _smooth(signal)
    if not smooth.any():
        return searched[len(searched) // 2]
    best = int(smooth.argmax())
    near = slice(max(best - 1, 0), best + 2)
    return round(float(np.average(searched[near], weights=smooth[near])))


def _signal(voxels: np.ndarray, detections: dict[int, Detections]) -> np.ndarray:
    """How much of discs and canal each slice shows, in the order of the slices."""
    return np.array([_discs_and_canal(voxels[index], *detections[index]) for index in sorted(detections)])


def _smooth(signal: np.ndarray) -> np.ndarray:
    padded = np.pad(signal, 1)
    smoothed: np.ndarray = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return smoothed


def _discs_and_canal(image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, names: np.ndarray) -> float:
    """Sum over names of the best box's score times the brightness of the strip behind it."""
    total = 0.0
    for name in np.unique(names):
        best = np.flatnonzero(names == name)[scores[names == name].argmax()]
        x0, y0, x1, y1 = np.maximum(boxes[best], 0)
        strip = image[int(y0) : int(y1) + 1, int(x1) : int(x1 + CANAL * (x1 - x0)) + 1]
        total += float(scores[best]) * max(float(np.percentile(strip, 75)), 0.0) if strip.size else 0.0
    return total
