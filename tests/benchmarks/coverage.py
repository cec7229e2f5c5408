"""Do 95 % intervals cover the truth in 93 to 97 % of simulated cohorts? `python tests/benchmarks/coverage.py [RUNS]`

Patients have six levels that are alike (a random effect on the logit of a change), the model errs as the paper's does.
Each run makes a new cohort and a new validation, so that both vary as they would in life.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modic.statistics.intervals import clustered_share
from modic.statistics.odds_ratios import odds_ratios
from modic.statistics.prevalence import ABSTAINED, confusion_of, prediction_powered, rogan_gladen

PAPER = np.array([[0.83, 0.085, 0.085], [0.075, 0.85, 0.075], [0.11, 0.11, 0.78]])
"""The paper's sensitivities (standardization); its errors split evenly over the other two grades."""

TRUE = np.array([0.80, 0.05, 0.15])
RARE = np.array([0.845, 0.005, 0.15])
ABSTAIN = np.array([0.25, 0.4, 0.3])
"""Share of levels, by true grade, on which the simulated model abstains."""


@dataclass(frozen=True)
class Cohort:
    """Levels: true grade, what the model said, its probabilities, and the patient."""

    truth: np.ndarray
    predicted: np.ndarray
    p: np.ndarray
    patients: np.ndarray


def simulate(rng: np.random.Generator, patients: int, *, true: np.ndarray = TRUE, alike: float = 4.0) -> Cohort:
    """Six levels a patient; a patient's own shares are Dirichlet(alike · true): small `alike`, much alike levels."""
    own = rng.dirichlet(alike * true, size=patients)
    truth = (rng.random((patients, 6, 1)) > own.cumsum(1)[:, None, :]).sum(2).clip(0, 2).ravel()
    said = (rng.random((len(truth), 1)) > PAPER[truth].cumsum(1)).sum(1).clip(0, 2)
    noise = rng.dirichlet([1, 1, 1], size=len(truth))
    p = 0.6 * np.eye(3)[said] + 0.4 * noise
    return Cohort(truth, p.argmax(1), p, np.repeat(np.arange(patients), 6))


def with_abstentions(rng: np.random.Generator, cohort: Cohort) -> np.ndarray:
    """What the model says if it abstains more often on true changes."""
    return np.where(rng.random(len(cohort.truth)) < ABSTAIN[cohort.truth], ABSTAINED, cohort.predicted)


Hits = dict[str, bool]


def raw(rng: np.random.Generator, patients: int) -> Hits:
    cohort = simulate(rng, patients)
    found = [clustered_share(cohort.truth == k, cohort.patients) for k in range(3)]
    return {f"clustered share MC{k}": s.low <= TRUE[k] <= s.high for k, s in enumerate(found)}


def inverted(rng: np.random.Generator, patients: int, *, abstain: bool, read: int, true: np.ndarray = TRUE) -> Hits:
    """Validation of `read` patients elsewhere, where grades are as frequent as each other."""
    cohort = simulate(rng, patients, true=true)
    other = simulate(rng, read, true=np.full(3, 1 / 3))
    here, there = cohort.predicted, other.predicted
    if abstain:
        here, there = with_abstentions(rng, cohort), with_abstentions(rng, other)
    found = rogan_gladen(here, cohort.patients, confusion_of(other.truth, there, other.patients), draws=1000)
    return {f"Rogan-Gladen MC{k}": found.low[k] <= true[k] <= found.high[k] for k in range(3)}


def powered(rng: np.random.Generator, patients: int, *, read: int, stratified: bool, true: np.ndarray = TRUE) -> Hits:
    """`read` levels of the cohort are read: at random, or as many of each predicted grade."""
    cohort = simulate(rng, patients, true=true)
    chance = np.full(len(cohort.truth), read / len(cohort.truth))
    if stratified:
        chance = np.minimum(1, read / 3 / np.bincount(cohort.predicted, minlength=3)[cohort.predicted])
    drawn = np.flatnonzero(rng.random(len(chance)) < chance)
    found = prediction_powered(
        cohort.p, cohort.patients, read=drawn, truth=cohort.truth[drawn], weights=1 / chance[drawn]
    )
    return {f"prediction-powered MC{k}": found.low[k] <= true[k] <= found.high[k] for k in range(3)}


def associated(rng: np.random.Generator, patients: int) -> Hits:
    """A trait of patients that has nothing to do with their levels: its odds ratio is 1."""
    cohort = simulate(rng, patients)
    trait = rng.random(patients) < 0.4
    frame = pd.DataFrame(
        {"patient_key": cohort.patients, "mc2": cohort.truth == 2, "trait": trait[cohort.patients].astype(int)}
    )
    found = odds_ratios(frame.astype({"mc2": int}), "mc2 ~ trait").iloc[0]
    return {"odds ratio": bool(found["low"] <= 1 <= found["high"])}


SCENES: dict[str, Callable[[np.random.Generator], Hits]] = {
    "60 patients": lambda rng: raw(rng, 60),
    "200 patients": lambda rng: raw(rng, 200),
    "2000 patients": lambda rng: raw(rng, 2000),
    "500 patients, validation of 100": lambda rng: inverted(rng, 500, abstain=False, read=100),
    "3000 patients, validation of 50": lambda rng: inverted(rng, 3000, abstain=False, read=50),
    "1000 patients, validation of 200, abstentions": lambda rng: inverted(rng, 1000, abstain=True, read=200),
    "1000 patients, 0.5 % of MC1, validation of 100": lambda rng: inverted(
        rng, 1000, abstain=False, read=100, true=RARE
    ),
    "60 patients, validation of 100, abstentions": lambda rng: inverted(rng, 60, abstain=True, read=100),
    "1000 patients, 200 levels read at random": lambda rng: powered(rng, 1000, read=200, stratified=False),
    "1000 patients, 300 levels read by grade": lambda rng: powered(rng, 1000, read=300, stratified=True),
    "1000 patients, 0.5 % of MC1, 300 levels read by grade": lambda rng: powered(
        rng, 1000, read=300, stratified=True, true=RARE
    ),
    "60 patients, odds ratio": lambda rng: associated(rng, 60),
    "400 patients, odds ratio": lambda rng: associated(rng, 400),
}


def coverage(scene: str, runs: int, seed: int = 0) -> dict[str, float]:
    """Share of `runs` in which each interval of a scene covers the truth."""
    hits = [SCENES[scene](np.random.default_rng([seed, run])) for run in range(runs)]
    return {name: float(np.mean([hit[name] for hit in hits])) for name in hits[0]}


def lines(runs: int) -> Iterator[str]:
    for scene in SCENES:
        for name, share in coverage(scene, runs).items():
            mark = "" if 0.93 <= share <= 0.97 else "   outside 93-97 %"
            yield f"{scene:54s} {name:26s} {100 * share:5.1f} %{mark}"


if __name__ == "__main__":
    for line in lines(int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
        print(line, flush=True)
