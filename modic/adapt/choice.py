"""Which update a site's readings support: a closed test on cross-fitted predictions, by patient.

1. Patients are divided into folds; each update is fitted without a fold and predicts it. No patient is judged by a fit
   that saw him.
2. Every update is tested against the shipped grader on the log loss of patients, all together by step-down max-T with
   signs flipped by patient (Westfall & Young 1993): the chance that any update is taken where none is better is 5 %.
3. Of the updates that are better, the simplest is taken, unless a larger one is better than it in the same test. (The
   closed procedure of Vergouwe et al., Stat. Med. 36 (2017) 4529-4539, on predictions of other patients in place of
   likelihoods of the same ones, so that a last layer with thousands of weights can be compared with a shift.)
4. If none is better, the shipped grader is left alone.
"""

from dataclasses import dataclass

import numpy as np

from modic.adapt.update import (
    INTERCEPT,
    LAST_LAYERS,
    SCALING,
    SHIPPED,
    Discs,
    Kind,
    Update,
    balanced,
    fit,
    losses,
)
from modic.statistics.difference import folds_of

FOLDS, FLIPS, LEVEL = 5, 1999, 0.05
PATIENTS_FOR_LAST_LAYER, DISCS_FOR_LAST_LAYER = 40, 100


@dataclass(frozen=True, eq=False)
class Tested:
    """An update against the shipped grader. `gain`: log loss that it saves a disc, types counted alike."""

    kind: Kind
    gain: float
    p_value: float
    p: np.ndarray  # (n, classes), cross-fitted


@dataclass(frozen=True, eq=False)
class Choice:
    """What the test decided. `p`: cross-fitted probabilities (n, classes) of the update that was taken."""

    kind: Kind
    update: Update
    p: np.ndarray
    tested: tuple[Tested, ...]


def kinds_for(discs: Discs) -> tuple[Kind, ...]:
    """The updates that so many discs and patients suffice for."""
    patients = len(np.unique(discs.patients))
    enough = patients >= PATIENTS_FOR_LAST_LAYER and discs.count() >= DISCS_FOR_LAST_LAYER
    more = enough and discs.features.shape[1]
    return (INTERCEPT, SCALING, *(LAST_LAYERS if more else ()))


def choose(discs: Discs, temperature: float, *, seed: int = 0) -> Choice:
    """Test the updates on these discs and fit the one that is taken to all of them."""
    before = fit(SHIPPED, discs, temperature).p(discs.logits, discs.features)
    folds = folds_of(discs.patients, FOLDS, seed)
    kinds = kinds_for(discs)
    predicted = [cross_fitted(kind, discs, temperature, folds) for kind in kinds]
    v = balanced(discs)
    saved = np.stack([v * (losses(before, discs.labels) - losses(p, discs.labels)) for p in predicted], 1)
    by_patient = _sums(saved, discs.patients)
    adjusted = max_t(by_patient, seed)
    tested = tuple(
        Tested(kind, float(saved[:, i].sum() / v.sum()), float(adjusted[i]), predicted[i])
        for i, kind in enumerate(kinds)
    )
    taken = _taken(by_patient, adjusted, seed)
    if taken is None:
        return Choice(SHIPPED, fit(SHIPPED, discs, temperature), before, tested)
    return Choice(kinds[taken], fit(kinds[taken], discs, temperature), predicted[taken], tested)


def _taken(by_patient: np.ndarray, adjusted: np.ndarray, seed: int) -> int | None:
    """Index of the update; columns go from simple to large, updates of one name by how much they may change."""
    better = np.flatnonzero(adjusted < LEVEL)
    if not len(better):
        return None
    taken = int(better[0])
    rest = [int(i) for i in better[1:]]
    if rest:
        more = by_patient[:, rest] - by_patient[:, [taken]]
        against = max_t(more, seed)
        if (against < LEVEL).any():
            significant = [i for i, p in zip(rest, against, strict=True) if p < LEVEL]
            taken = max(significant, key=lambda i: by_patient[:, i].sum())
    return taken


def cross_fitted(kind: Kind, discs: Discs, temperature: float, folds: np.ndarray) -> np.ndarray:
    """(n, classes): each disc's probabilities by the update fitted to the other folds."""
    p = np.zeros_like(discs.logits)
    for fold in np.unique(folds):
        inside = folds == fold
        update = fit(kind, discs.some(~inside), temperature)
        p[inside] = update.p(discs.logits[inside], discs.features[inside])
    return p


def _sums(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    names, of = np.unique(patients, return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, of, values)
    return sums


def max_t(gains: np.ndarray, seed: int = 0) -> np.ndarray:
    """Adjusted one-sided p (m,) that a column of gains (patients, m) has a mean of 0 or less, step-down max-T.

    Under the null hypothesis a patient's gain might as well have the other sign, in all columns at once.
    """
    rng = np.random.default_rng(seed)
    signs = rng.choice((-1.0, 1.0), size=(FLIPS, len(gains)))
    scale = np.sqrt((gains**2).sum(0)) + 1e-300
    t, flipped = gains.sum(0) / scale, signs @ gains / scale
    adjusted, running = np.ones(gains.shape[1]), 0.0
    order = np.argsort(-t)
    for place, column in enumerate(order):
        highest = flipped[:, order[place:]].max(1)
        running = max(running, float((1 + (highest >= t[column] - 1e-12).sum()) / (FLIPS + 1)))
        adjusted[column] = running
    return adjusted
