"""Divide patients into folds: stratified by Modic type, all levels of a patient together, checked before any training.

Each repeat divides the patients anew (scikit-learn's StratifiedGroupKFold). In the same way one in `STOP_SHARE`
training patients of each fold is chosen to decide when to stop. The fold's own patients are predicted once, at the end.
"""

from dataclasses import dataclass

import numpy as np

from modic.errors import UsageError
from modic.experiment.design import STOP_SHARE

TRIES = 50  # random divisions of one repeat, until every part has every type


@dataclass(frozen=True, eq=False)
class Split:
    """The parts of n regions in each repeat and fold."""

    test_fold: np.ndarray  # int8 (repeats, n): the fold in which a region is predicted
    stop: np.ndarray  # bool (repeats, folds, n): whether a region decides when to stop

    def parts(self, repeat: int, fold: int) -> dict[str, np.ndarray]:
        """`train`, `stop`, `test` → indices of regions."""
        test, stop = self.test_fold[repeat] == fold, self.stop[repeat, fold]
        return {"train": np.flatnonzero(~test & ~stop), "stop": np.flatnonzero(stop), "test": np.flatnonzero(test)}


def split_patients(labels: np.ndarray, patients: np.ndarray, *, repeats: int, folds: int, seed: int) -> Split:
    """Divide n regions into folds by patient.

    Args:
        labels: int (n,), Modic types.
        patients: (n,), whose each region is.

    Raises:
        UsageError: a type has too few patients; the message says the cure.
    """
    check_classes(labels, patients, folds)
    tests, stops = [], []
    for repeat in range(repeats):
        test, stop = _split_once(labels, patients, folds, seed + 1000 * repeat, repeat)
        tests.append(test)
        stops.append(stop)
    return Split(np.stack(tests).astype(np.int8), np.stack(stops))


def check_classes(labels: np.ndarray, patients: np.ndarray, folds: int) -> None:
    """Raise UsageError if there is only one Modic type, or if a type has fewer patients than there are folds."""
    present = np.unique(labels).tolist()
    if len(present) < 2:
        only = f"MC{present[0]}" if present else "none"
        raise UsageError(f"the data hold discs of one Modic type only ({only}); label discs of another type")
    for k in present:
        n = len(np.unique(patients[labels == k]))
        if n < folds:
            cure = f"label more, leave MC{k} out (blank), or give --folds {n}" if n >= 2 else f"label more MC{k}"
            raise UsageError(f"MC{k}: discs of {n} patients only, fewer than the {folds} folds; {cure}")


def _split_once(
    labels: np.ndarray, patients: np.ndarray, folds: int, seed: int, repeat: int
) -> tuple[np.ndarray, np.ndarray]:
    """`test_fold` (n,) and `stop` (folds, n) of one repeat. Raises UsageError."""
    lacking = ""
    for attempt in range(TRIES):
        test = _assign(labels, patients, folds, seed + attempt)
        stop = np.zeros((folds, len(labels)), bool)
        for fold in range(folds):
            rest = np.flatnonzero(test != fold)
            inner = _assign(labels[rest], patients[rest], STOP_SHARE, seed + attempt)
            stop[fold, rest[inner == 0]] = True
        lacking = _lacking(Split(test[None], stop[None]), labels)
        if not lacking:
            return test, stop
    raise UsageError(
        f"repeat {repeat + 1}: {lacking}, however patients are divided ({TRIES} tries); label more patients of this "
        "type, leave the type out (blank), or give fewer --folds"
    )


def _assign(labels: np.ndarray, patients: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """int (n,): the fold of each region."""
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    assigned = np.zeros(len(labels), int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer of a type than folds: `_lacking` says it better
        for fold, (_, test) in enumerate(splitter.split(labels, labels, patients)):
            assigned[test] = fold
    return assigned


def _lacking(split: Split, labels: np.ndarray) -> str:
    """The first part that lacks a Modic type, in words; empty if there is none."""
    names = {"train": "to train on", "stop": "to decide when to stop", "test": "to be predicted"}
    for fold in range(split.stop.shape[1]):
        for part, rows in split.parts(0, fold).items():
            for k in np.unique(labels):
                if not (labels[rows] == k).any():
                    return f"fold {fold + 1} holds no disc of MC{k} {names[part]}"
    return ""
