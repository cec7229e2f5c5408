"""Multiple imputation of the true grades: what readers would have said of every level, drawn `m` times.

| step     | what                                                                                              |
|----------|---------------------------------------------------------------------------------------------------|
| learn    | P(reader's grade | what the grader said, level, age, sex, field strength, days since the first     |
|          | study, the patient's other levels, and the user's own covariates): a logistic regression on the   |
|          | levels that readers read; at later visits level, age and covariates may tell another thing        |
| draw     | a grade for every level, abstained, not found and unread ones too; levels of one study as alike as |
|          | readers find them (modic/analysis/correlated.py); read levels keep their reading; later visits    |
|          | after earlier ones, given the grade drawn there, if PAIRS levels were read at two visits          |
| analyse  | each of the `m` completed cohorts as if its grades were true                                      |
| pool     | Rubin's rules (Multiple Imputation for Nonresponse in Surveys, 1987)                              |

Measurement error as missing data: Cole, Chu & Greenland, Int. J. Epidemiol. 35 (2006) 1074-1081; in survey terms the
readings are a validation subsample. The uncertainty of the learnt model enters by learning it anew, for each of the
`m`, on the readings of patients that were drawn with replacement. Sampling weights of `modic review` weigh the
readings. What analyses ask later must be in the model (a covariate that is not pulls its odds ratio towards 1): so
the columns of `data` are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from modic.analysis.correlated import draw_correlated
from modic.analysis.groups import groups, typed, with_flags
from modic.analysis.simulated import said
from modic.analysis.standardized import hits_of, standardized_share, weights_of
from modic.analysis.visits import GRADES_BEFORE_AFTER, change_rows, in_time, pairs_of
from modic.errors import UsageError
from modic.grades import CLASSES, PARTS, P
from modic.records import LEVELS
from modic.statistics.intervals import Z, clustered_mean, wilson
from modic.statistics.odds_ratios import SCALES, odds_ratios
from modic.text import counted

FEWEST = 100
"""Fewest readings from which grades are imputed."""
PAIRS = 50
"""Fewest levels read at two visits from which changes are imputed."""
CLIP = 5.0  # of the logarithm of two probabilities' ratio
LATER = 0.15  # scale of what tells another thing at later visits, among features of unit variance
PERSISTS = 3.0  # scale of the grade at the visit before among features of unit variance, so that it is hardly shrunk
STRENGTH = 10.0  # scikit-learn's C, of features of unit variance
CATEGORIES = 12  # values of a text column that are told apart; rarer ones together


@dataclass(frozen=True)
class Imputed:
    """`m` completed cohorts: one row a level each, with the columns of `graded` and the imputed `mc`."""

    frames: tuple[pd.DataFrame, ...]
    n_read: int  # levels that readers read
    observed: pd.DataFrame  # the same rows before imputation: `mc` is what was read, else null
    n_pairs: int = 0  # levels that readers read at two visits of a patient
    method: str = "imputed"  # or elsewhere: what was read (modic.analysis.simulated)

    def prevalence(self, by: str | Sequence[str] = (), *, unit: str = "levels") -> pd.DataFrame:
        """Share of levels (or of patients with it at one level or more) with each grade, with 95 % intervals.

        One row a group and grade: share, low, high, n (levels or patients), n_patients, n_read.
        """
        if unit not in ("levels", "patients"):
            raise UsageError(f"unit is levels or patients, not {unit!r}")
        rows = []
        parts = [groups(frame, by) for frame in self.frames]
        for group, *same in zip(*parts, strict=True):
            members = [group[1], *(other[1] for other in same)]
            for grade, types in PARTS.items():
                found = [_share(part, types, unit) for part in members]
                n_patients = members[0]["patient_key"].nunique()
                n = len(members[0]) if unit == "levels" else n_patients
                shares, variances = np.array(found).T
                share, low, high = pool_shares(shares, variances, n)
                row = {"grade": grade, "share": share, "low": low, "high": high, "n": n, "n_patients": n_patients}
                rows.append({**group[0], **row, "n_read": self.n_read})
        return said(typed(pd.DataFrame(rows), self.frames[0], by), self.method)

    def association(self, formula: str, *, scale: str = "odds ratio") -> pd.DataFrame:
        """Odds ratios (or differences) of `formula` over the imputed grades (modic.statistics.odds_ratios).

        One row a term: odds_ratio, low, high (95 %), n_levels, n_patients, n_left_out (levels without a value
        of some term), n_read. Raises UsageError if a fit fails.
        """
        fits = [odds_ratios(frame, formula, scale=scale) for frame in self.frames]
        columns = [SCALES[scale], "low", "high"]
        values = np.array([fit[columns].to_numpy(float) for fit in fits])
        linear, back = (np.log(values), np.exp) if scale == "odds ratio" else (values, np.asarray)
        spread = ((linear[:, :, 2] - linear[:, :, 1]) / (2 * Z)) ** 2
        pooled = [pool(linear[:, i, 0], spread[:, i]) for i in range(linear.shape[1])]
        about = fits[0][["n_levels", "n_patients", "n_left_out"]].assign(n_read=self.n_read)
        found = pd.concat([fits[0][["term"]], pd.DataFrame(back(pooled), columns=columns), about], axis=1)
        return said(found, self.method)

    def changes(self) -> pd.DataFrame:
        """Changes from each patient's first to last graded study (`modic.analysis.visits.change_rows`), 95 % intervals.

        Take `cohort.imputed(visits="all")`. Raises UsageError if fewer than PAIRS levels were read at two visits: how
        alike the true grades of two visits are cannot be known then, and grades drawn apart would change too often.
        """
        if self.n_pairs < PAIRS:
            raise UsageError(
                f"readers read {counted(self.n_pairs, 'level')} at two visits; {PAIRS} are needed to impute changes:"
                " modic review --by patient --visits all draws patients with all visits"
            )
        pairs = [pairs_of(frame) for frame in self.frames]
        if pairs[0].empty:
            raise UsageError('no patient has two studies here; take cohort.imputed(visits="all")')
        found = []
        for before, after in GRADES_BEFORE_AFTER:
            parts = [both[both["mc_before"] == before].assign(mc=lambda of: of["mc_after"]) for both in pairs]
            found.append(_pooled_share([part for part in parts if len(part)], after))
        return said(change_rows(found, pairs[0], n_read=self.n_pairs), self.method)

    def standardized(
        self, population: pd.DataFrame, by: str | Sequence[str] = ("age_band", "sex"), *, unit: str = "levels"
    ) -> pd.DataFrame:
        """Shares directly standardized to a `population` (modic.analysis.standardized).

        One row a grade: share, low, high (95 %, Rubin's rules), n, n_patients, n_outside, n_read.
        """
        weights = weights_of(population, by)
        rows = []
        for grade, types in PARTS.items():
            found = [standardized_share(hits_of(frame, types, unit), weights, by) for frame in self.frames]
            share, low, high = pool_shares(
                np.array([one.value for one in found]), np.array([one.variance for one in found]), found[0].n
            )
            rows.append({"grade": grade, "share": share, "low": low, "high": high, **found[0].counts()})
        return said(pd.DataFrame(rows).assign(n_read=self.n_read), self.method)

    def estimate(self, fit: Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
        """Pool any analysis: `fit` gives estimates and their standard errors of one completed cohort."""
        found = [fit(frame) for frame in self.frames]
        values, errors = (np.array(part, float) for part in zip(*found, strict=True))
        return pd.DataFrame(
            [pool(values[:, i], errors[:, i] ** 2) for i in range(values.shape[1])], columns=["value", "low", "high"]
        )

    def only(self, wanted: pd.Index) -> "Imputed":
        """The same cohorts with the levels of these studies alone."""
        frames = [f[f["study_key"].isin(wanted)].reset_index(drop=True) for f in (self.observed, *self.frames)]
        return replace(self, frames=tuple(frames[1:]), observed=frames[0])

    def long(self) -> pd.DataFrame:
        """All cohorts below each other, numbered 1 to m in `imputation`, and `observed` as 0; `row` numbers the levels.

        The form of Stata's `mi import flong` and R's `mice::as.mids` (modic/analysis/mi_files.py writes files).
        """
        frames = [
            f.assign(imputation=i, row=np.arange(1, len(f) + 1)) for i, f in enumerate((self.observed, *self.frames))
        ]
        return pd.concat(frames, ignore_index=True)


def pool(values: np.ndarray, variances: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval by Rubin's rules, of m estimates and their variances."""
    mean, half = _pooled(values, variances)
    return mean, mean - half, mean + half


def pool_shares(shares: np.ndarray, variances: np.ndarray, n: int) -> tuple[float, float, float]:
    """The same of shares of n units: Wilson's interval of as many units as have the pooled variance, n at most."""
    mean, half = _pooled(shares, variances)
    mean = min(max(mean, 0.0), 1.0)
    units = mean * (1 - mean) / (half / Z) ** 2 if half > 0 else n
    units = min(max(units, 1.0), n)
    low, high = wilson(mean * units, units)
    return mean, min(low, mean), max(high, mean)


def _pooled(values: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """Mean, and half the length of the interval."""
    m, within, between = len(values), float(variances.mean()), float(values.var(ddof=1))
    total = within + (1 + 1 / m) * between
    freedom = (m - 1) * (1 + within / ((1 + 1 / m) * between)) ** 2 if between > 0 else np.inf
    return float(values.mean()), float(stdtrit(freedom, 0.975)) * float(np.sqrt(total))


def impute(
    frame: pd.DataFrame, readings: pd.DataFrame, *, m: int, seed: int = 0, covariates: Sequence[str] = ()
) -> Imputed:
    """Draw the grades of all rows of `frame` (one row a level, abstained and ungraded ones too) `m` times.

    Args:
        frame: patient_key, study_key, level, mc, p_mc0 …, age_years, sex, field_strength_t, and the covariates.
        readings: study_key, level, truth and, if known, weight. Levels that are not in `frame` are passed over.
        covariates: more columns of `frame` that tell of a level's true grade.

    Raises UsageError if there are under FEWEST readings of these levels, or if they are all of one grade.
    """
    frame = frame.reset_index(drop=True)
    read = _placed(readings, frame)
    n_read, truth = read["place"].nunique(), read["truth"].to_numpy(int)
    if n_read < FEWEST:
        raise UsageError(f"readers read {n_read} of these levels; {FEWEST} are needed to impute the others")
    if len(np.unique(truth)) < 2:
        raise UsageError("readers gave all levels the same grade; nothing can be learnt from that")
    visit, before = _visits(frame)
    x = features(frame, covariates, later=visit > 0)
    n_pairs = int(np.isin(before[np.unique(read["place"])], read["place"]).sum())
    studies = frame["study_key"].to_numpy()
    patients = frame["patient_key"].to_numpy()[read["place"]]
    names, weight = np.unique(patients), read["weight"].to_numpy(float)
    frames = []
    for number in range(m):
        rng = np.random.default_rng([seed, number])
        times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))[np.searchsorted(names, patients)]
        one = read.sample(frac=1, random_state=int(rng.integers(2**31))).drop_duplicates("place")  # one reader a level
        p = _learn(x[read["place"]], truth, weight * times, read["share"].to_numpy(float))(x)
        drawn = draw_correlated(rng, p, studies, one["place"].to_numpy(int), one["truth"].to_numpy(int))
        if n_pairs >= PAIRS:
            _draw_later(rng, drawn, x, visit, before, read.assign(weight=weight * times), one)
        frames.append(with_grades(frame, drawn))
    given = np.full(len(frame), np.nan)
    given[read["place"]] = read["truth"]
    observed = with_flags(frame.assign(mc=pd.array(given, "Float64").astype("Int8")))
    return Imputed(tuple(frames), n_read, observed, n_pairs)


def draw_grades(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """A grade (n,) for each row of probabilities (n, classes)."""
    drawn: np.ndarray = (rng.random((len(p), 1)) > p.cumsum(1)).sum(1).clip(0, CLASSES - 1)
    return drawn


def _visits(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Number of the visit (n,), 0 for a patient's first, and the row of the same level at the visit before, or -1."""
    if "days_since_first_study" not in frame:
        return np.zeros(len(frame), int), np.full(len(frame), -1)
    ordered = in_time(frame)
    of = ordered.assign(place=ordered.index, level=ordered["level"].astype("string")).groupby(["patient_key", "level"])
    visit, before = np.zeros(len(frame), int), np.full(len(frame), -1)
    visit[ordered.index] = of.cumcount()
    before[ordered.index] = of["place"].shift(fill_value=-1)
    return visit, before


def _draw_later(
    rng: np.random.Generator, drawn: np.ndarray, x: np.ndarray, visit: np.ndarray, before: np.ndarray,
    read: pd.DataFrame, one: pd.DataFrame,
) -> None:  # fmt: skip
    """Draw the grades of all visits but the first anew, each given what was drawn at the visit before, into `drawn`."""
    truth = dict(zip(one["place"], one["truth"], strict=True))
    paired = read[[before[place] in truth for place in read["place"]]]
    place = paired["place"].to_numpy(int)
    earlier = np.array([truth[before[i]] for i in place], int)
    known = np.column_stack([x[place], PERSISTS * np.eye(CLASSES)[earlier]])
    weight, share = (paired[name].to_numpy(float) for name in ("weight", "share"))
    learnt = _learn(known, paired["truth"].to_numpy(int), weight, share)
    later = np.flatnonzero(visit > 0)
    for number in range(1, visit.max() + 1):
        rows = later[visit[later] == number]
        ask = np.column_stack([x[rows], PERSISTS * np.eye(CLASSES)[drawn[before[rows]]]])
        drawn[rows] = draw_grades(rng, learnt(ask))
        kept = one[one["place"].isin(rows)]
        drawn[kept["place"]] = kept["truth"]


def with_grades(frame: pd.DataFrame, mc: np.ndarray) -> pd.DataFrame:
    """`frame` with these grades, and the columns that follow from them (`with_flags`)."""
    return with_flags(frame.assign(mc=pd.array(mc, "Int8")))


KEY = ("study_key", "level")


def _placed(readings: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """place (row of `frame`), truth, weight and share of each reading; readers of a level share it and its weight."""
    if not {*KEY, "truth"} <= set(readings.columns):
        raise UsageError("imputation needs readings of this cohort's levels: study_key, level, truth (modic validate)")
    place = frame[[*KEY]].astype("string").assign(place=np.arange(len(frame)))
    named = readings[readings["truth"].notna()].astype({"study_key": "string", "level": "string"})
    weight = named["weight"].astype(float) if "weight" in named else pd.Series(1.0, named.index)
    share = 1 / named.groupby([*KEY])["truth"].transform("size")
    return named.assign(weight=weight * share, share=share)[[*KEY, "truth", "weight", "share"]].merge(place)


def features(frame: pd.DataFrame, covariates: Sequence[str] = (), *, later: np.ndarray) -> np.ndarray:
    """float64 (n, features) of unit variance: what the grader said, where, of whom.

    And, LATER as large, so that they are shrunk more, what level, age and covariates tell more or less at `later` (n,)
    visits than at first ones: grades that came between two visits came to every level and age.
    """
    p = np.clip(frame[P].to_numpy(float, na_value=np.nan), 1e-3, 1)
    said = np.clip(np.log(p[:, 1:] / p[:, :1]), -CLIP, CLIP)
    graded = np.isfinite(said[:, 0])
    said = np.nan_to_num(said)
    of = frame.groupby("study_key").ngroup().to_numpy()
    total = np.column_stack([np.bincount(of, s) for s in said.T])[of]
    others = np.bincount(of, graded.astype(float))[of] - graded
    around = (total - said) / np.maximum(others, 1)[:, None]
    levels = level_flags(frame["level"])
    columns = [said, around, graded[:, None], levels, encoded(frame["mc"].isna().to_numpy(bool))]
    columns.append(_at_other_visits(frame, said, graded))
    of_patient = ("age_years", "sex", "days_since_first_study", *covariates)
    columns += [encoded(frame[name]) for name in of_patient if name in frame]
    if "field_strength_t" in frame:
        columns.append(field_classes(frame["field_strength_t"]))
    changing = [levels, *(encoded(frame[name]) for name in ("age_years", *covariates) if name in frame)]
    at_later = standard(np.column_stack(changing).astype(float)) * (later - later.mean())[:, None]
    return np.column_stack([standard(np.column_stack(columns).astype(float)), LATER * standard(at_later)])


def standard(x: np.ndarray) -> np.ndarray:
    """The columns that vary, with mean 0 and variance 1."""
    spread = x.std(0)
    found: np.ndarray = (x - x.mean(0))[:, spread > 0] / spread[spread > 0]
    return found


def _at_other_visits(frame: pd.DataFrame, said: np.ndarray, graded: np.ndarray) -> np.ndarray:
    """What the grader said of the same level at the patient's other visits (mean), and whether there is any."""
    of = frame.groupby(["patient_key", frame["level"].astype("string")]).ngroup().to_numpy()
    others = np.bincount(of, graded.astype(float))[of] - graded
    total = np.column_stack([np.bincount(of, s) for s in said.T])[of]
    return np.column_stack([(total - said) / np.maximum(others, 1)[:, None], others > 0])


def level_flags(levels: pd.Series) -> np.ndarray:
    """float (n, levels): 1 in the column of each one's level."""
    return np.array([[name == level for level in LEVELS] for name in levels.astype(str)], float)


def field_classes(strengths: pd.Series) -> np.ndarray:
    """Field strengths (tesla) as flags of low field, 1 to 2 T, and more."""
    return encoded(pd.cut(strengths.astype(float), [0, 1, 2, 20]).astype(str))


def encoded(column: Any) -> np.ndarray:
    """A column as numbers: itself, and whether it is missing; of text a flag for each of its commonest values."""
    values = pd.Series(column).reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        numbers = values.astype("Float64").to_numpy(float, na_value=np.nan)
        missing = ~np.isfinite(numbers)
        middle = np.median(numbers[~missing]) if (~missing).any() else 0.0
        return np.column_stack([np.where(missing, middle, numbers), missing])
    text = values.astype("string").fillna("")
    common = text.value_counts().index[:CATEGORIES]
    return np.column_stack([(text == value).to_numpy(bool) for value in common])


def _learn(
    x: np.ndarray, truth: np.ndarray, weight: np.ndarray, shares: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """From features (m, k) to P(true grade) (m, classes), learnt from readings of levels (n, k).

    `shares`: what part of its level's readings each is, so that a level counts once.
    """
    from sklearn.linear_model import LogisticRegression

    used = weight > 0
    known = np.unique(truth[used])
    model = LogisticRegression(C=STRENGTH, max_iter=500)
    if len(known) != 1:
        model.fit(x[used], truth[used], sample_weight=weight[used] * shares[used].sum() / weight[used].sum())

    def p(of: np.ndarray) -> np.ndarray:
        found = np.zeros((len(of), CLASSES))
        found[:, known] = 1.0 if len(known) == 1 else model.predict_proba(of)
        return found

    return p


def _pooled_share(parts: list[pd.DataFrame], grade: int) -> tuple[float, float, float]:
    """Share of levels with a grade, over the cohorts that have any; of fewer than two nothing is known."""
    if len(parts) < 2:
        return np.nan, 0.0, 1.0
    shares, variances = np.array([_share(part, (grade,), "levels") for part in parts]).T
    return pool_shares(shares, variances, round(np.mean([len(part) for part in parts])))


def _share(members: pd.DataFrame, types: tuple[int, ...], unit: str) -> tuple[float, float]:
    """Share and its variance, patients as clusters; 0 for a single patient, whose variance nobody knows."""
    units = hits_of(members, types, unit)
    mean, covariance = clustered_mean(units[["hit"]].to_numpy(), units["patient_key"].to_numpy())
    return float(mean[0]), float(np.nan_to_num(covariance[0, 0]))
