"""Do answers from imputed grades cover the truth? `python tests/benchmarks/imputation.py [RUNS] [PATIENTS] [READ]`

Patients with a random effect; true odds ratios: age 1.04 a year and L5/S1 against L1/L2 about 8 (both for MC2), a trait
of the patient 2, another one 1. The grader's probabilities are those of a signal with noise, worse at the lower levels,
on one of two scanners, and drawn to degeneration (age); it abstains where it is unsure. Readers read READ levels drawn
at random, or equally many by its grade, without error. The truth of each number is that of a cohort of 200,000
patients. Prints how often 95 % intervals hold it, the mean error, and the same for the grades taken as they are.
"""

import sys
from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd

from modic.analysis.groups import with_flags
from modic.analysis.imputed import impute, with_grades
from modic.errors import UsageError
from modic.records import LEVELS
from modic.statistics.intervals import clustered_share
from modic.statistics.odds_ratios import odds_ratios

FORMULA = "mc2 ~ age_years + C(level, Treatment('L1/L2')) + trait + idle"
TERMS = {
    "age_years": "OR a year", "C(level, Treatment('L1/L2'))[T.L5/S1]": "OR L5/S1", "trait": "OR trait",
    "idle": "OR idle",
}  # fmt: skip
HEIGHT = np.array([-1.6, -1.2, -0.6, 0.0, 0.9, 1.0])  # of the levels, on the logit of MC2


def simulate(rng: np.random.Generator, patients: int) -> pd.DataFrame:
    """One row a level: true grade, what the grader says, and what is known of the patient."""
    n = 6 * patients
    of, level = np.repeat(np.arange(patients), 6), np.tile(np.arange(6), patients)
    age, trait, idle = rng.uniform(20, 85, patients), rng.random(patients) < 0.4, rng.random(patients) < 0.5
    scanner = rng.random(patients) < 0.4
    own = rng.normal(0, 0.9, patients)
    logit2 = -2.1 + HEIGHT[level] + (0.046 * (age - 52) + 0.8 * trait + own)[of]
    logit1 = -3.6 + 0.6 * HEIGHT[level] + (0.01 * (age - 52) + 0.5 * own)[of]
    weights = np.exp(np.column_stack([np.zeros(n), logit1, logit2]))
    truth = (rng.random((n, 1)) > (weights / weights.sum(1, keepdims=True)).cumsum(1)).sum(1).clip(0, 2)
    noise = (1.3 + 0.25 * (level >= 4) + 0.5 * scanner[of])[:, None]
    signal = 2.2 * np.eye(3)[truth] + noise * rng.normal(size=(n, 3))
    signal[:, 2] += 0.02 * (age[of] - 52) + 0.3 * (level >= 4)  # degeneration looks like a change
    p = np.exp(signal - signal.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mc = pd.array(p.argmax(1), "Int8")
    mc[p.max(1) < 0.6] = pd.NA
    return pd.DataFrame(
        {
            "patient_key": of, "study_key": of.astype(str), "level": np.array(LEVELS)[level], "mc": mc, "truth": truth,
            "p_mc0": p[:, 0], "p_mc1": p[:, 1], "p_mc2": p[:, 2], "age_years": age[of], "trait": trait[of].astype(int),
            "idle": idle[of].astype(int), "field_strength_t": np.where(scanner, 1.5, 3.0)[of], "sex": "F",
        }
    )  # fmt: skip


def read(rng: np.random.Generator, frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """Readings of about `n` levels, as many of each answer of the grader (abstentions are one)."""
    said = frame["mc"].astype(float).fillna(3).to_numpy(int)
    chance = np.minimum(1, n / 4 / np.bincount(said, minlength=4)[said])
    drawn = rng.random(len(frame)) < chance
    return frame.loc[drawn, ["study_key", "level", "truth"]].assign(weight=1 / chance[drawn])


Numbers = dict[str, tuple[float, float, float]]


def answers(frame: pd.DataFrame, ask: Any) -> Numbers:
    """Name → estimate, low, high; `ask`: prevalence(unit, by) and association() of the frame or of imputed ones."""
    found: Numbers = {}
    for unit in ("levels", "patients"):
        for row in ask.prevalence((), unit=unit).to_dict("records"):
            if row["grade"] != "MC0":
                found[f"{row['grade']}, {unit}"] = (row["share"], row["low"], row["high"])
    shares = ask.prevalence("old", unit="patients").set_index(["old", "grade"])
    for old in (0, 1):
        row = shares.loc[(old, "MC1 or MC2")]
        found[f"any, patients {'over' if old else 'under'} 60"] = (row["share"], row["low"], row["high"])
    for row in ask.association(FORMULA).to_dict("records"):
        if row["term"] in TERMS:
            found[TERMS[row["term"]]] = (row["odds_ratio"], row["low"], row["high"])
    return found


class AsGraded:
    """The grades as they are: abstentions are left out."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def prevalence(self, by: Any, *, unit: str) -> pd.DataFrame:
        rows = []
        for group, part in self.frame.groupby(by) if by else [((), self.frame)]:
            decided = part[part["mc"].notna()]
            for grade, types in {"MC1": (1,), "MC2": (2,), "MC1 or MC2": (1, 2)}.items():
                hit, of = decided["mc"].isin(types).to_numpy(bool), decided["patient_key"].to_numpy()
                if unit == "patients":
                    of, place = np.unique(of, return_inverse=True)
                    hit = np.bincount(place, hit) > 0
                share = clustered_share(hit, of)
                rows.append({"old": group, "grade": grade, "share": share.value, "low": share.low, "high": share.high})
        return pd.DataFrame(rows)

    def association(self, formula: str) -> pd.DataFrame:
        return odds_ratios(self.frame, formula)


def main(runs: int, patients: int, n_read: int) -> None:
    big = simulate(np.random.default_rng(1), 200_000)
    big = with_grades(big, big["truth"].to_numpy()).assign(old=(big["age_years"] >= 60).astype(int))
    small = big[big["patient_key"] < 60_000]
    truth = {name: value[0] for name, value in answers(small, AsGraded(small)).items()}
    hits: dict[str, list[tuple[bool, float, bool, float]]] = defaultdict(list)
    for run in range(runs):
        rng = np.random.default_rng([7, run])
        frame = simulate(rng, patients).assign(old=lambda f: (f["age_years"] >= 60).astype(int))
        try:
            imputed = impute(frame, read(rng, frame, n_read), m=20, seed=run, covariates=("trait", "idle"))
            ours = answers(frame, imputed)
        except UsageError as error:
            print(run, error)
            continue
        naive = answers(frame, AsGraded(with_flags(frame)))
        for name, value in truth.items():
            (a, low, high), (b, naive_low, naive_high) = ours[name], naive[name]
            hits[name].append((low <= value <= high, a - value, naive_low <= value <= naive_high, b - value))
    print(f"{runs} runs of {patients} patients, about {n_read} levels read")
    print(f"{'':28s} {'truth':>7s} {'covered':>8s} {'error':>7s}   as graded: {'covered':>8s} {'error':>7s}")
    for name, value in truth.items():
        covered, error, naive, wrong = np.mean(hits[name], axis=0)
        print(f"{name:28s} {value:7.3f} {100 * covered:7.1f}% {error:+7.3f} {'':13s} {100 * naive:7.1f}% {wrong:+7.3f}")


if __name__ == "__main__":
    main(*(int(word) for word in (*sys.argv[1:4], *("100", "1000", "400")[len(sys.argv) - 1 :])))
