"""A sure grade never contradicts the measured marrow."""

from dataclasses import replace
from typing import Any

import pytest

from modic.grades import AbstainedReason
from modic.grading.agreement import agreed_with_stir, contradiction
from modic.grading.marrow import EndplateMarrow, MarrowMeasurements
from modic.records import Grade

ONE = {"t1": 1.0, "t2": 1.0}
BAND = EndplateMarrow(ONE, ONE, extent=0.4, depth_mm=6.0)
PLAIN = EndplateMarrow(ONE, ONE, extent=0.0, depth_mm=0.0)
NOTHING = EndplateMarrow({"t1": None, "t2": None}, {"t1": None, "t2": None})


def band(t1: float = 1.0, t2: float = 1.0, **more: Any) -> EndplateMarrow:
    """An endplate with unlike marrow, of these ratios to its own vertebra."""
    return replace(BAND, ratio={"t1": t1, "t2": t2}, **more)


def plain(t1: float = 1.0, t2: float = 1.0) -> EndplateMarrow:
    return replace(PLAIN, ratio={"t1": t1, "t2": t2})


@pytest.mark.parametrize(
    ("mc", "upper", "lower", "reason"),
    [
        (2, band(1.4), plain(), None),
        (2, band(0.8), plain(), "marrow.t1_dark"),
        (2, band(), replace(PLAIN, patient_ratio={"t1": 0.7, "t2": 1.0}), "marrow.t1_dark"),
        (2, band(0.8), plain(1.3), None),  # each endplate may have its own type
        (2, band(0.8, patient_ratio={"t1": 1.3, "t2": 1.0}), plain(), None),  # the two references disagree
        (2, plain(), plain(), "marrow.no_band"),
        (2, replace(BAND, extent=None), replace(BAND, extent=None), None),
        (2, plain(0.7), plain(), "marrow.t1_dark"),
        (1, band(1.3, 1.5), plain(), "marrow.t1_bright"),
        (1, band(0.7, 1.5), plain(), None),
        (1, plain(), plain(), "marrow.no_band"),
        (0, plain(0.7, 1.5), plain(), "marrow.like_type_1"),
        (0, plain(0.7), plain(1.0, 1.5), None),  # not at one endplate
        (0, band(1.3), plain(), None),
        (0, plain(), plain(), None),
        (0, NOTHING, NOTHING, None),
        (1, NOTHING, NOTHING, "marrow.not_measured"),
        (2, NOTHING, NOTHING, "marrow.not_measured"),
    ],
)
def test_each_row_of_the_table(mc: int, upper: EndplateMarrow, lower: EndplateMarrow, reason: str | None) -> None:
    result = contradiction(mc, 0.7, MarrowMeasurements("L4/L5", upper, lower))
    assert result == (reason and AbstainedReason(reason))


@pytest.mark.parametrize("mc", [1, 2])
def test_a_very_likely_type_stands_without_a_band_but_not_against_the_signal(mc: int) -> None:
    other = {1: 1.3, 2: 0.7}[mc]
    assert contradiction(mc, 0.74, MarrowMeasurements("L4/L5", PLAIN, PLAIN)) == "marrow.no_band"
    assert contradiction(mc, 0.76, MarrowMeasurements("L4/L5", PLAIN, PLAIN)) is None
    assert contradiction(mc, 0.99, MarrowMeasurements("L4/L5", plain(other), PLAIN)) is not None


@pytest.mark.parametrize(
    ("mc", "ratios", "reason"),
    [
        (1, (0.95, 1.4), None),
        (1, (0.95, 1.1), "marrow.stir_not_bright"),
        (1, (None, 1.1), "marrow.stir_not_bright"),
        (1, (None, None), "marrow.not_measured"),
        (1, (), "marrow.not_measured"),
        (0, (0.95, 1.1), None),
        (2, (None, None), None),
    ],
)
def test_type_1_of_a_grader_that_reads_stir_must_be_bright_on_it(mc: int, ratios: Any, reason: str | None) -> None:
    p = tuple(0.8 if k == mc else 0.1 for k in range(3))
    grade = agreed_with_stir(Grade("L4/L5", p, (mc,), mc, False, (p,)), ratios)
    assert grade.abstained_reason == (reason and AbstainedReason(reason))
    assert (grade.mc, grade.abstained) == ((mc, False) if reason is None else (None, True))
