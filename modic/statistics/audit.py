"""Does a grader see Modic changes, or only how degenerate the disc is? Arrays in, numbers out.

Modic changes go with degenerate discs (prevalence ratios of 1.8 to 29 in the literature), so a grader that reads the
disc and never the marrow reaches a good ROC area. These numbers tell the two apart:

| number                      | a grader that reads the marrow | a pure degeneration detector |
|-----------------------------|--------------------------------|------------------------------|
| ROC AUC within one grade    | about the overall one          | .5                           |
| added to degeneration       | clearly above 0                | 0                            |
| Spearman of P(MC2) and the grade among MC0 | 0               | near 1                       |
| mean P(MC2) of MC0 by grade | level                          | rises with the grade         |
| false positives by grade    | level                          | rise with the grade          |

*Within one grade*: only discs of equal Pfirrmann grade are compared: the share of pairs (one MC2, one MC0, equal grade)
in which the MC2 disc has the higher score, over all such pairs of all grades. That is the stratified Mann-Whitney
statistic with strata weighted by their pairs; of the covariate-adjusted AUC (Janes & Pepe, Biometrika 96 (2009)
371-382) it differs by this weight only.

*Added to degeneration*: two nested logistic regressions of MC2 against MC0, on Pfirrmann grade, disc narrowing and
level, without and with the logit of the grader's probability; both predict patients that they were not fitted on
(folds by patient), and their ROC areas are compared. In the intervals patients are drawn again, regressions are not
fitted again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modic.records import LEVELS
from modic.statistics.metrics import NAN, Numbers, auc, fat_share

FOLDS = 5
PENALTY = 1.0  # scikit-learn's C of the nested regressions
FEWEST = 10  # discs of either type that the nested regressions need
WITHIN = ("ROC AUC within a grade", "MC0 vs MC2")
BASE, JOINED, ADDED = (
    ("ROC AUC of degeneration and level", "MC0 vs MC2"),
    ("ROC AUC with the grader added", "MC0 vs MC2"),
    ("added to degeneration and level", "MC0 vs MC2"),
)
SHORT_CUT = ("Spearman of P(MC2) and grade", "MC0")


@dataclass(frozen=True, eq=False)
class Audited:
    """Graded discs with what is known of their degeneration; all arrays have n rows."""

    p: np.ndarray  # float (n, 3): P(MC0), P(MC1), P(MC2)
    labels: np.ndarray  # int: Modic type 0, 1, 2
    pfirrmann: np.ndarray  # int 1-5
    narrowing: np.ndarray  # float: 1 narrowed, 0 not, NaN unknown
    levels: Sequence[str]
    patients: Sequence[str]
    sure: np.ndarray  # int: the grade that service would give, -1 if it abstains


def within_grade_auc(scores: np.ndarray, positive: np.ndarray, grades: np.ndarray) -> float:
    """Share of pairs of equal grade in which the positive one has the higher score; ties count half. NaN without pairs.

    Args:
        scores: float (n,).
        positive: bool (n,).
        grades: (n,), equal values are one stratum.
    """
    right = pairs = 0.0
    for grade in np.unique(grades):
        inside = grades == grade
        yes, no = scores[inside & positive], scores[inside & ~positive]
        n = len(yes) * len(no)
        if n:
            right += auc(np.concatenate([yes, no]), np.arange(len(yes) + len(no)) < len(yes)) * n
            pairs += n
    return right / pairs if pairs else NAN


def spearman(scores: np.ndarray, grades: np.ndarray) -> float:
    """Spearman's rank correlation; NaN if either side is constant or there are fewer than three."""
    if len(scores) < 3 or len(np.unique(scores)) < 2 or len(np.unique(grades)) < 2:
        return NAN
    from scipy.stats import spearmanr

    return float(spearmanr(scores, grades).statistic)


def nested_scores(audited: Audited) -> tuple[np.ndarray, np.ndarray] | None:
    """What the two nested regressions predict for discs of patients that they were not fitted on, float (n,) each.

    NaN for discs of type 1. None with fewer than `FEWEST` discs of type 0 or 2, or fewer than `FOLDS` patients.
    """
    either = np.flatnonzero(audited.labels != 1)
    fat = audited.labels[either] == 2
    patients = np.asarray(audited.patients)[either]
    if min(fat.sum(), (~fat).sum()) < FEWEST or len(np.unique(patients)) < FOLDS:
        return None
    base = degeneration_features(audited)[either]
    share = np.clip(fat_share(audited.p[either]), 1e-6, 1 - 1e-6)
    joined = np.column_stack([base, np.log(share / (1 - share))])
    scores = np.full((2, len(audited.labels)), NAN)
    for row, features in zip(scores, (base, joined), strict=True):
        row[either] = _out_of_fold(features, fat, patients)
    return scores[0], scores[1]


def degeneration_features(audited: Audited) -> np.ndarray:
    """float (n, features): Pfirrmann grades and levels, one column each, and narrowing (unknown: the mean)."""
    known = np.isfinite(audited.narrowing)
    mean = float(audited.narrowing[known].mean()) if known.any() else 0.0
    grades = [audited.pfirrmann == grade for grade in range(1, 6)]
    levels = [np.asarray(audited.levels) == level for level in LEVELS]
    return np.column_stack([*grades, *levels, np.where(known, audited.narrowing, mean)]).astype(float)


def _out_of_fold(features: np.ndarray, fat: np.ndarray, patients: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.full(len(fat), NAN)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(features, fat, patients):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=1000))
        scores[test] = model.fit(features[train], fat[train]).decision_function(features[test])
    return scores


def audit_metrics(audited: Audited, nested: tuple[np.ndarray, np.ndarray] | None, rows: np.ndarray) -> Numbers:
    """All numbers of the audit of some rows (indices, with repeats); `nested` of `nested_scores`.

    False positives are MC0 discs whose most probable type is 2; sure ones those that service would grade 2.
    """
    labels, grades, p = audited.labels[rows], audited.pfirrmann[rows], audited.p[rows]
    either, none, fat = labels != 1, labels == 0, labels == 2
    share, sure = fat_share(p), audited.sure[rows]
    numbers: Numbers = {
        ("ROC AUC", "MC0 vs MC2"): auc(share[either], fat[either]),
        WITHIN: within_grade_auc(share[either], fat[either], grades[either]),
        SHORT_CUT: spearman(p[none, 2], grades[none]),
    }
    if nested is not None:
        base, joined = (auc(scores[rows][either], fat[either]) for scores in nested)
        numbers |= {BASE: base, JOINED: joined, ADDED: joined - base}
    for grade in np.unique(audited.pfirrmann).tolist():
        of, which = none & (grades == grade), f"Pfirrmann {grade}"
        numbers["ROC AUC", which] = auc(share[either & (grades == grade)], fat[either & (grades == grade)])
        numbers["mean P(MC2) of MC0", which] = _mean(p[of, 2])
        numbers["MC0 called MC2", which] = _mean(p[of].argmax(1) == 2)
        numbers["MC0 surely called MC2", which] = _mean(sure[of] == 2)
    graded = sure >= 0
    numbers["levels surely graded", "all"] = _mean(graded)
    numbers["sure grades that are right", "all"] = _mean(sure[graded] == labels[graded])
    numbers["MC1 surely called MC2", "MC1"] = _mean(sure[labels == 1] == 2)
    numbers["MC1 surely called MC0", "MC1"] = _mean(sure[labels == 1] == 0)
    return numbers


def used(audited: Audited, key: tuple[str, str]) -> np.ndarray:
    """Which rows (bool mask) a number is about."""
    what, which = key
    labels = audited.labels
    if which.startswith("Pfirrmann"):
        of = audited.pfirrmann == int(which.split()[1])
        return of & ((labels != 1) if what == "ROC AUC" else (labels == 0))
    return {"MC0 vs MC2": labels != 1, "MC0": labels == 0, "MC1": labels == 1}.get(which, labels >= 0)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else NAN
