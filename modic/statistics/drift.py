"""Do images still look like those that were read? Features by scanner, field strength and year against those read.

The network's features are laid on the directions in which the read discs differ most (`DIRECTIONS` principal
components). A group drifts if its mean lies `FAR` standard deviations of the read discs from theirs in some direction,
and more than chance would have it among so few patients. A group that was not read says nothing about grades; it says
where to read next.

`modic adapt` compares the cohort (modic/adapt/page.py) and keeps the baseline beside the site's grader, with which
every later night compares again (modic/run/drift.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from modic.statistics.intervals import clustered_mean

DIRECTIONS, FAR, FEWEST_DISCS, FEWEST_PATIENTS = 8, 0.5, 30, 5
FEW_READ = 20
LARGE = 0.1
"""Share of a cohort from which on a group is to be read, though it may look alike."""
Row = tuple[float, ...]
Groups = Mapping[str, np.ndarray]
"""What discs are told apart by (scanner, …) → the name of each disc's group (n,)."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The discs that were read, as numbers alone. `directions` (features, d), the others (d,), in `spread`."""

    directions: tuple[Row, ...]
    spread: Row  # standard deviation along each direction
    center: Row  # mean
    variance: Row  # of the mean, if patients were drawn again
    read: dict[str, dict[str, int]]  # what → group → discs that were read


@dataclass(frozen=True, slots=True)
class Drift:
    """A group of the cohort. `distance`: of means, in standard deviations of the read discs; None: cannot be told."""

    what: str
    which: str
    share: float  # of the discs that were compared
    read: int  # discs of it that were read
    distance: float | None
    far: bool

    @property
    def few_read(self) -> bool:
        """Whether hardly any disc of it was read."""
        return self.read < FEW_READ

    @property
    def to_read(self) -> bool:
        """Whether readings of this group are missing: it looks otherwise, or is a tenth of the cohort."""
        return self.few_read and (self.far or self.share >= LARGE)


def baseline(
    features: np.ndarray, patients: np.ndarray, weights: np.ndarray, shares: np.ndarray, groups: Groups
) -> Baseline | None:
    """Of the discs that were read; None if the network gives no features.

    Args:
        features: (n, k), a row for each type that a disc was given.
        patients: (n,), whose each disc is.
        weights: float (n,), how many discs of the cohort each row stands for.
        shares: float (n,), 0-1, what part of a disc each row is.
        groups: of each row.
    """
    if not features.shape[1]:
        return None
    values = features.astype(np.float64)
    *_, right = np.linalg.svd(values - values.mean(0), full_matrices=False)
    along = values @ (directions := right[:DIRECTIONS].T)
    mean = np.average(along, axis=0, weights=shares)
    spread = np.sqrt(np.average((along - mean) ** 2, axis=0, weights=shares)) + 1e-9
    center, covariance = clustered_mean(along / spread, patients, weights)
    read = {
        what: {name: round(float(shares[names == name].sum())) for name in np.unique(names).tolist()}
        for what, names in groups.items()
    }
    return Baseline(tuple(map(_row, directions)), _row(spread), _row(center), _row(np.diag(covariance)), read)


def _row(values: np.ndarray) -> Row:
    return tuple(float(f"{value:.6g}") for value in values)


def drift(of: Baseline, features: np.ndarray, patients: np.ndarray, groups: Groups) -> list[Drift]:
    """Every group of some discs against those that were read, the largest first within each `what`.

    Args:
        features: (n, k).
        patients: (n,), whose each disc is.
        groups: of each disc.
    """
    if not len(features):
        return []
    values = features.astype(np.float64) @ np.array(of.directions) / np.array(of.spread)
    found = []
    for what, of_discs in groups.items():
        names, counts = np.unique(of_discs, return_counts=True)
        for name, count in sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1]):
            inside = of_discs == name
            distance, far = _distance(values[inside], patients[inside], of)
            read = of.read.get(what, {}).get(name, 0)
            found.append(Drift(what, name, count / len(features), read, distance, far))
    return found


def _distance(values: np.ndarray, patients: np.ndarray, of: Baseline) -> tuple[float | None, bool]:
    """The largest distance over directions, and whether it is far beyond chance; None for too few discs."""
    n = len(np.unique(patients))
    if len(values) < FEWEST_DISCS or n < FEWEST_PATIENTS:
        return None, False
    mean, covariance = clustered_mean(values, patients)
    apart = np.abs(mean - np.array(of.center))
    error = np.sqrt(np.diag(covariance) + np.array(of.variance))
    sure = apart - stdtrit(n - 1, 1 - 0.025 / len(apart)) * error
    return float(apart.max()), bool((sure[apart >= FAR] > 0).any())
