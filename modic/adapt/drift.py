"""Does the cohort still look like what was read? Features by scanner and year against those of the discs read.

The network's features are laid on the directions in which the read discs differ most (`DIRECTIONS` principal
components). A group of the cohort drifts if its mean lies `FAR` standard deviations of the read discs from theirs in
some direction, and more than chance would have it among so few patients. A group that was not read says nothing about
grades; it says where to read next.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from modic.adapt.site_data import Group
from modic.statistics.intervals import clustered_mean

DIRECTIONS, FAR, FEWEST_DISCS, FEWEST_PATIENTS = 8, 0.5, 30, 5
FEW_READ = 20


@dataclass(frozen=True, slots=True)
class Drift:
    """A group of the cohort. `distance`: of means, in standard deviations of the read discs; None: cannot be told."""

    what: str  # scanner | year | field strength
    which: str
    share: float  # of the cohort's graded discs
    read: int  # readings of it
    distance: float | None
    drifts: bool

    @property
    def to_read(self) -> bool:
        """Whether readings of this group are missing: it drifts or is a tenth of the cohort, and hardly any were."""
        return self.read < FEW_READ and (self.drifts or self.share >= 0.1)


def drift(read: Group, cohort: Group) -> list[Drift]:
    """Every scanner, year and field strength of the cohort, the largest first within each."""
    if not len(cohort) or not read.discs.features.shape[1]:
        return []
    directions = _directions(read.discs.features)
    here, there = (group.discs.features.astype(np.float64) @ directions for group in (read, cohort))
    spread = here.std(0) + 1e-9
    center, covariance = clustered_mean(here / spread, read.discs.patients, read.discs.weights)
    groups = []
    for what, of_read, of_cohort in (
        ("scanner", read.scanners, cohort.scanners),
        ("field strength", read.fields, cohort.fields),
        ("year", read.years.astype(str), cohort.years.astype(str)),
    ):
        names, counts = np.unique(of_cohort, return_counts=True)
        for name, count in sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1]):
            inside = of_cohort == name
            far = _distance(there[inside] / spread, cohort.discs.patients[inside], center, np.diag(covariance))
            n = int((of_read == name).sum())
            shown = "unknown" if name == "0" else name
            drifts = far is not None and far[1]
            groups.append(Drift(what, shown, count / len(cohort), n, far[0] if far else None, drifts))
    return groups


def _directions(features: np.ndarray) -> np.ndarray:
    """(k, DIRECTIONS): orthonormal."""
    values = features.astype(np.float64)
    *_, right = np.linalg.svd(values - values.mean(0), full_matrices=False)
    return right[:DIRECTIONS].T


def _distance(
    values: np.ndarray, patients: np.ndarray, center: np.ndarray, variance: np.ndarray
) -> tuple[float, bool] | None:
    """The largest distance over directions, and whether it is far beyond chance; None for too few discs."""
    if len(values) < FEWEST_DISCS or len(np.unique(patients)) < FEWEST_PATIENTS:
        return None
    mean, covariance = clustered_mean(values, patients)
    apart = np.abs(mean - center)
    error = np.sqrt(np.diag(covariance) + variance)
    sure = apart - student.ppf(1 - 0.025 / len(apart), len(np.unique(patients)) - 1) * error
    return float(apart.max()), bool((sure[apart >= FAR] > 0).any())
