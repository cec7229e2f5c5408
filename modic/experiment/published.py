"""The numbers that the paper prints (Cina et al., Brain and Spine 4 (2024) 102738), for comparison with a study's own.

In places they disagree with each other: the mean of the sensitivities with standardization is 0.82, not 0.80, and F1 is
higher than any average of per-class F1 that these sensitivities allow at 80/5/15 %. The paper gives no definition of
F1, no spread of single numbers over folds, and no share of levels that are named right.
"""

import numpy as np

from modic.grades import CLASSES, GRADES
from modic.train.evaluate_detector import PAPER_CONFIDENCE, PAPER_IOU

TABLE_1 = tuple(zip(PAPER_IOU, PAPER_CONFIDENCE, strict=True))
"""IoU and confidence of T12/L1 to L5/S1, from 152 test patients."""

CITATION = (
    "Cina A., Haschtmann D., Damopoulos D., Gerber N., Loibl M., Fekete T., Kleinstück F., Galbusera F. Comparing "
    "image normalization techniques in an end-to-end model for automated modic changes classification from MRI "
    "images. Brain and Spine 4 (2024) 102738."
)
PATIENTS = 912
SHARES = (0.80, 0.05, 0.15)
"""Shares of regions with MC0, MC1, MC2."""

_MEASURED = (
    ("sensitivity", "MC0"), ("sensitivity", "MC1"), ("sensitivity", "MC2"), ("balanced accuracy", "all"),
    ("F1", "not defined"),
)  # fmt: skip
RESULTS: dict[str, dict[tuple[str, str], float]] = {
    "none": dict(zip(_MEASURED, (0.76, 0.73, 0.65, 0.71, 0.83), strict=True)),
    "standardize": dict(zip(_MEASURED, (0.83, 0.85, 0.78, 0.80, 0.88), strict=True)),
    "clahe": dict(zip(_MEASURED, (0.82, 0.79, 0.71, 0.77, 0.86), strict=True)),
    "gamma": dict(zip(_MEASURED, (0.81, 0.78, 0.74, 0.77, 0.86), strict=True)),
}
"""Table 2: normalization → metric → mean over folds."""


def confusion(normalization: str) -> np.ndarray:
    """A confusion matrix (3 true, 3 graded), rows sum to 1, with the paper's sensitivities.

    The paper prints no other entries; the errors are divided equally between the other two types.
    """
    right = np.array([RESULTS[normalization]["sensitivity", name] for name in GRADES])
    return np.diag(right) + (1 - np.eye(CLASSES)) * (1 - right[:, None]) / (CLASSES - 1)
