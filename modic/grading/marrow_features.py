"""Endplates and volumes → the numbers about a level's marrow that the classifier decides by, beside its network.

The profiles of modic/grading/marrow_signals.py into the bodies beside a disc are laid on a coarse grid (`ALONG` parts
from front to back, `DEPTHS_MM` from the endplate); each cell is the median of the logarithm of signal over normal
marrow. The normal marrow is the patient's or the same vertebra's own (`REFERENCES`): the first sees changes that fill a
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

from modic.grading.marrow_signals import DEFAULT, Key, MarrowOptions, MarrowSignals, depths_of, read_marrow
from modic.quantiles import medians, quantiles

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
    contrasts: Mapping[str, "Volume"], endplates: Mapping[str, "Endplates"], *, options: MarrowOptions = DEFAULT,
    signals: MarrowSignals | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """float64 (`FEATURES`,) by level, natural logarithms; NaN if nothing is measured. Arguments as `measure_marrow`."""
    signals = signals or read_marrow(contrasts, endplates, options=options)
    cells = {name: _cells(signals.relative[name], options) for name in CONTRASTS if name in signals.relative}
    return {level: _of_level(level, cells, signals) for level in endplates}


def _of_level(level: str, cells: Mapping[str, Mapping[Key, np.ndarray]], signals: MarrowSignals) -> np.ndarray:
    """Of all slices of a level, averaged. `cells`: of each contrast and endplate (slices, ALONG, DEPTHS_MM)."""
    sides = [key for key in signals.profiles if key[0] == level]
    if not sides or len(cells) < len(CONTRASTS):
        return np.full(len(FEATURES), np.nan)
    depth = min(len(cells[name][key]) for name in CONTRASTS for key in sides)
    seen = np.array([[cells[name][key][:depth] for key in sides] for name in CONTRASTS])
    by_reference = []
    for reference in REFERENCES:
        normal = [[np.log(_normal(reference, name, key, signals)) for key in sides] for name in CONTRASTS]
        by_reference.append(_numbers(np.moveaxis(seen - np.array(normal)[:, :, None, None, None], 2, 0)))
    slices = np.concatenate(by_reference, axis=1)  # (slices, FEATURES)
    weights = 1.0 + np.minimum(np.arange(len(slices)), np.arange(len(slices))[::-1])
    known = np.isfinite(slices)
    total = (np.where(known, slices, 0) * weights[:, None]).sum(0)
    weight = (known * weights[:, None]).sum(0)
    return np.where(weight > 0, total / np.maximum(weight, 1e-9), np.nan)


def _normal(reference: str, contrast: str, key: Key, signals: MarrowSignals) -> float:
    """Signal of normal marrow over the patient's: 1, or that of the same vertebra's core (NaN if it is not seen)."""
    if reference == "patient":
        return 1.0
    core = signals.core(contrast, key)
    return core[0] if core else float("nan")


def _cells(signal: Mapping[Key, np.ndarray], options: MarrowOptions) -> dict[Key, np.ndarray]:
    """(slices, ALONG, DEPTHS_MM) of the logarithm of each endplate's signal (slices, points, depths).

    NaN where fewer than three points are marrow.
    """
    if not signal:
        return {}
    depths, logs = depths_of(options), np.log(np.concatenate(list(signal.values())))
    parts = np.array_split(np.arange(logs.shape[1]), ALONG)
    cells = np.full((len(logs), ALONG, len(DEPTHS_MM)), np.nan)
    for i, part in enumerate(parts):
        for j, (low, high) in enumerate(DEPTHS_MM):
            values = logs[:, part][:, :, (depths >= low) & (depths <= high)].reshape(len(logs), -1)
            enough = np.isfinite(values).sum(1) >= 3
            cells[enough, i, j] = medians(values[enough])
    ends = np.cumsum([len(values) for values in signal.values()])
    return dict(zip(signal, np.split(cells, ends[:-1]), strict=True))


def _numbers(cells: np.ndarray) -> np.ndarray:
    """(slices, KINDS * CONTRASTS), kind by kind, of cells (slices, contrasts, sides, ALONG, DEPTHS_MM)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing measured gives NaN
        band, deep, edge = np.nanmean(cells[..., 1:3], axis=-1), cells[..., 3], cells[..., 0]
        rows = [
            np.nanmax(band, axis=(2, 3)), np.nanmean(band, axis=(2, 3)), np.nanmin(band, axis=(2, 3)),
            np.nanmax(deep, axis=(2, 3)), np.nanmean(deep, axis=(2, 3)), np.nanmean(edge, axis=(2, 3)),
            quantiles(cells.reshape(*cells.shape[:2], -1), 0.85),
        ]  # fmt: skip
    return np.concatenate(rows, axis=1)
