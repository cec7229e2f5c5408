"""Endplates and volumes → how bright the marrow beside each endplate is, on T1 and T2, and how far that reaches.

Uses no Modic classifier: the endplates come from a segmentation network trained on anatomy, not on Modic labels. All
signals are over the patient's marrow (modic/grading/marrow_signals.py).

| number            | definition                                                                                     |
|-------------------|------------------------------------------------------------------------------------------------|
| `*_patient_ratio` | median of the marrow `band_mm` from the endplate, over the patient's marrow                    |
| `*_ratio`         | the same, over the median of the marrow `core_mm` of the same vertebra, away from its endplates |
| `extent`          | share of the endplate's points (all slices) beside which the band is unlike its own marrow     |
| `depth_mm`        | how far that goes into the body there: the `depth_quantile` of these points                    |
| `unlike_ratio`    | as `*_ratio`, of the unlike points alone                                                       |
| `bright`          | share of the unlike points that are brighter on T1 than their own marrow; the others are darker |
| `height_mm`       | of the vertebra, between its two endplates; the patient's median if one of them is not seen    |

Bone of the endplate itself (the first `band_mm[0]`) is left out, and so is the hind part of the core, where the
basivertebral vein lies (`vein`), the corners of the bodies (EndplateOptions.corner), and whatever is not vertebral
body or not within the image. Unlike is what a Modic change of type 1, 2 or both would be: on T1 brighter or darker
than the vertebra's own marrow by more than `unlike`, and by more than `noise` standard deviations of it, and on T2 not
darker than `t2_not_below`; on `run` neighbouring points at least.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_opening, uniform_filter1d

from modic.grading.marrow_signals import (
    DEFAULT,
    Key,
    MarrowOptions,
    MarrowProfiles,
    MarrowSignals,
    is_band,
    read_marrow,
)
from modic.records import SIDES, Endplate, Endplates

if TYPE_CHECKING:
    from modic.imaging.volume import Volume


@dataclass(frozen=True, slots=True)
class EndplateMarrow:
    """The marrow beside one endplate. Ratios by contrast (`t1`, `t2`), no unit; None if it cannot be measured."""

    ratio: dict[str, float | None]
    patient_ratio: dict[str, float | None]
    unlike_ratio: dict[str, float | None] = field(default_factory=dict)  # None if the extent is 0
    extent: float | None = None  # 0-1
    depth_mm: float | None = None  # 0 if the extent is 0
    bright: float | None = None  # 0-1; None if the extent is 0
    height_mm: float | None = None
    trouble: str | None = None  # EndplateTrouble, or why there is no number


@dataclass(frozen=True, slots=True)
class MarrowMeasurements:
    """Of one level: `upper` is the endplate above the disc."""

    level: str
    upper: EndplateMarrow
    lower: EndplateMarrow

    def columns(self) -> dict[str, float | None]:
        """By the names of the table `levels`: `t1_ratio_upper`, `extent_lower`, `depth_upper_mm`, …"""
        values: dict[str, float | None] = {}
        for side, marrow in (("upper", self.upper), ("lower", self.lower)):
            for contrast in ("t1", "t2"):
                values[f"{contrast}_ratio_{side}"] = marrow.ratio.get(contrast)
                values[f"{contrast}_patient_ratio_{side}"] = marrow.patient_ratio.get(contrast)
            values[f"extent_{side}"] = marrow.extent
            values[f"depth_{side}_mm"] = marrow.depth_mm
        return values

    def numbers(self) -> np.ndarray:
        """float64 (16,): of both endplates what agreement and the endplates' types need; NaN for None."""
        values = [value for side in (self.upper, self.lower) for value in _numbers_of(side)]
        return np.array([np.nan if value is None else value for value in values])


def _numbers_of(side: EndplateMarrow) -> tuple[float | None, ...]:
    ratios = (part.get(name) for part in (side.ratio, side.patient_ratio) for name in ("t1", "t2"))
    return (*ratios, side.extent, side.depth_mm, side.bright, side.height_mm)


def from_numbers(level: str, numbers: np.ndarray) -> MarrowMeasurements:
    """Undoes `MarrowMeasurements.numbers`, but for what only explains."""
    upper, lower = (_side_of(half) for half in np.split(numbers, 2))
    return MarrowMeasurements(level, upper, lower)


def _side_of(numbers: np.ndarray) -> EndplateMarrow:
    t1, t2, patient_t1, patient_t2, extent, depth_mm, bright, height_mm = (
        None if np.isnan(value) else float(value) for value in numbers
    )
    ratio, patient = {"t1": t1, "t2": t2}, {"t1": patient_t1, "t2": patient_t2}
    return EndplateMarrow(ratio, patient, {}, extent, depth_mm, bright, height_mm)


def measure_marrow(
    contrasts: Mapping[str, "Volume"], endplates: Mapping[str, Endplates], *, options: MarrowOptions = DEFAULT,
    signals: MarrowSignals | None = None,
) -> dict[str, MarrowMeasurements]:  # fmt: skip
    """The marrow beside every endplate, by level.

    Args:
        contrasts: `t1` and `t2` (either may be missing), of one frame of reference with the endplates.
        endplates: of `modic.imaging.endplates.find_endplates`.
        options: where it is measured.
        signals: of these, of `read_marrow`; read here if there are none.
    """
    signals = signals or read_marrow(contrasts, endplates, options=options)
    heights = vertebral_heights(signals.profiles, options)
    result = {}
    for level, pair in endplates.items():
        upper, lower = (
            replace(_measure((level, side), signals, plate), height_mm=heights.get(plate.vertebra))
            for side, plate in zip(SIDES, (pair.upper, pair.lower), strict=True)
        )
        result[level] = MarrowMeasurements(level, upper, lower)
    return result


def band_ratios(
    volume: "Volume", endplates: Mapping[str, Endplates], *, options: MarrowOptions = DEFAULT
) -> dict[str, dict[str, float | None]]:
    """`*_ratio` of one volume alone at every endplate: level → side → ratio, None if it cannot be measured.

    `volume`: of one frame of reference with the endplates.
    """
    signals = read_marrow({"": volume}, endplates, options=options)
    return {level: {side: _ratio("", (level, side), signals) for side in SIDES} for level in endplates}


def _ratio(contrast: str, key: Key, signals: MarrowSignals) -> float | None:
    if key not in signals.profiles:
        return None
    band, core = _band(contrast, key, signals), signals.core(contrast, key)
    return band / core[0] if band is not None and core is not None else None


def _band(contrast: str, key: Key, signals: MarrowSignals) -> float | None:
    """Median of the marrow beside an endplate, over the patient's."""
    return _median(signals.relative[contrast][key][:, :, is_band(signals.options)], signals.options)


def vertebral_heights(profiles: Mapping[Key, MarrowProfiles], options: MarrowOptions) -> dict[str, float]:
    """Height of each vertebra that has an endplate, mm: from the middle of one of its endplates to the other's.

    A vertebra with one endplate gets the median of the others; none if no vertebra shows both.
    """
    ends: dict[str, list[np.ndarray]] = {}
    for profile in profiles.values():
        ends.setdefault(profile.vertebra, []).append(profile.places_mm[:, :, 0].reshape(-1, 3).mean(0))
    inside = 2 * options.step_mm  # the first points lie a step from the endplates
    known = {v: float(np.linalg.norm(both[0] - both[1])) + inside for v, both in ends.items() if len(both) == 2}
    return {vertebra: known.get(vertebra, float(np.median(list(known.values())))) for vertebra in ends} if known else {}


def _measure(key: Key, signals: MarrowSignals, plate: Endplate) -> EndplateMarrow:
    """One endplate's numbers, or its trouble."""
    options, relative = signals.options, signals.relative
    nothing: dict[str, float | None] = {name: None for name in relative}
    if key not in signals.profiles:
        return EndplateMarrow(nothing, dict(nothing), trouble=str(plate.trouble))
    own = {name: signals.core(name, key) for name in relative}
    band = {name: _band(name, key, signals) for name in relative}
    ratio = {name: _ratio(name, key, signals) for name in relative}
    maps = {name: np.log(values[key] / core[0]) for name, values in relative.items() if (core := own[name])}
    spread = {name: core[1] for name, core in own.items() if core}
    trouble = None if any(own.values()) else "marrow.too_little"
    if "t1" not in maps:
        return EndplateMarrow(ratio, band, dict(nothing), trouble=trouble)
    brightness, known = unlike_points(maps, spread["t1"], options)
    there = brightness != 0
    focal = {name: _median(np.exp(m)[there][:, is_band(options)], options) for name, m in maps.items()}
    extent = float(there.sum() / known.sum()) if known.any() else None
    bright = float((brightness > 0).sum() / there.sum()) if there.any() else None
    return EndplateMarrow(ratio, band, focal, extent, depth_of(maps["t1"], there, options), bright, trouble=trouble)


def _median(values: np.ndarray, options: MarrowOptions) -> float | None:
    seen = values[np.isfinite(values)]
    return float(np.median(seen)) if len(seen) >= options.fewest else None


def unlike_points(
    maps: Mapping[str, np.ndarray], spread: float, options: MarrowOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Beside which points marrow is unlike its vertebra's own, and which were measured; (slices, points).

    The first is int8: 1 brighter on T1, -1 darker, 0 alike or not measured. The second is bool.

    Args:
        maps: by contrast, logarithm of the ratio to the vertebra's own marrow, (slices, points, depths); `t1` at least.
        spread: standard deviation of T1's in the core.
    """
    bands = {name: _mean(values[:, :, is_band(options)]) for name, values in maps.items()}
    known = np.isfinite(bands["t1"])
    t1 = _along(bands["t1"])
    unlike = known & (np.abs(t1) > max(options.unlike, options.noise * spread))
    if "t2" in bands:
        unlike &= _along(bands["t2"]) > options.t2_not_below
    there = binary_opening(unlike, np.ones((1, options.run)))
    return (np.sign(t1) * there).astype(np.int8), known


def depth_of(values: np.ndarray, there: np.ndarray, options: MarrowOptions) -> float:
    """How deep (mm) the marrow beside the points `there` stays beyond half of what is unlike; 0 if there are none."""
    if not there.any():
        return 0.0
    sign = np.sign(_mean(values[:, :, is_band(options)]))
    smooth = uniform_filter1d(np.nan_to_num(values), 3, axis=1, mode="nearest")
    smooth = uniform_filter1d(smooth, 3, axis=2, mode="nearest")
    start = int(np.argmax(is_band(options)))
    beyond = sign[:, :, None] * smooth[:, :, start:] > options.unlike / 2
    goes_on = np.logical_and.accumulate(beyond, axis=2).sum(2)[there]
    return float(np.quantile((goes_on + start) * options.step_mm, options.depth_quantile))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is finite; NaN if under half is."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0).sum(-1) / np.maximum(finite.sum(-1), 1)
    return np.where(2 * finite.sum(-1) >= values.shape[-1], total, np.nan)


def _along(band: np.ndarray) -> np.ndarray:
    """Mean with the neighbours along the endplate; 0 if nothing is measured."""
    result: np.ndarray = uniform_filter1d(np.nan_to_num(band), 3, axis=1, mode="nearest")
    return result
