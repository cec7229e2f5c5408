"""Endplates and volumes → the signal of the marrow along profiles from each endplate, over the patient's marrow.

Along the lines of modic/imaging/endplates.py each volume is read at right angles into the vertebral body. All values of
a contrast are divided by the *patient's marrow*: a smooth surface through the marrow in the middle of all bodies
(`_patient_marrow`), which also removes the coil's fall-off. A gain, a linear coil profile along the spine and from
front to back, and most of a smooth one, thus leave every number as it was. What is measured of the signals:
modic/grading/marrow.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from modic.quantiles import medians
from modic.records import Endplate, Endplates

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
    core = is_core(values.shape, options)
    last = int(options.vein * values.shape[1]) // 3 * 3
    columns = np.flatnonzero(core[0])
    parts = values[:, :last][:, :, columns].reshape(len(values), 3, -1)
    places = places_mm[:, :last][:, :, columns].reshape(*parts.shape, 3)
    seen = np.isfinite(parts)
    enough = seen.sum(-1) >= 5
    centres = (seen[..., None, :] @ np.where(seen[..., None], places, 0))[..., 0, :]
    return enough, centres[enough] / seen[enough].sum(-1)[:, None], np.log(medians(parts[enough]))


def is_core(shape: tuple[int, ...], options: MarrowOptions) -> np.ndarray:
    """bool (points, depths): the middle of the body, in front of the basivertebral vein."""
    depths = depths_of(options)
    middle = (depths >= options.core_mm[0]) & (depths <= options.core_mm[1])
    return middle & (np.arange(shape[1]) < options.vein * shape[1])[:, None]


def is_band(options: MarrowOptions) -> np.ndarray:
    depths = depths_of(options)
    return (depths >= options.band_mm[0]) & (depths <= options.band_mm[1])


def own_core(
    vertebra: str, profiles: Mapping[Key, MarrowProfiles], values: Mapping[Key, np.ndarray], options: MarrowOptions
) -> Core | None:
    """Median of a vertebra's core, from both of its endplates, and the robust standard deviation of its logarithm."""
    seen = [v[:, is_core(v.shape, options)].ravel() for key, v in values.items() if profiles[key].vertebra == vertebra]
    core = np.concatenate(seen)
    core = core[np.isfinite(core)]
    if len(core) < options.fewest:
        return None
    median = float(np.median(core))
    return median, 1.4826 * float(np.median(np.abs(np.log(core / median))))
