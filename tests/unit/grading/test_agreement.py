"""A sure grade never contradicts the measured marrow."""

import pytest

from modic.grades import AbstainedReason
from modic.grading.agreement import contradiction

NORMAL = {
    f"{contrast}_{reference}_{side}": 1.0
    for contrast in ("t1", "t2") for reference in ("ratio", "patient_ratio") for side in ("upper", "lower")
} | {"extent_upper": 0.4, "extent_lower": 0.0}  # fmt: skip


@pytest.mark.parametrize(
    ("mc", "marrow", "reason"),
    [
        (2, {}, None),
        (2, {"t1_ratio_upper": 1.4}, None),
        (2, {"t1_ratio_upper": 0.8}, "marrow.t1_dark"),
        (2, {"t1_patient_ratio_lower": 0.7}, "marrow.t1_dark"),
        (2, {"t1_ratio_upper": 0.8, "t1_ratio_lower": 1.3}, None),  # each endplate may have its own type
        (2, {"t1_ratio_upper": 0.8, "t1_patient_ratio_upper": 1.3}, None),  # the two references disagree
        (2, {"t1_ratio_upper": None, "t1_patient_ratio_upper": None}, None),
        (1, {"t1_ratio_lower": 1.3, "t2_ratio_lower": 1.5}, "marrow.t1_bright"),
        (1, {"t1_ratio_lower": 0.7, "t2_ratio_lower": 1.5}, None),
        (0, {"t1_ratio_lower": 0.7, "t2_ratio_lower": 1.5}, "marrow.like_type_1"),
        (0, {"t1_ratio_lower": 0.7, "t2_ratio_upper": 1.5}, None),  # not at one endplate
        (0, {"t1_ratio_lower": 1.3}, None),
        (0, {"extent_upper": 0.0}, None),
        (1, {"extent_upper": 0.0}, "marrow.no_band"),
        (2, {"extent_upper": 0.0}, "marrow.no_band"),
        (2, {"extent_upper": None}, "marrow.no_band"),
        (2, {"extent_upper": None, "extent_lower": None}, None),
        (2, {"extent_upper": 0.0, "t1_ratio_upper": 0.7}, "marrow.t1_dark"),
    ],
)
def test_each_row_of_the_table(mc: int, marrow: dict[str, float | None], reason: str | None) -> None:
    result = contradiction(mc, NORMAL | marrow)
    assert result == (reason and AbstainedReason(reason))


@pytest.mark.parametrize("mc", [0, 1, 2])
def test_what_is_not_measured_cannot_be_sure_to_be_a_change(mc: int) -> None:
    assert contradiction(mc, {}) is None
    assert contradiction(mc, dict.fromkeys(NORMAL)) == (None if mc == 0 else "marrow.not_measured")
