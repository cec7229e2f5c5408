"""What may be changed in a grader to fit a site, from little to much, and how each is fitted.

With z the logits of the network and the marrow, x the level's features and T the temperature, probabilities are
softmax((z + shift + x · weights) / T):

| update                      | fitted                  |
|-----------------------------|-------------------------|
| intercept                   | shift                   |
| intercept and temperature   | shift, T                |
| last layer                  | shift, T, weights       |

Shift and temperature are bias-corrected temperature scaling (Alexandari et al., ICML 2020). All are fitted to the types
as if they were equally frequent, which is what the tables' probabilities mean (`p_mc0` …); how frequent they are at the
site is estimated afterwards (modic.statistics.prevalence.own_prevalence). Fits are maximum a posteriori: normal priors
around the shipped grader (`SHIFT_SD`, `LOG_TEMPERATURE_SD`, `WEIGHT_SDS`) let few readings change little.
"""

from dataclasses import dataclass, field, fields

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from modic.grades import CLASSES
from modic.grading.classify import softmax
from modic.grading.site_correction import corrections
from modic.statistics.metrics import alike

SHIFT_SD, LOG_TEMPERATURE_SD = 1.0, 0.5
WEIGHT_SDS = (0.25, 0.5, 1.0)
"""Standard deviations by which weights may change a disc's calibrated logits, tried in turn."""
FEWEST_MOVED = 5
"""Discs of a type from which on it is moved against the others."""
FEWEST_OF_TYPE = 10
"""Discs from which on a type counts as much as another; fewer count in proportion."""


@dataclass(frozen=True, eq=False)
class Discs:
    """Discs as the fit sees them, all arrays of n rows: a row for each type that a disc was given.

    `logits` float64 (n, classes), of network and marrow; `features` (n, k); `labels` int (n,); `patients` (n,), whose
    each disc is; `weights` float (n,), how many discs of the cohort each row stands for; `shares` float (n,), 0-1, the
    share of the disc's readers who gave it this type. Numbers of discs are sums of shares: however many read a disc,
    it counts once.
    """

    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    weights: np.ndarray
    shares: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, rows: np.ndarray) -> "Discs":
        """Those of a mask or of indices."""
        return Discs(*(getattr(self, part.name)[rows] for part in fields(self)))

    def count(self, of: np.ndarray | None = None) -> float:
        """Number of discs, or of those of a mask (n,)."""
        return float((self.shares if of is None else self.shares[of]).sum())

    @property
    def types(self) -> np.ndarray:
        """Number of discs of each type, float (classes,)."""
        return np.bincount(self.labels, weights=self.shares, minlength=CLASSES)


@dataclass(frozen=True, eq=False)
class Update:
    """A fitted update. `weights` (k, classes); no rows if the last layer stays."""

    temperature: float
    shift: np.ndarray = field(default_factory=lambda: np.zeros(CLASSES))
    weights: np.ndarray = field(default_factory=lambda: np.zeros((0, CLASSES)))

    def p(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes), float64."""
        return softmax((logits + corrections(features, self.shift, [*self.weights.T])) / self.temperature)


@dataclass(frozen=True, slots=True)
class Kind:
    """An update that may be fitted. `weight_sd`: 0 without weights."""

    name: str
    temperature: bool = False
    weight_sd: float = 0.0


SHIPPED = Kind("shipped")
INTERCEPT, SCALING = Kind("intercept"), Kind("intercept and temperature", True)
LAST_LAYERS = tuple(Kind("last layer", True, sd) for sd in WEIGHT_SDS)


def balanced(discs: Discs) -> np.ndarray:
    """(n,), sum the number of discs: weights under which types count alike, as far as enough of a type were read."""
    new = alike(discs.labels, discs.weights) * np.minimum(1.0, discs.types / FEWEST_OF_TYPE)[discs.labels]
    return new / new.sum() * discs.count()


def fit(kind: Kind, discs: Discs, temperature: float) -> Update:
    """The update of this kind that fits these discs best; `temperature`: of the shipped grader."""
    if kind == SHIPPED:
        return Update(temperature)
    v = balanced(discs)
    truth, moved = np.eye(CLASSES)[discs.labels], _moved(discs.types)
    basis, back = _basis(discs.features) if kind.weight_sd else (np.zeros((len(discs), 0)), np.zeros((0, 0)))
    width = basis.shape[1]

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        shift, log_t, w = moved @ x[:CLASSES], x[CLASSES], x[CLASSES + 1 :].reshape(width, CLASSES) @ moved
        scale = np.exp(-log_t) / temperature
        changed = discs.logits + shift
        logs = log_softmax(changed * scale + basis @ w, axis=-1)  # the prior of w holds at any temperature
        error = v[:, None] * (np.exp(logs) - truth)
        value = -(v * (logs * truth).sum(1)).sum()
        value += (shift**2).sum() / 2 / SHIFT_SD**2 + log_t**2 / 2 / LOG_TEMPERATURE_SD**2
        slope_shift = moved @ (scale * error.sum(0) + shift / SHIFT_SD**2)
        slope_t = -(error * changed).sum() * scale + log_t / LOG_TEMPERATURE_SD**2
        slope_w = basis.T @ error
        if width:
            value += (w**2).sum() / 2 / kind.weight_sd**2
            slope_w = (slope_w + w / kind.weight_sd**2) @ moved
        return value, np.concatenate([slope_shift, [slope_t if kind.temperature else 0.0], slope_w.ravel()])

    fitted = minimize(loss, np.zeros(CLASSES + 1 + width * CLASSES), jac=True, method="L-BFGS-B")
    x = fitted.x
    new = float(temperature * np.exp(x[CLASSES]))
    weights = new * (back @ x[CLASSES + 1 :].reshape(width, CLASSES) @ moved) if width else np.zeros((0, CLASSES))
    return Update(new, moved @ x[:CLASSES], weights)


def _moved(types: np.ndarray) -> np.ndarray:
    """(classes, classes) projection on what readings can tell: types of `FEWEST_MOVED` discs, against each other.

    Whether a type that was not read is over-graded or only rare nobody knows: it stays where it is.
    """
    read = types >= FEWEST_MOVED
    return np.diag(read.astype(float)) - np.outer(read, read) / max(read.sum(), 1)


def _basis(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, k) → coordinates (n, r) that span them, of mean square 1 a disc, and (k, r) back to weights.

    With a normal prior on their coefficients this is ridge regression on all features, at the cost of n.
    """
    values = features.astype(np.float64)
    left, size, right = np.linalg.svd(values, full_matrices=False)
    kept = size > 1e-8 * max(size.max(), 1e-300)
    scale = np.sqrt((values**2).sum(1).mean())
    return left[:, kept] * size[kept] / scale, right[kept].T / scale


def losses(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log loss of each disc, (n,)."""
    return -np.log(np.clip(p[np.arange(len(labels)), labels], 1e-12, 1))
