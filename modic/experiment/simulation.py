"""How often does each test find a difference between normalizations that do not differ?

Each simulation draws a new cohort with the paper's 912 patients, six levels and 80/5/15 % of the Modic types, and for
every region four "normalizations": noisy views of the same signal, all of the same quality, so that in truth none is
better. A linear classifier with equal priors is trained and tested on each view, in the same 10 × 5 folds by patient,
and the tests of the study are applied. Every difference that they find is an error; a test at 5 % should err in 5 % of
the simulations.

The classifier is one that is quick to train, since there are 50 trainings for each view and simulation. Features
without signal make it depend on its training patients, as networks do. Its balanced accuracy is about the paper's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from modic.errors import UsageError
from modic.experiment import significance
from modic.experiment.published import PATIENTS, SHARES
from modic.grades import CLASSES
from modic.tables.described import Columns

LEVELS, VIEWS = 6, 4
SIGNAL = 2.1  # distance between the types, in standard deviations of the noise
SHARED = 0.5  # share of the noise's variance that is the same in all views, since they are of one image
OF_PATIENT = 0.2  # share of the noise's variance that is the same in all levels of a patient

SIMULATIONS: Columns = {
    "simulation": ("int64", "number of the simulation, from 1"),
    "balanced_accuracy": ("float64", "mean over views and folds, 0-1"),
    **{name: ("float64", text) for name, text in (
        ("p_t", "paired t-test over folds, of the first two views"),
        ("p_wilcoxon", "Wilcoxon signed-rank test over folds, of the first two views"),
        ("p_corrected", "corrected resampled t-test, of the first two views"),
        ("p_beyond_rope", "posterior probability that one of the first two views is better by more than the ROPE"),
        ("p_bootstrap", "paired bootstrap of patients, of the first two views"),
        ("smallest_p_t", "smallest p of the paired t-test over all pairs of the four views"),
        ("smallest_p_wilcoxon", "smallest p of the Wilcoxon test over all pairs"),
        ("smallest_p_corrected", "smallest p of the corrected test over all pairs"),
        ("smallest_p_corrected_holm", "smallest p of the corrected test over all pairs, adjusted by Holm's method"),
    )},
}  # fmt: skip
"""One row a simulation."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """Options of `modic study simulate`; the defaults are the paper's design."""

    simulations: int = 500
    patients: int = PATIENTS
    repeats: int = 10
    folds: int = 5
    features: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.simulations < 1 or self.folds < 2 or self.repeats < 1 or self.features < 2:
            raise UsageError("give at least 1 simulation, 1 repeat, 2 folds and 2 features")
        if self.patients < 20 * self.folds:
            raise UsageError(f"{self.patients} patients: give at least {20 * self.folds}, that folds hold each type")


def simulate(options: Simulation, *, tell: Callable[[int], None] = lambda done: None) -> list[dict[str, Any]]:
    """Rows of `SIMULATIONS`, the same for the same seed; `tell` is called with the number of those that are done."""
    rows = []
    for number in range(options.simulations):
        rng = np.random.default_rng([options.seed, number])
        rows.append({"simulation": number + 1, **_one(options, rng)})
        tell(number + 1)
    return rows


def _one(options: Simulation, rng: np.random.Generator) -> dict[str, float]:
    labels, patients, views = draw_cohort(options, rng)
    accuracy = np.empty((VIEWS, options.repeats * options.folds))
    tables = np.zeros((VIEWS, options.patients, 3, 3))
    for repeat in range(options.repeats):
        fold_of = rng.permutation(np.arange(options.patients) % options.folds)[patients]
        for method, x in enumerate(views):
            graded = cross_validated(x, labels, fold_of, options.folds)
            np.add.at(tables[method], (patients, labels, graded), 1)
            for fold in range(options.folds):
                mine = fold_of == fold
                table = significance.patient_tables(labels[mine], graded[mine], np.zeros(mine.sum()))[0]
                numbers = significance.table_metrics(table)
                accuracy[method, repeat * options.folds + fold] = numbers["balanced accuracy", "all"]
    return {"balanced_accuracy": float(accuracy.mean()), **_tested(accuracy, tables, 1 / options.folds)}


def draw_cohort(options: Simulation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Labels (n,), patients (n,) and the views, float (n, features) each; the first two features carry signal."""
    n = options.patients * LEVELS
    patients = np.repeat(np.arange(options.patients), LEVELS)
    labels = rng.choice(CLASSES, size=n, p=SHARES)
    corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]]) * SIGNAL  # all types equally far apart
    common = np.sqrt(OF_PATIENT) * rng.standard_normal((options.patients, options.features))[patients]
    common = common + np.sqrt(SHARED - OF_PATIENT) * rng.standard_normal((n, options.features))
    common[:, :2] += corners[labels]
    noise = np.sqrt(1 - SHARED)
    return labels, patients, [common + noise * rng.standard_normal(common.shape) for _ in range(VIEWS)]


def cross_validated(x: np.ndarray, labels: np.ndarray, fold_of: np.ndarray, folds: int) -> np.ndarray:
    """Grades of each fold by linear discriminant analysis with equal priors, trained on the other folds; int (n,).

    Training needs only sums over the other folds, so each fold is summed up once.

    Args:
        x: features, float (n, features).
        labels: int (n,), Modic types.
        fold_of: int (n,), 0 to `folds` - 1.
    """
    groups = np.eye(CLASSES * folds)[CLASSES * fold_of + labels]  # (n, CLASSES * folds)
    counts, sums = groups.sum(0).reshape(folds, CLASSES), (groups.T @ x).reshape(folds, CLASSES, -1)
    squares = np.stack([x[fold_of == fold].T @ x[fold_of == fold] for fold in range(folds)])
    graded = np.empty(len(x), int)
    for fold in range(folds):
        n, total = counts.sum(0) - counts[fold], sums.sum(0) - sums[fold]
        means = total / n[:, None]
        within = (squares.sum(0) - squares[fold] - means.T @ total) / (n.sum() - CLASSES)
        weights = np.linalg.solve(within, means.T)  # (features, CLASSES)
        tested = fold_of == fold
        graded[tested] = (x[tested] @ weights - (means.T * weights).sum(0) / 2).argmax(1)
    return graded


def _tested(accuracy: np.ndarray, tables: np.ndarray, share: float) -> dict[str, float]:
    pairs = [accuracy[a] - accuracy[b] for a, b in combinations(range(VIEWS), 2)]
    t, wilcoxon = ([test(d) for d in pairs] for test in (significance.t_test, significance.wilcoxon))
    corrected = [significance.corrected_t_test(d, test_share=share) for d in pairs]
    worse, _, better = significance.bayes(pairs[0], test_share=share)
    drawn = significance.paired_bootstrap(tables[0], tables[1], draws=400)
    return {
        "p_t": t[0], "p_wilcoxon": wilcoxon[0], "p_corrected": corrected[0], "p_beyond_rope": max(worse, better),
        "p_bootstrap": drawn["balanced accuracy", "all"].p, "smallest_p_t": min(t),
        "smallest_p_wilcoxon": min(wilcoxon), "smallest_p_corrected": min(corrected),
        "smallest_p_corrected_holm": min(significance.holm(corrected)),
    }  # fmt: skip


INTRODUCTION = (
    "Share of simulated studies without any true difference in which a test at 5 % finds one: patients with six levels "
    "and 80/5/15 % of the types, folds by patient, four views of each region of the same quality, a linear classifier. "
    "One pair: the risk of a single comparison. Any of six pairs: the risk of a study with four normalizations."
)
TESTS = (
    ("paired t-test over folds", "p_t", "smallest_p_t"),
    ("Wilcoxon signed-rank test over folds", "p_wilcoxon", "smallest_p_wilcoxon"),
    ("corrected resampled t-test", "p_corrected", "smallest_p_corrected"),
    ("corrected, with Holm's adjustment", "", "smallest_p_corrected_holm"),
    ("paired bootstrap of patients", "p_bootstrap", ""),
    (f"Bayesian: {significance.SURE:.0%} sure of more than the ROPE", "p_beyond_rope", ""),
)
"""Name of the test, its column for one pair, its column for any of the six pairs."""


def false_findings(rows: list[dict[str, Any]], column: str) -> int:
    """The number of simulations in which a test found a difference although there is none."""
    values = np.array([row[column] for row in rows])
    return int((values > significance.SURE).sum() if column == "p_beyond_rope" else (values < significance.ALPHA).sum())
