"""Which part of the data a patient belongs to: by a hash of the patient's name, so in every training the same."""

import hashlib

PARTS = ("train", "stop", "calibrate", "test")
"""The parts for the classifier (`part_of`)."""


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def split_of(patient: str) -> str:
    """The part for the detector: `train` (70 % of patients), `validation` (10 %) or `test` (20 %)."""
    digit = _hash(patient) % 10
    return "test" if digit < 2 else "validation" if digit == 2 else "train"


def part_of(patient: str) -> str:
    """The part for the classifier: `train` (50 %), `stop` (10 %), `calibrate` (20 %) or `test` (20 %).

    The test patients are those of the detector.
    """
    split = split_of(patient)
    if split == "train":
        return "calibrate" if _hash(f"calibrate {patient}") % 7 < 2 else "train"
    return "stop" if split == "validation" else "test"


def fold_of(patient: str, folds: int) -> int:
    """The fold of a patient in cross-validation, 0 to `folds` - 1."""
    return _hash(f"fold {patient}") % folds
