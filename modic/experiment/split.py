"""Which patients are in which fold: stratified by type, all levels of a patient together, checked before any training.

Each repeat deals the patients anew (scikit-learn's StratifiedGroupKFold). Of the training patients of each fold, one in
`STOP_SHARE` decides when to stop, dealt the same way; the fold's own patients are looked at once, at the end.
"""

from dataclasses import dataclass

import numpy as np

from modic.errors import UsageError
from modic.experiment.design import STOP_SHARE

TRIES = 50  # deals of one repeat, until every part has every class


@dataclass(frozen=True, eq=False)
class Dealt:
    """Parts of the regions (n,) in each repeat and fold."""

    test_fold: np.ndarray  # int8 (repeats, n): the fold in which a region is predicted
    stop: np.ndarray  # bool (repeats, folds, n): regions that decide when to stop

    def parts(self, repeat: int, fold: int) -> dict[str, np.ndarray]:
        """`train`, `stop`, `test`: indices of regions."""
        test, stop = self.test_fold[repeat] == fold, self.stop[repeat, fold]
        return {"train": np.flatnonzero(~test & ~stop), "stop": np.flatnonzero(stop), "test": np.flatnonzero(test)}


def deal(labels: np.ndarray, patients: np.ndarray, *, repeats: int, folds: int, seed: int) -> Dealt:
    """Deal regions (n,) with `labels` of `patients`. Raises UsageError where it cannot be done, with the cure."""
    check_classes(labels, patients, folds)
    tests, stops = [], []
    for repeat in range(repeats):
        test, stop = _deal_once(labels, patients, folds, seed + 1000 * repeat, repeat)
        tests.append(test)
        stops.append(stop)
    return Dealt(np.stack(tests).astype(np.int8), np.stack(stops))


def check_classes(labels: np.ndarray, patients: np.ndarray, folds: int) -> None:
    """Raise UsageError unless at least two classes have a patient for each fold."""
    present = np.unique(labels).tolist()
    if len(present) < 2:
        only = f"MC{present[0]}" if present else "none"
        raise UsageError(f"the data hold discs of one Modic type only ({only}); label discs of another type")
    for k in present:
        n = len(np.unique(patients[labels == k]))
        if n < folds:
            cure = f"label more, leave MC{k} out (blank), or give --folds {n}" if n >= 2 else f"label more MC{k}"
            raise UsageError(f"MC{k}: discs of {n} patients only, fewer than the {folds} folds; {cure}")


def _deal_once(
    labels: np.ndarray, patients: np.ndarray, folds: int, seed: int, repeat: int
) -> tuple[np.ndarray, np.ndarray]:
    lacking = ""
    for attempt in range(TRIES):
        test = _assign(labels, patients, folds, seed + attempt)
        stop = np.zeros((folds, len(labels)), bool)
        for fold in range(folds):
            rest = np.flatnonzero(test != fold)
            inner = _assign(labels[rest], patients[rest], STOP_SHARE, seed + attempt)
            stop[fold, rest[inner == 0]] = True
        lacking = _lacking(Dealt(test[None], stop[None]), labels)
        if not lacking:
            return test, stop
    raise UsageError(
        f"repeat {repeat + 1}: {lacking}, however patients are dealt ({TRIES} tries); label more patients of this "
        "type, leave the type out (blank), or give fewer --folds"
    )


def _assign(labels: np.ndarray, patients: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """int (n,): the fold of each region."""
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold

    dealt = np.zeros(len(labels), int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer of a class than folds: `_lacking` says it better
        for fold, (_, test) in enumerate(splitter.split(labels, labels, patients)):
            dealt[test] = fold
    return dealt


def _lacking(dealt: Dealt, labels: np.ndarray) -> str:
    """The first part without a class, in words; empty where there is none."""
    names = {"train": "to train on", "stop": "to decide when to stop", "test": "to be predicted"}
    for fold in range(dealt.stop.shape[1]):
        for part, rows in dealt.parts(0, fold).items():
            for k in np.unique(labels):
                if not (labels[rows] == k).any():
                    return f"fold {fold + 1} holds no disc of MC{k} {names[part]}"
    return ""
