"""The thresholds of the prediction sets at the risk that a user chose.

| `[grading] alpha` | thresholds                                                                     |
|-------------------|--------------------------------------------------------------------------------|
| 0 (default)       | `conformal_q` of the classifier's card, at the card's own `alpha`              |
| the card's alpha  | the same                                                                       |
| another           | `thresholds` of the card, at the largest alpha of its grid that is not above it |
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from modic.errors import WeightsError
from modic.grades import CLASSES

SLACK = 1e-9  # alphas are decimal fractions: 0.3 is 0.1 * 3


def quantiles_at(calibration: dict[str, Any], alpha: float = 0.0) -> np.ndarray:
    """float (3,): type k is in the prediction set if 1 - p_k <= q_k.

    Args:
        calibration: of the classifier's card.
        alpha: how often a set may miss the true type, 0-1; 0: as the card says.

    Raises WeightsError if the card has no usable thresholds for it.
    """
    if not alpha or abs(alpha - calibration.get("alpha", 0.0)) < SLACK:
        return _finite(calibration.get("conformal_q"), "three finite `conformal_q`")
    table = calibration.get("thresholds")
    if not isinstance(table, dict) or not table.get("alpha"):
        raise WeightsError(
            "the classifier's card has no `thresholds` by alpha: leave [grading] alpha out of cohort.toml"
        )
    grid = np.asarray(table["alpha"], float)
    below = np.flatnonzero(grid <= alpha + SLACK)
    if not len(below):
        raise WeightsError(
            f"[grading] alpha {alpha:g} is below {grid.min():g}, the smallest that the card has thresholds for"
        )
    return _finite(table["q"][int(below[np.argmax(grid[below])])], "three finite numbers in each row of `thresholds`")


def published_thresholds(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`alpha` and `q` of every alpha that the classifier's card has thresholds for, its own among them; for `runs`.

    Where the card has counted it (`results.risk_coverage`), also `wrong`: the share of its sure grades that were.
    """
    calibration = card.get("calibration", {})
    table = calibration.get("thresholds") or {"alpha": [], "q": []}
    rows = dict(zip(table["alpha"], table["q"], strict=True))
    if "alpha" in calibration:
        rows[calibration["alpha"]] = calibration["conformal_q"]
    counted = {row["alpha"]: row["wrong"] for row in card.get("results", {}).get("risk_coverage", [])}
    return [
        {"alpha": alpha, "q": list(rows[alpha])} | ({"wrong": counted[alpha]} if alpha in counted else {})
        for alpha in sorted(rows)
    ]


def _finite(values: Any, needed: str) -> np.ndarray:
    try:
        quantiles = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"the classifier's card has no usable `calibration`: {error}") from error
    if quantiles.shape != (CLASSES,) or not np.isfinite(quantiles).all():
        raise WeightsError(f"the classifier's card needs {needed}")
    return quantiles
