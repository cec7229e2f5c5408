"""Do corrected answers cover the truth? `python tests/benchmarks/imputation.py DESIGN [RUNS] [PATIENTS] [READ] [FIRST]`

Patients with a random effect and two visits; true odds ratios: age 1.04 a year and L5/S1 against L1/L2 about 8 (both
for MC2), a trait of the patient 2, another one 1. At the second visit, four years later, grades have changed as CHANGE
says.
The grader's probabilities are those of a signal with noise, a part of which is the level's own at both visits; it is
worse at the lower levels and on one of two scanners, and drawn to degeneration (age); it abstains where it is unsure.
DESIGN `levels`: readers read READ levels, equally many of each answer of the grader; `patients`: READ whole patients at
both visits, as `modic review --by patient,grade --visits all` draws them; without error. The truth is what 30,000
patients show. Prints how often 95 % intervals of imputed grades (`cohort.imputed`), of the difference estimator
(`method="readings"`) and of the grades as they are hold it, and the mean error of each. FIRST: number of the first run.

--methods: some of METHODS alone. --differences: of shares between groups alone, which takes a second a cohort by
readings. --out FILE: a line of JSON an answer; runs that FILE holds are not made again, so that a long one can be
stopped, and several be read together.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "support")]

from benchmarks.fast_gee import check, fast  # noqa: E402

from modic.analysis import by_readings  # noqa: E402
from modic.analysis import imputed as imputed_grades  # noqa: E402
from modic.analysis.corrected import corrected_patients, corrected_prevalence, corrected_rows  # noqa: E402
from modic.analysis.elsewhere import ERROR_COVARIATES, impute_elsewhere  # noqa: E402
from modic.analysis.groups import groups, with_flags  # noqa: E402
from modic.analysis.imputed import Imputed, impute, with_grades  # noqa: E402
from modic.analysis.visits import GRADES_BEFORE_AFTER, change_rows, pairs_of  # noqa: E402
from modic.errors import UsageError  # noqa: E402
from modic.reader_study.sample import draw, readable_units  # noqa: E402
from modic.records import LEVELS  # noqa: E402
from modic.statistics.intervals import clustered_share  # noqa: E402
from modic.statistics.odds_ratios import odds_ratios  # noqa: E402

FORMULA = "mc2 ~ age_years + C(level, Treatment('L1/L2')) + trait + idle"
TERMS = {
    "age_years": "OR a year", "C(level, Treatment('L1/L2'))[T.L5/S1]": "OR L5/S1", "trait": "OR trait",
    "idle": "OR idle",
}  # fmt: skip
DIFFERENCES = {"trait": "MC2, trait minus none", "weak": "MC2, 1.5 minus 3 T"}
HEIGHT = np.array([-1.6, -1.2, -0.6, 0.0, 0.9, 1.2])  # of the levels, on the logit of MC2
CHANGE = np.array([[0.93, 0.02, 0.05], [0.20, 0.40, 0.40], [0.02, 0.03, 0.95]])  # grade before → after
SHOWN = {("MC0", "MC2"): "MC0 to MC2", ("MC1", "MC2"): "MC1 to MC2"}
M = 10


def simulate(rng: np.random.Generator, patients: int, visits: int = 1, *, base: float = -2.1) -> pd.DataFrame:
    """One row a level of each visit: true grade, what the grader says, and what is known of the patient.

    `base`: of the logit of MC2; -2.1 makes a fifth of the levels MC2.
    """
    n = 6 * patients
    of, level = np.repeat(np.arange(patients), 6), np.tile(np.arange(6), patients)
    age, trait, idle = rng.uniform(20, 85, patients), rng.random(patients) < 0.4, rng.random(patients) < 0.5
    scanner = rng.random(patients) < 0.4
    own = rng.normal(0, 0.9, patients)
    logit2 = base + HEIGHT[level] + (0.046 * (age - 52) + 0.8 * trait + own)[of]
    logit1 = -3.6 + 0.6 * HEIGHT[level] + (0.01 * (age - 52) + 0.5 * own)[of]
    weights = np.exp(np.column_stack([np.zeros(n), logit1, logit2]))
    truth = (rng.random((n, 1)) > (weights / weights.sum(1, keepdims=True)).cumsum(1)).sum(1).clip(0, 2)
    spread = (1.3 + 0.25 * (level >= 4) + 0.5 * scanner[of])[:, None]
    lasting = rng.normal(size=(n, 3))
    frames = []
    for visit in range(visits):
        if visit:
            truth = (rng.random((n, 1)) > CHANGE[truth].cumsum(1)).sum(1).clip(0, 2)
        noise = np.sqrt(0.4) * lasting + np.sqrt(0.6) * rng.normal(size=(n, 3))
        signal = 2.2 * np.eye(3)[truth] + spread * noise
        signal[:, 2] += 0.02 * (age[of] - 52) + 0.3 * (level >= 4)  # degeneration looks like a change
        p = np.exp(signal - signal.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mc = pd.array(p.argmax(1), "Int8")
        mc[p.max(1) < 0.6] = pd.NA
        columns = {
            "patient_key": [f"p{i:06d}" for i in of], "study_key": [f"s{i:06d}-{visit}" for i in of],
            "level": np.array(LEVELS)[level], "mc": mc, "truth": truth, "p_mc0": p[:, 0], "p_mc1": p[:, 1],
            "p_mc2": p[:, 2], "age_years": age[of] + 4 * visit, "trait": trait[of].astype(int), "sex": "F",
            "idle": idle[of].astype(int), "field_strength_t": np.where(scanner, 1.5, 3.0)[of],
            "weak": scanner[of].astype(int), "days_since_first_study": 1461 * visit,
        }  # fmt: skip
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def read(rng: np.random.Generator, frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """Readings of about `n` levels, as many of each answer of the grader (abstentions are one)."""
    said = frame["mc"].astype(float).fillna(3).to_numpy(int)
    chance = np.minimum(1, n / 4 / np.bincount(said, minlength=4)[said])
    drawn = rng.random(len(frame)) < chance
    columns = ["study_key", "patient_key", "level", "truth"]
    return frame.loc[drawn, columns].assign(weight=1 / chance[drawn], unit="level", reader="A")


def read_patients(seed: int, frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """Readings of `n` whole patients at all visits, as `modic review --by patient,grade` draws them."""
    mc = frame["mc"].astype(object).where(frame["mc"].notna(), None)
    units = readable_units(frame.assign(case=1, mc=mc).to_dict("records"), ["patient", "grade"], "all")
    drawn = pd.DataFrame(draw(units, n, ["patient", "grade"], seed))
    return drawn[["study_key", "patient_key", "level", "truth", "weight", "unit"]].assign(reader="A")


def read_elsewhere(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Readings of about `n` levels of 800 other patients, of whom more have changes, with the answers of the grader."""
    other = simulate(rng, 800, base=-1.4)
    read_there = read(rng, other, n).join(other[["mc", *ERROR_COVARIATES]])
    return read_there.rename(columns={"mc": "predicted"})


Numbers = dict[str, tuple[float, float, float]]


def answers(ask: Any, *, differences_alone: bool = False) -> Numbers:
    """Name → estimate, low, high; what `ask` cannot answer is left out."""
    found: Numbers = {}

    def add(question: Callable[[], pd.DataFrame], name_of: Callable[[dict[str, Any]], str], column: str) -> None:
        try:
            rows = question().to_dict("records")
        except UsageError as error:
            print("refused:", str(error)[:120], flush=True)
            return
        found.update({name_of(row): (row[column], row["low"], row["high"]) for row in rows})

    for term in ("trait", "weak"):
        add(
            partial(ask.association, f"mc2 ~ {term}", scale="difference"),
            lambda row: DIFFERENCES[row["term"]],
            "difference",
        )
    if differences_alone:
        return found
    for unit in ("levels", "patients"):
        add(partial(ask.prevalence, (), unit=unit), lambda row, unit=unit: f"{row['grade']}, {unit}", "share")  # type: ignore[misc]
    add(partial(ask.prevalence, "old", unit="patients"), _name_of_age, "share")
    add(partial(ask.association, FORMULA, scale="odds ratio"), lambda row: TERMS.get(row["term"], ""), "odds_ratio")
    add(ask.changes, lambda row: SHOWN.get((row["before"], row["after"]), ""), "share")
    return {name: value for name, value in found.items() if name and not name.startswith("MC0, ")}


def _name_of_age(row: dict[str, Any]) -> str:
    return f"any, patients {'over' if row['old'] else 'under'} 60" if row["grade"] == "MC1 or MC2" else ""


NOTHING = pd.DataFrame({"grade": [], "before": []})


def first(frame: pd.DataFrame) -> pd.DataFrame:
    """The first visits."""
    return frame[frame["days_since_first_study"] == 0].reset_index(drop=True)


class AsGraded:
    """The grades as they are: abstentions are left out."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.all = frame
        self.frame = first(frame)

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

    def association(self, formula: str, *, scale: str) -> pd.DataFrame:
        return odds_ratios(self.frame, formula, scale=scale)

    def changes(self) -> pd.DataFrame:
        pairs = pairs_of(self.all)
        pairs = pairs[pairs["mc_before"].notna() & pairs["mc_after"].notna()]
        found = []
        for before, after in GRADES_BEFORE_AFTER:
            of = pairs[pairs["mc_before"] == before]
            share = clustered_share((of["mc_after"] == after).to_numpy(bool), of["patient_key"].to_numpy())
            found.append((share.value, share.low, share.high))
        return change_rows(found, pairs)


class FromImputed:
    """`cohort.imputed`."""

    def __init__(self, imputed: Imputed) -> None:
        self.all = imputed
        self.first = imputed.only(pd.Index(first(imputed.observed)["study_key"]))
        self.prevalence, self.association = self.first.prevalence, self.first.association

    def changes(self) -> pd.DataFrame:
        try:
            return self.all.changes()
        except UsageError:  # no level was read at two visits
            return NOTHING


class FromElsewhere(FromImputed):
    """`cohort.imputed(elsewhere=True)`: of first visits."""

    def changes(self) -> pd.DataFrame:
        return NOTHING


class ByReadings:
    """The difference estimator."""

    def __init__(self, frame: pd.DataFrame, readings: pd.DataFrame) -> None:
        self.all, self.readings = frame, readings
        self.frame = first(frame)

    def prevalence(self, by: Any, *, unit: str) -> pd.DataFrame:
        rows = []
        for group, part in groups(self.frame, by):
            part = part.reset_index(drop=True)
            if unit == "levels":
                found = corrected_rows(corrected_prevalence("prediction-powered", part, self.readings))
            elif (self.readings["unit"] == "patient").all():
                found = corrected_patients(part, self.readings)
            else:
                return NOTHING
            rows += [{**group, **row} for row in found]
        return pd.DataFrame(rows)

    def association(self, formula: str, *, scale: str) -> pd.DataFrame:
        return by_readings.association(self.frame, self.readings, formula, scale=scale)

    def changes(self) -> pd.DataFrame:
        return by_readings.changes(self.all, self.readings) if (self.readings["unit"] == "patient").all() else NOTHING


def with_old(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with whether the patient was 60 or older at the first visit."""
    age = frame["age_years"] - frame["days_since_first_study"] / 365.25
    return frame.assign(old=(age >= 60).astype(int))


METHODS = ("imputed", "readings", "elsewhere", "as graded")


def asker(method: str, frame: pd.DataFrame, readings: pd.DataFrame, seed: int) -> Any:
    """What answers by one of METHODS."""
    if method == "imputed":
        return FromImputed(impute(frame, readings, m=M, seed=seed, covariates=("trait", "idle")))
    if method == "elsewhere":
        return FromElsewhere(impute_elsewhere(first(frame), readings, m=M, seed=seed, covariates=("trait", "idle")))
    return ByReadings(frame, readings) if method == "readings" else AsGraded(with_flags(frame))


Runs = dict[str, dict[int, Numbers]]
TRUTH = "truth"


def true_numbers() -> Numbers:
    """What 30,000 patients show."""
    big = with_old(simulate(np.random.default_rng(1), 30_000, 2))
    return answers(AsGraded(with_grades(big, big["truth"].to_numpy())))


def kept(out: Path | None) -> Runs:
    """Method → run → its answers, of the lines of `out`."""
    found: Runs = defaultdict(dict)
    for line in out.read_text().splitlines() if out and out.exists() else ():
        one = json.loads(line)
        found[one["method"]][one["run"]] = one["found"]
    return found


def one_run(design: str, run: int, patients: int, n_read: int, method: str, *, differences_alone: bool) -> Numbers:
    """The answers of a method; none if it refuses."""
    rng = np.random.default_rng([7, run])
    frame = with_old(simulate(rng, patients, 2))
    readings = read_patients(run, frame, n_read) if design == "patients" else read(rng, frame, n_read)
    try:
        if method == "elsewhere":
            readings = read_elsewhere(np.random.default_rng([8, run]), n_read)
        return answers(asker(method, frame, readings, run), differences_alone=differences_alone)
    except UsageError as error:
        print(run, method, error)
        return {}


def fit_faster() -> None:
    """Fit the models of completed cohorts with benchmarks.fast_gee, which is first compared with the product's."""
    frame = first(simulate(np.random.default_rng(5), 400))
    for formula, scale in ((FORMULA, "odds ratio"), ("mc2 ~ weak", "difference")):
        check(with_grades(frame, frame["truth"].to_numpy()), formula, scale)
    imputed_grades.odds_ratios = fast  # type: ignore[attr-defined]
    globals()["odds_ratios"] = fast


def main(
    design: str, runs: range, patients: int, n_read: int, methods: list[str], out: Path | None, *,
    differences_alone: bool,
) -> None:  # fmt: skip
    fit_faster()
    done = kept(out)
    for run in runs:
        for method in methods if TRUTH in done else (TRUTH, *methods):
            if run in done[method]:
                continue
            done[method][run] = found = (
                true_numbers()
                if method == TRUTH
                else one_run(design, run, patients, n_read, method, differences_alone=differences_alone)
            )
            if out:
                with out.open("a") as file:
                    file.write(json.dumps({"method": method, "run": run, "found": found}) + "\n")
    print(f"{patients} patients with two visits; read: {n_read} {design}; {M} imputations")
    for line in lines(done):
        print(line)


def lines(done: Runs) -> list[str]:
    """A row a number: the truth, and of each method the share of intervals that hold it, the mean error and that of the
    median, and the ratio of the errors' spread to the intervals' (mean half length / 1.96)."""
    (truth,) = list(done.pop(TRUTH).values())[:1]
    text = [
        f"{'':24s} {'truth':>7s}"
        + "".join(f" | {m:>10s} ({len(of)}): covered   error  median" for m, of in done.items())
    ]
    for name, (value, _, _) in truth.items():
        line = f"{name:24s} {value:7.3f}"
        for of in done.values():
            rows = np.array([found[name] for found in of.values() if name in found])
            if not len(rows):
                line += f" | {'-':>43s}"
                continue
            middle, low, high = rows.T
            covered = np.mean((low <= value) & (value <= high))
            line += f" | {100 * covered:21.1f} % {np.mean(middle - value):+8.4f} {np.median(middle) - value:+8.4f}"
        text.append(line)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("design", nargs="?", default="levels", choices=("levels", "patients"))
    for name, default in {"runs": 40, "patients": 800, "read": 400, "first": 0}.items():
        parser.add_argument(name, nargs="?", type=int, default=default)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--differences", action="store_true")
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.runs)
    methods = given.methods.split(",")
    main(given.design, numbers, given.patients, given.read, methods, given.out, differences_alone=given.differences)
