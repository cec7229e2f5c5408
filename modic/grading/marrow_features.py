"""Endplates and volumes → the numbers about a level's marrow that the classifier decides by, beside its network.

The profiles of modic/grading/marrow.py into the bodies beside a disc are laid on a coarse grid (`ALONG` parts from
front to back, `DEPTHS_MM` from the endplate); each cell is the median of the logarithm of signal over normal marrow.
The normal marrow is the patient's or the same vertebra's own (`REFERENCES`): the first sees changes that fill a
vertebra, the second is not misled by a patient with spotted marrow. Of these cells, both endplates together, for each
contrast:

| number      | definition                                                             |
|-------------|------------------------------------------------------------------------|
| `band_max`  | largest of the parts' means over the band, 2-5 mm from the endplate    |
| `band_mean` | mean of the band                                                       |
| `band_min`  | smallest of the parts' means over the band                             |
| `deep_max`  | largest cell 5-8 mm from the endplate                                  |
| `deep_mean` | mean of these cells                                                    |
| `edge_mean` | mean of the cells nearest to the endplate (0.7-2 mm: partly bone)      |
| `high`      | 85th percentile of all cells                                           |

Several slices: the mean of their numbers, the middle one with most weight, as the network averages slices.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from modic.grading.marrow import (
    DEFAULT,
    Key,
    MarrowOptions,
    MarrowProfiles,
    depths_of,
    medians,
    own_core,
    profiles_of,
    relative_signal,
)

if TYPE_CHECKING:
    from modic.imaging.volume import Volume
    from modic.records import Endplates

CONTRASTS, REFERENCES = ("t1", "t2"), ("patient", "own")
ALONG = 5
DEPTHS_MM = ((0.7, 1.9), (1.9, 3.4), (3.4, 5.0), (5.0, 8.0), (8.0, 12.0), (12.0, 17.5))
KINDS = ("band_max", "band_mean", "band_min", "deep_max", "deep_mean", "edge_mean", "high")
FEATURES = tuple(
    f"{contrast}_{reference}_{kind}" for reference in REFERENCES for kind in KINDS for contrast in CONTRASTS
)
"""Names of the numbers, in the order of `marrow_features`."""


def marrow_features(
    contrasts: Mapping[str, "Volume"], endplates: Mapping[str, "Endplates"], *, options: MarrowOptions = DEFAULT
) -> dict[str, np.ndarray]:
    """float64 (`FEATURES`,) by level, natural logarithms; NaN if nothing is measured. Arguments as `measure_marrow`."""
    profiles = profiles_of(endplates, options)
    relative = {name: relative_signal(contrasts[name], profiles, options) for name in CONTRASTS if name in contrasts}
    return {level: _of_level(level, profiles, relative, options) for level in endplates}


def _of_level(
    level: str,
    profiles: Mapping[Key, MarrowProfiles],
    relative: Mapping[str, Mapping[Key, np.ndarray]],
    options: MarrowOptions,
) -> np.ndarray:
    """Of all slices of a level, averaged."""
    sides = [key for key in profiles if key[0] == level]
    if not sides or len(relative) < len(CONTRASTS):
        return np.full(len(FEATURES), np.nan)
    by_reference = []
    for reference in REFERENCES:
        cells = [
            [
                _cells(relative[name][key], _normal(reference, name, key, profiles, relative, options), options)
                for key in sides
            ]
            for name in CONTRASTS
        ]
        depth = min(len(part) for of_contrast in cells for part in of_contrast)
        by_reference.append([_numbers(np.array([[part[z] for part in row] for row in cells])) for z in range(depth)])
    slices = np.concatenate(by_reference, axis=1)  # (slices, FEATURES)
    weights = 1.0 + np.minimum(np.arange(len(slices)), np.arange(len(slices))[::-1])
    known = np.isfinite(slices)
    total = (np.where(known, slices, 0) * weights[:, None]).sum(0)
    weight = (known * weights[:, None]).sum(0)
    return np.where(weight > 0, total / np.maximum(weight, 1e-9), np.nan)


def _normal(
    reference: str, contrast: str, key: Key, profiles: Mapping[Key, MarrowProfiles],
    relative: Mapping[str, Mapping[Key, np.ndarray]], options: MarrowOptions,
) -> float:  # fmt: skip
    """Signal of normal marrow over the patient's: 1, or that of the same vertebra's core (NaN if it is not seen)."""
    if reference == "patient":
        return 1.0
    core = own_core(profiles[key].vertebra, profiles, relative[contrast], options)
    return core[0] if core else float("nan")


def _cells(signal: np.ndarray, normal: float, options: MarrowOptions) -> np.ndarray:
    """(slices, ALONG, DEPTHS_MM) of signal (slices, points, depths); NaN where fewer than three points are marrow."""
    depths, logs = depths_of(options), np.log(signal / normal)
    parts = np.array_split(np.arange(signal.shape[1]), ALONG)
    cells = np.full((len(signal), ALONG, len(DEPTHS_MM)), np.nan)
    for i, part in enumerate(parts):
        for j, (low, high) in enumerate(DEPTHS_MM):
            values = logs[:, part][:, :, (depths >= low) & (depths <= high)].reshape(len(signal), -1)
            enough = np.isfinite(values).sum(1) >= 3
            cells[enough, i, j] = medians(values[enough])
    return cells


def _numbers(cells: np.ndarray) -> np.ndarray:
    """(KINDS * CONTRASTS,) of one slice's cells (contrasts, sides, ALONG, DEPTHS_MM), kind by kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing measured gives NaN
        band, deep, edge = np.nanmean(cells[..., 1:3], axis=-1), cells[..., 3], cells[..., 0]
        rows = [
            np.nanmax(band, axis=(1, 2)), np.nanmean(band, axis=(1, 2)), np.nanmin(band, axis=(1, 2)),
            np.nanmax(deep, axis=(1, 2)), np.nanmean(deep, axis=(1, 2)), np.nanmean(edge, axis=(1, 2)),
            np.nanquantile(cells.reshape(len(cells), -1), 0.85, axis=1),
        ]  # fmt: skip
    return np.concatenate(rows)
