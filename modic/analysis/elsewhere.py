"""Imputed grades where readers read none of this cohort: from how the grader errs elsewhere.

| step     | what                                                                                               |
|----------|----------------------------------------------------------------------------------------------------|
| errors   | P(answer | true grade, level, age, sex, field strength), answers with abstention as one: a logistic |
|          | regression on the readings of a validation elsewhere; or its confusion matrix, alike for all levels |
| grades   | P(true grade | level, age, sex, field strength, covariates, patient), a logistic regression with a   |
|          | random effect of the patient: the one under which this cohort's answers are most likely            |
| draw     | each patient's effect, then the grade of each level, given what the grader answered there          |

The `m` draws begin with readings, and patients of this cohort, that are drawn with replacement, so that both
uncertainties are in them. Logistic regression of an outcome that is misclassified with known errors: Magder and Hughes,
Am. J. Epidemiol. 146 (1997) 195-203; errors that depend on covariates: Lyles et al., Epidemiology 22 (2011) 589-597.

Assumes that the grader errs here as there, given true grade, level, age, sex and field strength; and, given these, that
its errors at two levels of a patient are independent. Errors of two visits are not: changes cannot be answered so.

What 95 % intervals covered with 400 readings elsewhere says README (tests/benchmarks/imputation.py --methods
elsewhere). With so few readings shares of patients with a change are about 1 % too high, levels with MC1 a fifth too
many, and differences between groups a tenth too small. That is what errors that are not well known do, not the model:
in a check of one day, with errors learnt from 36,000 levels, a cohort of 5,000 patients had 19.2 % of levels with MC2
(truth 19.7 %), 2.2 % with MC1 (2.0 %), and a difference of 10.4 % by a trait (10.1 %).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modic.analysis.corrected import answers, reading_weights
from modic.analysis.groups import with_flags
from modic.analysis.imputed import (
    STRENGTH,
    Imputed,
    draw_grades,
    encoded,
    field_classes,
    level_flags,
    standard,
    with_grades,
)
from modic.errors import UsageError
from modic.grades import CLASSES
from modic.statistics.prevalence import ABSTAINED, SMOOTH
from modic.text import counted

ANSWERS = CLASSES + 1
NODES = 5
"""Points at which the patient's random effect is integrated (Gauss and Hermite)."""
FEWEST = 100
"""Fewest readings elsewhere of which errors by level and covariate are learnt."""
FLAT = -1
"""In place of an answer: the level was not graded, so nothing is known of it but where it is, and whose."""
LEAST = 1e-6
"""Smallest probability of an answer that was given: one never seen in a validation is not impossible."""
ERROR_COVARIATES = ("age_years", "sex", "field_strength_t")
SPREAD = 0.3  # standard deviation of the prior on what a covariate of unit variance does to the errors' logits

Errors = Callable[[np.random.Generator], np.ndarray]
"""Draws P(answer | true grade), float (n, classes, answers), of each level of the cohort."""


def impute_elsewhere(
    frame: pd.DataFrame, known: pd.DataFrame | np.ndarray, *, m: int, seed: int = 0, covariates: Sequence[str] = ()
) -> Imputed:
    """Draw the grades of all rows of `frame` `m` times, with the grader's errors of a validation elsewhere.

    Args:
        frame: one row a level: patient_key, study_key, level, mc, age_years, sex, field_strength_t, the covariates, and
            `level_status` if some are not graded.
        known: readings elsewhere (truth, predicted, level and, if known, patient_key, weight and ERROR_COVARIATES), or
            a confusion matrix (classes, classes + 1) of effective numbers, true grades as rows.
        covariates: more columns of `frame` that tell of a level's true grade.

    Raises UsageError for too few readings, a true grade that was never read, or abstentions that the validation lacks.
    """
    frame = frame.reset_index(drop=True)
    given = answers(frame)
    if "level_status" in frame:
        given = np.where(frame["level_status"].eq("graded").to_numpy(bool, na_value=False), given, FLAT)
    if isinstance(known, np.ndarray):
        errors, n_read = _of_matrix(known, len(frame)), round(float(known.sum()))
    else:
        errors, n_read = _of_readings(known, frame), len(known)
    if (given == ABSTAINED).any() and not errors(np.random.default_rng(seed))[:, :, ABSTAINED].any():
        raise UsageError("the cohort has abstained levels, the validation elsewhere has none: count them there too")
    model = _Grades(_design(frame, covariates), given, frame["patient_key"].to_numpy())
    start = model.fit(errors(np.random.default_rng(seed)), np.ones(model.n_patients), model.zeros())
    frames = []
    for number in range(m):
        rng = np.random.default_rng([seed, number])
        theta = errors(rng)
        times = rng.multinomial(model.n_patients, np.full(model.n_patients, 1 / model.n_patients))
        frames.append(with_grades(frame, model.draw(rng, theta, model.fit(theta, times, start))))
    nothing = with_flags(frame.assign(mc=pd.array(np.full(len(frame), np.nan), "Float64").astype("Int8")))
    return Imputed(tuple(frames), n_read, nothing, method="elsewhere")


def _of_matrix(confusion: np.ndarray, n: int) -> Errors:
    table = np.zeros((CLASSES, ANSWERS))
    table[:, : confusion.shape[1]] = confusion
    _check_grades(table.sum(1))
    used = np.flatnonzero(table.sum(0) > 0)

    def draw(rng: np.random.Generator) -> np.ndarray:
        rows = np.zeros((CLASSES, ANSWERS))
        rows[:, used] = [rng.dirichlet(row[used] + SMOOTH / len(used)) for row in table]
        return np.broadcast_to(rows, (n, CLASSES, ANSWERS))

    return draw


def _check_grades(n: np.ndarray) -> None:
    if not (n > 0).all():
        raise UsageError(f"the validation elsewhere holds no reading of MC{int(np.argmin(n))}")


def _of_readings(readings: pd.DataFrame, frame: pd.DataFrame) -> Errors:
    """A logistic regression of the answer (`_ErrorModel`)."""
    readings = readings[readings["truth"].notna()].reset_index(drop=True)
    if len(readings) < FEWEST:
        raise UsageError(f"the validation elsewhere holds {counted(len(readings), 'reading')}; {FEWEST} are needed")
    truth, answer = readings["truth"].to_numpy(int), answers(readings, "predicted")
    _check_grades(np.bincount(truth, minlength=CLASSES))
    shared = [name for name in ("level", *ERROR_COVARIATES) if name in readings and name in frame]
    both = pd.concat(
        [part[shared].astype(dict.fromkeys(set(shared) & {"level", "sex"}, "string")) for part in (readings, frame)]
    )
    about = standard(_columns(both, shared)) if shared else np.zeros((len(both), 0))
    there, here = about[: len(readings)], about[len(readings) :]
    weight = reading_weights(readings)
    patients = readings["patient_key"].to_numpy() if "patient_key" in readings else np.arange(len(readings))
    names, of = np.unique(patients, return_inverse=True)

    def draw(rng: np.random.Generator) -> np.ndarray:
        times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))[of] * weight
        if (np.bincount(truth, times, CLASSES) == 0).any():  # a rare grade was not drawn: this draw keeps all readings
            times = weight
        return _error_model(there, truth, answer, _even(times, truth)).of_all(here)

    return draw


def _even(weight: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Weights whose sum, over the readings of each true grade, is their effective number (Kish)."""
    even = np.zeros(len(weight))
    for grade in range(CLASSES):
        of = (truth == grade) & (weight > 0)
        even[of] = weight[of] * weight[of].sum() / (weight[of] ** 2).sum()
    return even


@dataclass(frozen=True, slots=True)
class _ErrorModel:
    """log P(answer a | true grade t, covariates z) = base[t, a] + z by_answer[a] + (z right if a is t), normalized."""

    base: np.ndarray  # (classes, answers)
    by_answer: np.ndarray  # (covariates, answers): which answers covariates make more frequent
    right: np.ndarray  # (covariates,): how much more often they make the answer right

    def p(self, z: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """(n, answers)."""
        eta = self.base[truth] + z @ self.by_answer
        eta[np.arange(len(z)), truth] += z @ self.right
        eta = np.exp(eta - eta.max(1, keepdims=True))
        return eta / eta.sum(1, keepdims=True)

    def of_all(self, z: np.ndarray) -> np.ndarray:
        """(n, classes, answers)."""
        return np.stack([self.p(z, np.full(len(z), grade)) for grade in range(CLASSES)], 1)


def _error_model(z: np.ndarray, truth: np.ndarray, answer: np.ndarray, weight: np.ndarray) -> _ErrorModel:
    """The most likely one, with a normal prior (SPREAD) on what covariates do."""
    from scipy.optimize import minimize

    d, n, place = z.shape[1], len(z), np.arange(len(z))
    shape = (CLASSES * ANSWERS, d * ANSWERS, d)
    given = np.eye(ANSWERS)[answer]

    def model(flat: np.ndarray) -> _ErrorModel:
        base, by_answer, right = np.split(flat, np.cumsum(shape)[:-1])
        return _ErrorModel(base.reshape(CLASSES, ANSWERS), by_answer.reshape(d, ANSWERS), right)

    precision = np.repeat([1e-2, 1 / SPREAD**2, 1 / SPREAD**2], shape)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        p = model(flat).p(z, truth)
        height = (weight * np.log(np.maximum(p[place, answer], 1e-300))).sum() - (precision * flat**2).sum() / 2
        above = weight[:, None] * (given - p)
        base = np.zeros((CLASSES, ANSWERS))
        np.add.at(base, truth, above)
        slope = np.concatenate([base.ravel(), (z.T @ above).ravel(), z.T @ above[place, truth]]) - precision * flat
        return -height / n, -slope / n

    return model(minimize(objective, np.zeros(sum(shape)), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x)


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Levels and columns as numbers, as in modic.analysis.imputed."""
    columns = []
    for name in names:
        if name == "level":
            columns.append(level_flags(frame[name]))
        elif name == "field_strength_t":
            columns.append(field_classes(frame[name]))
        else:
            columns.append(encoded(frame[name]))
    return np.column_stack(columns).astype(float)


def _design(frame: pd.DataFrame, covariates: Sequence[str]) -> np.ndarray:
    names = [name for name in ("level", *ERROR_COVARIATES, *covariates) if name in frame]
    return np.column_stack([np.ones(len(frame)), standard(_columns(frame, names))])


class _Grades:
    """P(true grade | x, patient): coefficients (2, d + 1) of MC1 and MC2 against MC0, the last one of the patient's
    effect, which is standard normal."""

    def __init__(self, x: np.ndarray, given: np.ndarray, patients: np.ndarray) -> None:
        self.x, self.given = x, given
        names, self.of = np.unique(patients, return_inverse=True)
        self.n_patients = len(names)
        node, weight = np.polynomial.hermite_e.hermegauss(NODES)
        self.node, self.weight = node, np.log(weight / weight.sum())

    def zeros(self) -> np.ndarray:
        beta = np.zeros((CLASSES - 1, self.x.shape[1] + 1))
        beta[:, -1] = 0.5
        return beta

    def likelihood(self, theta: np.ndarray) -> np.ndarray:
        """(n, classes): P(the answer given | true grade)."""
        flat = self.given == FLAT
        found = np.take_along_axis(theta, np.where(flat, 0, self.given)[:, None, None], 2)[:, :, 0]
        return np.where(flat[:, None], 1.0, np.maximum(found, LEAST))

    def _prior(self, beta: np.ndarray) -> np.ndarray:
        """(n, nodes, classes)."""
        eta = (self.x @ beta[:, :-1].T)[:, None, :] + self.node[:, None] * beta[:, -1]
        eta = np.concatenate([np.zeros((*eta.shape[:2], 1)), eta], 2)
        eta -= eta.max(2, keepdims=True)
        p = np.exp(eta)
        p /= p.sum(2, keepdims=True)
        return p

    def posterior(
        self, likelihood: np.ndarray, beta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Prior and P(true grade | answer, node), both (n, nodes, classes); P(node | answers) and log likelihood of
        each patient."""
        prior = self._prior(beta)
        joint = prior * likelihood[:, None, :]
        seen = joint.sum(2)
        total = np.stack([np.bincount(self.of, column, self.n_patients) for column in np.log(seen).T], 1) + self.weight
        top = total.max(1, keepdims=True)
        node = np.exp(total - top)
        log = top[:, 0] + np.log(node.sum(1))
        return prior, joint / seen[:, :, None], node / node.sum(1, keepdims=True), log

    def fit(self, theta: np.ndarray, times: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The most likely coefficients (with a weak normal prior), each patient counted `times`."""
        from scipy.optimize import minimize

        likelihood = self.likelihood(theta)
        shrunk = np.full(start.shape, 1 / STRENGTH)
        shrunk[:, 0] = 0

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            beta = flat.reshape(start.shape)
            prior, grade, node, log = self.posterior(likelihood, beta)
            weight = (times[:, None] * node)[self.of]
            above = (grade - prior)[:, :, 1:] * weight[:, :, None]
            slope = np.column_stack([above.sum(1).T @ self.x, np.einsum("nqk,q->k", above, self.node)])
            height = (times * log).sum() - (shrunk * beta**2).sum() / 2
            scale = 1 / self.n_patients
            return -height * scale, (shrunk * beta - slope).ravel() * scale

        found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300, "gtol": 1e-4})
        beta: np.ndarray = found.x.reshape(start.shape)
        return beta

    def draw(self, rng: np.random.Generator, theta: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """A grade (n,) for each level."""
        _, grade, node, _ = self.posterior(self.likelihood(theta), beta)
        of_patient = (rng.random((self.n_patients, 1)) > node.cumsum(1)).sum(1).clip(0, NODES - 1)
        return draw_grades(rng, grade[np.arange(len(self.of)), of_patient[self.of]])
