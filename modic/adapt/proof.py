"""Before and after on patients that adapting did not see: the whole of it is repeated without each fold of patients.

Folds of patients are left out in turn; update, test, temperature and thresholds are made anew from the others and
applied to the fold. So every disc that was read is judged by a grader that knows nothing of its patient, and what is
measured is the procedure. The grader that is handed over is made from all readings, and is as a rule a little better.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from modic.adapt.choice import FOLDS
from modic.adapt.grader import Shipped, adapt, graded
from modic.adapt.site_data import Group
from modic.adapt.update import SHIPPED, fit
from modic.grades import CLASSES, GRADES
from modic.records import LEVELS
from modic.statistics.difference import folds_of
from modic.statistics.metrics import (
    Key,
    Numbers,
    alike,
    auc,
    calibration_error,
    counted,
    fat_share,
    intervals,
)

NAN = float("nan")
DRAWS = 200
FEWEST_OF_GROUP = 10
"""Discs that were read from which on a level, a scanner, … has numbers of its own."""
LEVEL_AND_TYPE = "by level and type"


@dataclass(frozen=True, eq=False)
class Judged:
    """How one grader judged the discs that were read: arrays of n rows."""

    p: np.ndarray
    grades: np.ndarray  # -1: abstained
    held: np.ndarray  # the set holds the label


@dataclass(frozen=True, slots=True)
class Compared:
    """A number before and after, and the difference with its 95 % interval by patient. `n`: discs that it is about."""

    what: str
    which: str
    before: float
    after: float
    low: float
    high: float
    n: int

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after - self.before


def judge(read: Group, shipped: Shipped, *, seed: int = 1) -> tuple[Judged, Judged]:
    """The shipped grader and the adapted one on the discs that were read, each by a grader that did not see it."""
    discs = read.discs
    before = fit(SHIPPED, discs, shipped.temperature).p(discs.logits, discs.features)
    after, quantiles = np.zeros_like(before), np.zeros_like(before)
    folds = folds_of(discs.patients, FOLDS, seed)
    for fold in np.unique(folds):
        inside = folds == fold
        adapted = adapt(read.some(~inside), shipped, seed=seed)
        after[inside] = adapted.update.p(discs.logits[inside], discs.features[inside])
        quantiles[inside] = adapted.quantiles
    return Judged(before, *graded(read, before, shipped.quantiles)), Judged(after, *graded(read, after, quantiles))


def compare(read: Group, before: Judged, after: Judged) -> list[Compared]:
    """Every number of `numbers`, with intervals; those without a value are left out."""
    discs = read.discs

    def both(rows: np.ndarray) -> dict[tuple[str, str, str], float]:
        of = {when: numbers(read, judged, rows) for when, judged in (("before", before), ("after", after))}
        flat = {(when, *key): value for when, found in of.items() for key, value in found.items()}
        return flat | {("gain", *key): of["after"][key] - value for key, value in of["before"].items()}

    all_rows = np.arange(len(read))
    values, bounds = both(all_rows), intervals(both, discs.patients.tolist(), draws=DRAWS)
    compared = []
    for key in numbers(read, before, all_rows):
        b, a = values["before", *key], values["after", *key]
        if np.isfinite(b) and np.isfinite(a):
            low, high = bounds.get(("gain", *key), (NAN, NAN))
            compared.append(Compared(*key, b, a, low, high, _about(read, key)))
    return compared


def numbers(read: Group, judged: Judged, rows: np.ndarray) -> Numbers:
    """(what, which) → number, of discs `rows`, weighted to the cohort within what each is about."""
    labels, weights = read.discs.labels[rows], read.discs.weights[rows]
    p, grades, held = judged.p[rows], judged.grades[rows], judged.held[rows]
    found: Numbers = {}
    either = labels != 1
    found["AUC", "MC0 vs MC2"] = auc(fat_share(p[either]), labels[either] == 2, weights[either])
    for k in range(CLASSES):
        found["AUC", f"{GRADES[k]} vs rest"] = auc(p[:, k], labels == k, weights)
    for k in range(CLASSES):
        of = labels == k
        found["sensitivity", GRADES[k]] = _mean(p.argmax(1) == k, weights, of)
    found["abstained", "all"] = _mean(grades < 0, weights, labels >= 0)
    found["right where graded", "all"] = _mean(grades == labels, weights, grades >= 0)
    for k in range(CLASSES):
        found["abstained", GRADES[k]] = _mean(grades < 0, weights, labels == k)
    for k in range(CLASSES):
        found["coverage", GRADES[k]] = _mean(held, weights, labels == k)
    equally = alike(labels, weights)
    found["calibration error", "types counted alike"] = calibration_error(p.max(1), p.argmax(1) == labels, equally)
    for (by, which), of in groups(read).items():
        found[f"coverage {by}", which] = _mean(held, weights, of[rows])
        if by != LEVEL_AND_TYPE:
            found[f"abstained {by}", which] = _mean(grades < 0, weights, of[rows])
    return found


def groups(read: Group) -> dict[tuple[str, str], np.ndarray]:
    """(by what, which) → the rows (bool mask) of each group of which `FEWEST_OF_GROUP` discs were read."""
    found = {("by level", level): read.levels == level for level in LEVELS}
    for name, of in (("scanner", read.scanners), ("field", read.fields)):
        found |= {(f"by {name}", value): of == value for value in np.unique(of).tolist()}
    for level, k in product(LEVELS, range(CLASSES)):
        found[LEVEL_AND_TYPE, f"{level} {GRADES[k]}"] = (read.levels == level) & (read.discs.labels == k)
    return {name: of for name, of in found.items() if read.discs.count(of) >= FEWEST_OF_GROUP}


def _mean(hit: np.ndarray, weights: np.ndarray, of: np.ndarray) -> float:
    return float(np.average(hit[of], weights=weights[of])) if of.any() else NAN


def _about(read: Group, key: Key) -> int:
    """Number of discs that a number is about."""
    what, which = key
    of = groups(read).get((what.partition(" ")[2], which))
    return round(read.discs.count(counted(key, read.discs.labels) if of is None else of))
