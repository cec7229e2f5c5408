"""The adapted grader: update, temperature and thresholds from readings, as one function of discs."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modic.adapt.choice import Choice, choose
from modic.adapt.site_data import Group
from modic.adapt.thresholds import DISCS, coverage_differs, enough, site_quantiles
from modic.adapt.update import SHIPPED, Update
from modic.errors import UsageError
from modic.grading.agreement import contradiction
from modic.grading.classify import calibration_of, prediction_set
from modic.grading.measured import Measured
from modic.models.card import contrasts


@dataclass(frozen=True, eq=False)
class Shipped:
    """What adapting starts from, of a classifier's card."""

    temperature: float
    quantiles: np.ndarray  # (classes,)
    alpha: float
    measured: Measured | None = None


@dataclass(frozen=True, eq=False)
class Adapted:
    """A grader for a site. `refitted`: the types whose thresholds are the site's; none: all are the shipped ones."""

    choice: Choice
    quantiles: np.ndarray
    refitted: tuple[int, ...]

    @property
    def update(self) -> Update:
        """What is added to the network's logits, and the temperature."""
        return self.choice.update

    @property
    def unchanged(self) -> bool:
        """Whether the shipped grader was left alone."""
        return self.choice.kind == SHIPPED and not self.refitted


def shipped_of(card: dict[str, Any]) -> Shipped:
    """Of the card of a classifier. Raises UsageError for one without what adapting needs."""
    calibration, alpha = calibration_of(card), card["calibration"].get("alpha")
    if calibration.site is not None:
        raise UsageError(
            "this classifier is already a site's own: adapt the one that it was made from, with --classifier"
        )
    if "stir" in contrasts(card):
        raise UsageError("a classifier that reads STIR cannot be adapted: the proof does not know its rule for type 1")
    if not alpha:
        raise UsageError("the classifier's card does not say the `alpha` of its thresholds; they cannot be fitted anew")
    return Shipped(calibration.temperature, calibration.quantiles, float(alpha), calibration.measured)


def adapt(read: Group, shipped: Shipped, *, seed: int = 0) -> Adapted:
    """Choose the update, and fit thresholds to its cross-fitted probabilities: no disc sets a threshold by a fit that
    saw its patient."""
    choice, discs = choose(read.discs, shipped.temperature, seed=seed), read.discs
    if discs.count() < DISCS:
        return Adapted(choice, shipped.quantiles, ())
    if choice.kind == SHIPPED:
        held = 1 - choice.p[np.arange(len(discs)), discs.labels] <= shipped.quantiles[discs.labels]
        if not coverage_differs(held, discs, shipped.alpha):
            return Adapted(choice, shipped.quantiles, ())
    return Adapted(choice, site_quantiles(choice.p, discs, shipped.alpha, shipped.quantiles), enough(discs))


def graded(group: Group, p: np.ndarray, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grades (n,), -1 where abstained, also by the marrow; and whether each set holds the disc's label (bool, n).

    `quantiles`: (classes,), or (n, classes) if they differ between discs.
    """
    of = np.broadcast_to(quantiles, p.shape)
    grades, held = np.full(len(p), -1), np.zeros(len(p), bool)
    for i, (row, q, marrow) in enumerate(zip(p, of, group.marrow, strict=True)):
        classes = prediction_set(row, q)
        held[i] = group.discs.labels[i] in classes
        mc = int(row.argmax())
        if len(classes) == 1 and (marrow is None or contradiction(mc, float(row.max()), marrow) is None):
            grades[i] = mc
    return grades, held
