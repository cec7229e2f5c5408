"""Endplates and volumes → how bright the marrow beside each endplate is, on T1 and T2, and how far that reaches.

Uses no Modic classifier: the endplates come from a segmentation network trained on anatomy, not on Modic labels. Along
the lines of modic/imaging/endplates.py each volume is read at right angles into the vertebral body. All values of a
contrast are first divided by the *patient's marrow*: a smooth surface through the marrow in the middle of all bodies
(`_patient_marrow`), which also removes the coil's fall-off. A gain, a linear coil profile along the spine and from
front to back, and most of a smooth one, thus leave every number as it was.

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
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_opening, uniform_filter1d

from modic.quantiles import medians
from modic.records import SIDES, Endplate, Endplates

if TYPE_CHECKING:
    from modic.imaging.volume import Volume


@dataclass(frozen=True, slots=True)
class MarrowOptions:
    """Where marrow is measured, and what counts as unlike."""

    step_mm: float = field(default=0.75, metadata={"help": "between the points of a profile into a body"})
    band_mm: tuple[float, float] = field(
        default=(1.5, 5.0), metadata={"help": "from the endplate; Modic changes are 4-14 mm deep, the endplate 1 mm"}
    )
    core_mm: tuple[float, float] = field(
        default=(9.0, 17.0), metadata={"help": "from the endplate; lumbar bodies are 26-30 mm high (Zhou 2000)"}
    )
    vein: float = field(default=0.55, metadata={"help": "of an endplate's length from the front: the core ends there"})
    unlike: float = field(
        default=0.25,
        metadata={
            "help": "natural logarithm of T1's ratio: 1.28 or 0.78; 0.15-0.3 tried on SPIDER's training patients"
        },
    )
    noise: float = field(default=1.0, metadata={"help": "robust standard deviations of the core's points"})
    t2_not_below: float = field(
        default=-0.1, metadata={"help": "natural logarithm of T2's ratio: 0.9; both dark is bone (type 3)"}
    )
    run: int = field(default=3, metadata={"help": "neighbouring points, of 25 along an endplate"})
    depth_quantile: float = field(default=0.75, metadata={"help": "of the depths of the points with unlike marrow"})
    fewest: int = field(default=20, metadata={"help": "points of a band or a core, at least"})


DEFAULT = MarrowOptions()


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


@dataclass(frozen=True, eq=False)
class MarrowProfiles:
    """Sampling points from one endplate into its vertebral body: arrays (slices, points, depths)."""

    level: str
    side: str  # upper | lower
    vertebra: str
    places_mm: np.ndarray  # (slices, points, depths, 3), LPS
    marrow: np.ndarray  # bool: the point lies in the body of its vertebra


Key = tuple[str, str]


Core = tuple[float, float]


@dataclass(frozen=True, eq=False)
class MarrowSignals:
    """What volumes show along the profiles from all endplates, from which every measurement starts.

    `relative`: by contrast and endplate, float64 (slices, points, depths), over the patient's marrow; NaN outside of
    marrow or image.
    """

    profiles: Mapping[Key, MarrowProfiles]
    relative: Mapping[str, Mapping[Key, np.ndarray]]
    options: MarrowOptions

    @cached_property
    def cores(self) -> dict[str, dict[str, Core | None]]:
        """By contrast and vertebra, `own_core`."""
        vertebrae = {profile.vertebra for profile in self.profiles.values()}
        return {
            name: {vertebra: own_core(vertebra, self.profiles, values, self.options) for vertebra in vertebrae}
            for name, values in self.relative.items()
        }

    def core(self, contrast: str, key: Key) -> Core | None:
        """`own_core` of the vertebra beside an endplate."""
        return self.cores[contrast][self.profiles[key].vertebra]


def read_marrow(
    contrasts: Mapping[str, "Volume"], endplates: Mapping[str, Endplates], *, options: MarrowOptions = DEFAULT
) -> MarrowSignals:
    """The signals beside every endplate. Arguments as `measure_marrow`."""
    profiles = profiles_of(endplates, options)
    relative = {name: relative_signal(volume, profiles, options) for name, volume in contrasts.items()}
    return MarrowSignals(profiles, relative, options)


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
    return _median(signals.relative[contrast][key][:, :, _is_band(signals.options)], signals.options)


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


def profiles_of(endplates: Mapping[str, Endplates], options: MarrowOptions) -> dict[Key, MarrowProfiles]:
    """The profiles from all endplates that can be measured, by level and side."""
    return {
        (level, side): profile
        for level, pair in endplates.items()
        for side, profile in _profiles_of_level(level, pair, options)
    }


def _profiles_of_level(level: str, pair: Endplates, options: MarrowOptions) -> list[tuple[str, MarrowProfiles]]:
    """The profiles from the endplates of a level that can be measured."""
    profiles = []
    for side, plate in (("upper", pair.upper), ("lower", pair.lower)):
        if plate.trouble is None:
            profiles.append((side, _profiles(level, side, plate, options)))
    return profiles


def _profiles(level: str, side: str, plate: Endplate, options: MarrowOptions) -> MarrowProfiles:
    depths = depths_of(options)
    places = [line.points_mm[:, None] + depths[:, None] * line.inward[:, None] for line in plate.seen]
    marrow = [depths <= line.reach_mm[:, None] for line in plate.seen]
    return MarrowProfiles(level, side, plate.vertebra, np.stack(places), np.stack(marrow))


def depths_of(options: MarrowOptions) -> np.ndarray:
    """Distances from the endplate, mm, at which the marrow is read."""
    return np.arange(options.step_mm, options.core_mm[1] + options.step_mm / 2, options.step_mm)


def relative_signal(
    volume: "Volume", profiles: Mapping[Key, MarrowProfiles], options: MarrowOptions
) -> dict[Key, np.ndarray]:
    """Each profile's values over the patient's marrow, float64; NaN outside of marrow or image."""
    if not profiles:
        return {}
    places = np.concatenate([profile.places_mm for profile in profiles.values()])
    marrow = np.concatenate([profile.marrow for profile in profiles.values()])
    values = _read(volume, places, marrow)
    ends = np.cumsum([len(profile.marrow) for profile in profiles.values()])
    relative = values / _patient_marrow(values, places, ends, options)(places)
    return dict(zip(profiles, np.split(relative, ends[:-1]), strict=True))


def _read(volume: "Volume", places_mm: np.ndarray, marrow: np.ndarray) -> np.ndarray:
    """Values (…) at places (…, 3) that are marrow; NaN where it is none, where the volume ends, and where it is 0."""
    values = volume.values_at(places_mm[marrow])
    everywhere = np.full(marrow.shape, np.nan)
    everywhere[marrow] = np.where(values > 0, values, np.nan)
    return everywhere


class _Surface:
    """exp of a polynomial of the place: the brightness that the patient's marrow has there."""

    def __init__(self, coefficients: np.ndarray, centre: np.ndarray) -> None:
        self.coefficients, self.centre = coefficients, centre

    def __call__(self, places_mm: np.ndarray) -> np.ndarray:
        terms = surface_terms(places_mm.reshape(-1, 3) - self.centre)
        result: np.ndarray = np.exp(terms @ self.coefficients).reshape(places_mm.shape[:-1])
        return result


def surface_terms(mm: np.ndarray) -> np.ndarray:
    """(n, 5): 1, to the left, to the back, to the head and its square, in units of 10, 10, 50 and 50 mm."""
    x, y, z = (mm / (10.0, 10.0, 50.0)).T
    return np.stack([np.ones_like(x), x, y, z, z**2], 1)


STIFFNESS = np.array([0.0, 2.0, 2.0, 0.5, 1.0])  # of each term, against bending to a few bodies (ridge)
"""In units of one body's weight: with one body alone the surface is flat, with seven it follows a coil's profile."""


def _patient_marrow(values: np.ndarray, places_mm: np.ndarray, ends: np.ndarray, options: MarrowOptions) -> _Surface:
    """The patient's marrow: a surface through the cores of all vertebrae, robust against a few that are unlike.

    The logarithm of the medians of each core's thirds from front to back is fitted by least absolute deviations
    (reweighted least squares), then shifted so that the median of all cores lies on it.

    Args:
        values, places_mm: (slices, points, depths) and (…, 3) of all profiles, one endplate's after another.
        ends: (n,), behind the last slice of each endplate, which all have the same weight.
    """
    enough, mm, y = _core_parts(values, places_mm, options)
    if not len(y):
        return _Surface(np.zeros(5), np.zeros(3))
    of_plate = np.searchsorted(ends, np.nonzero(enough)[0], side="right")
    w = 1.0 / np.bincount(of_plate)[of_plate]
    centre = mm.mean(0)
    terms = surface_terms(mm - centre)
    coefficients = np.array([np.median(y), 0, 0, 0, 0])
    for _ in range(12):
        share = w / np.maximum(np.abs(y - terms @ coefficients), 0.03)
        left = terms.T @ (share[:, None] * terms) + np.diag(STIFFNESS) * share.sum() / max(w.sum(), 1e-9) * 0.1
        coefficients = np.linalg.solve(left + 1e-9 * np.eye(5), terms.T @ (share * y))
    coefficients[0] += np.median(y - terms @ coefficients)
    return _Surface(coefficients, centre)


def _core_parts(
    values: np.ndarray, places_mm: np.ndarray, options: MarrowOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which parts of the cores are seen, bool (slices, 3), three of each slice from front to back; of these the places
    (n, 3) and the logarithms (n,) of the medians."""
    core = _is_core(values.shape, options)
    last = int(options.vein * values.shape[1]) // 3 * 3
    columns = np.flatnonzero(core[0])
    parts = values[:, :last][:, :, columns].reshape(len(values), 3, -1)
    places = places_mm[:, :last][:, :, columns].reshape(*parts.shape, 3)
    seen = np.isfinite(parts)
    enough = seen.sum(-1) >= 5
    centres = (seen[..., None, :] @ np.where(seen[..., None], places, 0))[..., 0, :]
    return enough, centres[enough] / seen[enough].sum(-1)[:, None], np.log(medians(parts[enough]))


def _is_core(shape: tuple[int, ...], options: MarrowOptions) -> np.ndarray:
    """bool (points, depths): the middle of the body, in front of the basivertebral vein."""
    depths = depths_of(options)
    middle = (depths >= options.core_mm[0]) & (depths <= options.core_mm[1])
    return middle & (np.arange(shape[1]) < options.vein * shape[1])[:, None]


def _is_band(options: MarrowOptions) -> np.ndarray:
    depths = depths_of(options)
    return (depths >= options.band_mm[0]) & (depths <= options.band_mm[1])


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
    focal = {name: _median(np.exp(m)[there][:, _is_band(options)], options) for name, m in maps.items()}
    extent = float(there.sum() / known.sum()) if known.any() else None
    bright = float((brightness > 0).sum() / there.sum()) if there.any() else None
    return EndplateMarrow(ratio, band, focal, extent, depth_of(maps["t1"], there, options), bright, trouble=trouble)


def own_core(
    vertebra: str, profiles: Mapping[Key, MarrowProfiles], values: Mapping[Key, np.ndarray], options: MarrowOptions
) -> Core | None:
    """Median of a vertebra's core, from both of its endplates, and the robust standard deviation of its logarithm."""
    seen = [v[:, _is_core(v.shape, options)].ravel() for key, v in values.items() if profiles[key].vertebra == vertebra]
    core = np.concatenate(seen)
    core = core[np.isfinite(core)]
    if len(core) < options.fewest:
        return None
    median = float(np.median(core))
    return median, 1.4826 * float(np.median(np.abs(np.log(core / median))))


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
    bands = {name: _mean(values[:, :, _is_band(options)]) for name, values in maps.items()}
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
    sign = np.sign(_mean(values[:, :, _is_band(options)]))
    smooth = uniform_filter1d(np.nan_to_num(values), 3, axis=1, mode="nearest")
    smooth = uniform_filter1d(smooth, 3, axis=2, mode="nearest")
    start = int(np.argmax(_is_band(options)))
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
