"""Yield against error: fewer sure grades and fewer wrong ones with a smaller risk."""

import numpy as np
import pytest

from modic.errors import WeightsError
from modic.grading.classify import softmax
from modic.grading.thresholds import published_thresholds, quantiles_at
from modic.statistics.calibration import conformal_quantiles
from modic.statistics.risk_coverage import ALPHAS, held_out_curve, risk_coverage, sure_grades, threshold_table

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 3, 900)
LOGITS = 1.6 * np.eye(3)[LABELS] + RNG.normal(size=(900, 3))
P = softmax(LOGITS)
PATIENTS = [f"p{i // 6}" for i in range(900)]


def test_the_table_holds_the_conformal_quantiles() -> None:
    table = threshold_table(P, LABELS)
    assert len(table["alpha"]) == len(table["q"]) == len(ALPHAS)
    assert table["q"][9] == pytest.approx(conformal_quantiles(P, LABELS, alpha=0.1), abs=1e-6)
    assert (np.diff(np.array(table["q"]), axis=0) <= 0).all()


def test_a_smaller_risk_is_less_often_wrong_and_less_often_sure() -> None:
    rows = risk_coverage(P, LABELS, threshold_table(P, LABELS, (0.02, 0.1, 0.2)))
    sure, wrong = ([row[name] for row in rows] for name in ("sure", "wrong"))
    assert sure == sorted(sure) and wrong == sorted(wrong) and sure[0] < sure[2] - 0.2
    assert 0 < rows[1]["sure_mc1"] <= 1 and 0 <= rows[1]["wrong_mc1"] < 0.3


def test_shares_are_counts() -> None:
    p = np.array([[0.9, 0.05, 0.05], [0.6, 0.1, 0.3], [0.4, 0.2, 0.4], [0.05, 0.05, 0.9]])
    table = {"alpha": [0.1], "q": [[0.5, 0.5, 0.5]]}
    assert sure_grades(p, [0.5, 0.5, 0.5]).tolist() == [0, 0, -1, 2]
    row = risk_coverage(p, np.array([0, 2, 2, 2]), table)[0]
    assert (row["sure"], row["wrong"]) == (0.75, pytest.approx(1 / 3))
    assert (row["sure_mc2"], row["wrong_mc2"], row["wrong_mc0"]) == (pytest.approx(2 / 3), 0.5, 0)
    assert "sure_mc1" not in row
    assert risk_coverage(p[2:3], np.array([2]), table)[0]["wrong"] is None


def test_on_patients_not_calibrated_on_the_error_is_what_alpha_says() -> None:
    rows = held_out_curve(LOGITS, LABELS, PATIENTS, np.ones(900, bool), (0.05, 0.15), draws=20)
    for row in rows:
        assert row["sure"] * row["wrong"] <= row["alpha"] + 0.02


def test_the_user_chooses_the_risk() -> None:
    table = threshold_table(P, LABELS)
    card = {"alpha": 0.12, "conformal_q": [0.5, 0.4, 0.3], "thresholds": table}
    assert quantiles_at(card).tolist() == [0.5, 0.4, 0.3] == quantiles_at(card, 0.12).tolist()
    assert quantiles_at(card, 0.05).tolist() == table["q"][4]
    assert quantiles_at(card, 0.057).tolist() == table["q"][4]
    assert quantiles_at(card, 0.3).tolist() == table["q"][29]
    counted = {"risk_coverage": [{"alpha": 0.05, "wrong": 0.11}]}
    published = {row["alpha"]: row for row in published_thresholds({"calibration": card, "results": counted})}
    assert published[0.05] == {"alpha": 0.05, "q": table["q"][4], "wrong": 0.11}
    assert published[0.12] == {"alpha": 0.12, "q": [0.5, 0.4, 0.3]} and len(published) == len(ALPHAS)


@pytest.mark.parametrize(
    ("card", "alpha", "message"),
    [
        ({"conformal_q": [0.5, 0.5, 0.5], "alpha": 0.1}, 0.2, "no `thresholds` by alpha"),
        ({"conformal_q": [0.5, 0.5, 0.5], "thresholds": {"alpha": [0.1], "q": [[1, 1, 1]]}}, 0.01, "below 0.1"),
        ({"conformal_q": [0.5, 0.5]}, 0.0, "three finite"),
        ({"conformal_q": "none"}, 0.0, "no usable"),
        ({}, 0.0, "three finite|no usable"),
    ],
)
def test_a_card_without_thresholds_is_refused(card: dict, alpha: float, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        quantiles_at(card, alpha)
