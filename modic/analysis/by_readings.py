"""Associations and changes from what readers read of a random sample of this cohort: the difference estimator.

One estimating equation (modic.statistics.difference.solve) gives shares, regressions and changes, patients as clusters.
"""

import re

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from modic.analysis.corrected import answers, read_levels
from modic.analysis.visits import GRADES_BEFORE_AFTER, change_rows, pairs_of
from modic.errors import UsageError
from modic.grades import CLASSES, P
from modic.statistics.difference import Estimate, Read, mean, pseudo_outcomes
from modic.statistics.intervals import wilson
from modic.statistics.odds_ratios import outcome_of, read_odds_ratios
from modic.statistics.prevalence import ABSTAINED, own_prevalence

TYPES = {**{f"mc{k}": (k,) for k in range(CLASSES)}, "any_mc": (1, 2)}
"""Outcomes of a formula → the types that count."""
SIDES = ("before", "after")
FEW = 20
"""Read levels with a grade before, from which changes have intervals by the spread of residuals alone."""


def association(graded: pd.DataFrame, known: pd.DataFrame, formula: str, *, scale: str) -> pd.DataFrame:
    """As `modic.statistics.odds_ratios.read_odds_ratios`, of graded levels (abstained ones too) and readings.

    Raises UsageError for another outcome than those of TYPES, without readings, or if the model cannot be fitted.
    """
    outcome = outcome_of(formula)
    if outcome not in TYPES:
        raise UsageError(f"the outcome of {formula!r} is not one of {', '.join(TYPES)}")
    if used := [name for name in ("mc", *TYPES) if re.search(rf"\b{name}\b", formula.partition("~")[2])]:
        raise UsageError(
            f"{', '.join(used)} on the right of {formula!r} would be the model's own grades; readings correct the"
            ' outcome alone: take method="imputed", which draws both'
        )
    graded = graded.reset_index(drop=True)
    try:
        levels = read_levels(graded, known)
    except ValueError as error:
        raise UsageError(f"an association by readings {error}") from error
    types = list(TYPES[outcome])
    hits = levels.truth[:, types].sum(1)
    if not (hits.any() and (hits < 1).any()):
        raise UsageError(
            f"readers saw {outcome} on {'all' if hits.any() else 'none'} of the {len(hits)} levels they read"
        )
    p = own_prevalence(graded[P].to_numpy(float))[:, types].sum(1, keepdims=True)
    read = Read(levels.place, levels.truth[:, types].sum(1, keepdims=True), levels.weights)
    pseudo = pseudo_outcomes(p, answers(graded), graded["patient_key"].to_numpy(), read)
    columns = {name: np.full(len(graded), np.nan) for name in ("missed", "weight")}
    columns["missed"][read.place], columns["weight"][read.place] = pseudo.missed[:, 0], read.weights
    return read_odds_ratios(graded.assign(said=pseudo.said[:, 0], **columns), formula, scale=scale)


def changes(frame: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Changes from each patient's first to last graded study, from patients who were read at both visits.

    `frame`: graded levels of all visits. Rows as `modic.analysis.visits.change_rows`. Raises UsageError without
    readings of whole patients at both visits.
    """
    pairs = pairs_of(frame)
    if "unit" in known:
        known = known[known["unit"].fillna("").eq("patient")]
    try:
        read = _read_pairs(pairs, known)
        said = [own_prevalence(pairs[[f"{name}_{when}" for name in P]].to_numpy(float)) for when in SIDES]
        p = np.einsum("ni,nj->nij", *said).reshape(len(pairs), -1)
        at_first, at_last = (answers(pairs, f"mc_{when}") for when in SIDES)
        unsure = (at_first == ABSTAINED) | (at_last == ABSTAINED)
        said_both = np.where(unsure, "unsure", np.where(at_first == at_last, "same", "changed"))
        cells = mean(p, said_both, pairs["patient_key"].to_numpy(), read)
    except ValueError as error:
        raise UsageError(
            f"changes by readings: {error}; modic review --by patient --visits all draws patients with all visits"
        ) from error
    seen = read.truth.reshape(-1, CLASSES, CLASSES).sum((0, 2))
    found = [_ratio(cells, before, after, float(seen[before])) for before, after in GRADES_BEFORE_AFTER]
    return change_rows(found, pairs, n_read=len(read.place))


def _read_pairs(pairs: pd.DataFrame, known: pd.DataFrame) -> Read:
    """Pairs of which a reader read both; truth (r, 9): share of these readers who gave each grade before and after."""
    sides = [
        known[["study_key", "level", "reader", "truth", "weight"]]
        .astype({"study_key": "string", "level": "string", "truth": "Int64"})
        .rename(columns={"study_key": f"study_key_{when}", "truth": f"truth_{when}", "weight": f"weight_{when}"})
        for when in SIDES
    ]
    place = pairs.assign(place=np.arange(len(pairs)))[["study_key_before", "study_key_after", "level", "place"]]
    both = place.astype({"study_key_before": "string", "study_key_after": "string", "level": "string"})
    for side in sides:
        both = both.merge(side, on=[c for c in side.columns if c in both.columns])
    both = both[both["truth_before"].notna() & both["truth_after"].notna()]
    if both.empty:
        raise ValueError("no reader read the same level at two visits")
    cell = both["truth_before"].to_numpy(int) * CLASSES + both["truth_after"].to_numpy(int)
    one = pd.DataFrame(np.eye(CLASSES**2)[cell]).assign(place=both["place"].to_numpy(int))
    truth = one.groupby("place").mean()
    weight = both.groupby("place")["weight_before"].first().reindex(truth.index)
    return Read(truth.index.to_numpy(int), truth.to_numpy(float), weight.to_numpy(float))


def _ratio(cells: Estimate, before: int, after: int, seen: float) -> tuple[float, float, float]:
    """Share of the levels with grade `before` that have `after` later, low and high (delta method).

    `seen`: read levels with `before`. Of none nothing is known; of fewer than FEW, whose residuals show too little of
    their own variance, the interval is at least Wilson's of them.
    """
    if not seen:
        return float("nan"), 0.0, 1.0
    of, row = cells.values[0], np.arange(before * CLASSES, (before + 1) * CLASSES)
    part, whole = of[before * CLASSES + after], of[row].sum()
    if whole <= 0:
        return float("nan"), float("nan"), float("nan")
    value = np.clip(part / whole, 0, 1)
    slope = np.zeros((len(of), 1))
    slope[row] = -part / whole**2
    slope[before * CLASSES + after] += 1 / whole
    deviation, freedom = cells.spread(slope)
    low, high = (float((value + way * stdtrit(freedom, 0.975) * deviation).clip(0, 1)[0]) for way in (-1, 1))
    if seen < FEW:
        least, most = wilson(float(value) * seen, seen)
        low, high = min(low, least), max(high, most)
    return float(value), low, high
