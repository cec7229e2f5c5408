"""Region → Region: the four intensity normalizations that the paper compares, each over one contrast of one region.

MR values have no unit: the same tissue differs by a factor between scanners, coils and depths. Every method looks
at the five slices of one contrast together, so that a difference between slices stays a difference. None is fitted
on other patients. A region of one constant value comes back as zeros.

| method        | value                                                                                              |
|---------------|----------------------------------------------------------------------------------------------------|
| `none`        | divided by the region's largest absolute value: a range that a network can take                    |
| `standardize` | minus the region's mean, divided by its standard deviation                                         |
| `clahe`       | scaled to 0..255 by minimum and maximum, then CLAHE a slice (OpenCV, `CLAHE_CLIP`, `CLAHE_TILES`)  |
| `gamma`       | scaled to 0..1 by minimum and maximum, then raised to `GAMMA`                                      |
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from modic.errors import WeightsError
from modic.models.card import Normalization
from modic.records import Region

Method = Normalization

GAMMA = 0.7  # below 1: opens up the dark marrow of a coil's far side
CLAHE_CLIP = 2.0  # OpenCV's clipLimit: a grey level counts at most twice what it would in a flat histogram
CLAHE_TILES = (4, 4)  # of a 64 px region: a tile is about a third of a vertebral body's height
EPSILON, TINY = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)
CLAHE_LEVELS = 255  # uint8. With uint16 a tile has fewer pixels than grey levels, and no clip limit limits anything


def normalize(region: Region, *, method: Method) -> Region:
    """The region with every contrast normalized, float32, same shape. Raises WeightsError for an unknown method."""
    if method not in METHODS:
        raise WeightsError(f"unknown normalization `{method}`; known: {', '.join(METHODS)}")
    apply = METHODS[method]
    return replace(region, contrasts={name: apply(_finite(values)) for name, values in region.contrasts.items()})


def _finite(values: np.ndarray) -> np.ndarray:
    """float32, with 0 for what is no finite number."""
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _none(values: np.ndarray) -> np.ndarray:
    return _divide(values, np.abs(values).max())


def _standardize(values: np.ndarray) -> np.ndarray:
    return _divide(values - values.mean(), values.std())


def _gamma(values: np.ndarray) -> np.ndarray:
    return _unit(values) ** np.float32(GAMMA)


def _clahe(values: np.ndarray) -> np.ndarray:
    import cv2

    if values.min() == values.max():
        return np.zeros_like(values)
    equalizer = cv2.createCLAHE(clipLimit=CLAHE_CLIP, tileGridSize=CLAHE_TILES)
    whole = np.round(_unit(values) * CLAHE_LEVELS).astype(np.uint8)
    return np.stack([equalizer.apply(slice_) for slice_ in whole]).astype(np.float32) / np.float32(CLAHE_LEVELS)


def _unit(values: np.ndarray) -> np.ndarray:
    """Scaled to 0..1 by minimum and maximum."""
    low = values.min()
    return _divide(values - low, values.max() - low)


def _divide(values: np.ndarray, by: Any) -> np.ndarray:
    """float32; all zeros if the divisor is (nearly) zero beside what float32 can tell apart."""
    largest = float(np.abs(values).max())
    if float(by) <= EPSILON * max(largest, TINY):
        return np.zeros_like(values)
    return (values / by).astype(np.float32)


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": _none, "standardize": _standardize, "clahe": _clahe, "gamma": _gamma,
}  # fmt: skip
