"""Statistics of grades and levels, against numbers worked out by hand and properties that hold for any data."""

import math

import numpy as np
import pytest

from modic.statistics.intervals import wilson
from modic.statistics.metric_tables import with_intervals
from modic.statistics.metrics import (
    OEDEMA_FOUND,
    auc_interval,
    calibration_error,
    counted,
    grade_metrics,
    intervals,
    kappa,
    level_metrics,
    numbering_metrics,
    oedema_found,
    probability_metrics,
    reliability,
    set_metrics,
)

LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
GRADED = np.array([0, 0, 0, 2, 1, 0, 2, 2, 2, 0])


def sure(graded: np.ndarray, p: float = 0.8) -> np.ndarray:
    """Probability `p` for the graded class, the rest shared."""
    return np.where(np.arange(3) == graded[:, None], p, (1 - p) / 2)


def test_grades_against_numbers_worked_out_by_hand() -> None:
    numbers = grade_metrics(sure(GRADED), LABELS)
    assert numbers["sensitivity", "MC0"] == 3 / 4
    assert numbers["sensitivity", "MC1"] == 1 / 2
    assert numbers["specificity", "MC0"] == 4 / 6
    assert numbers["specificity", "MC1"] == 1
    assert numbers["balanced accuracy", "all"] == pytest.approx((0.75 + 0.5 + 0.75) / 3)
    f0, f1, f2 = 2 * 3 / (4 + 5), 2 * 1 / (2 + 1), 2 * 3 / (4 + 4)
    assert numbers["F1", "MC0"] == pytest.approx(f0)
    assert numbers["F1", "macro"] == pytest.approx((f0 + f1 + f2) / 3)
    assert numbers["F1", "weighted"] == pytest.approx(0.4 * f0 + 0.2 * f1 + 0.4 * f2)
    chance = (4 * 5 + 2 * 1 + 4 * 4) / 100
    assert numbers["Cohen's kappa", "all"] == pytest.approx((0.7 - chance) / (1 - chance))


def test_oedema_is_found_at_the_specificity_that_the_discs_without_it_allow() -> None:
    labels = np.array([0] * 20 + [1] * 10 + [2] * 5)
    share = np.concatenate([np.linspace(0, 0.5, 20), np.linspace(0.41, 0.95, 10), np.full(5, 0.9)])
    p = np.column_stack([0.8 * (1 - share), 0.8 * share, np.full(35, 0.2)])
    # three of twenty may be above it: the fourth highest of type 0 is at 0.421, which one of type 1 lies below
    assert oedema_found(p, labels)[OEDEMA_FOUND] == pytest.approx(9 / 10)
    assert math.isnan(oedema_found(p[:20], labels[:20])[OEDEMA_FOUND])
    assert counted(OEDEMA_FOUND, labels).sum() == 30


def test_weighted_kappa_forgives_near_misses_and_one_class_alone_has_none() -> None:
    near, far = np.array([0, 0, 1, 1, 2, 1]), np.array([0, 0, 1, 1, 2, 0])
    truth = np.array([0, 0, 1, 1, 2, 2])
    assert kappa(truth, near, weights="linear") > kappa(truth, far, weights="linear")
    assert math.isnan(kappa(np.zeros(3, int), np.zeros(3, int)))


def test_auc_is_of_ranks_and_missing_where_one_side_is() -> None:
    p = np.array([[0.6, 0.2, 0.2], [0.5, 0.0, 0.5], [0.1, 0.8, 0.1], [0.4, 0.0, 0.6], [0.2, 0.3, 0.5]])
    numbers = grade_metrics(p, np.array([0, 0, 1, 2, 2]))
    assert numbers["ROC AUC", "MC0 vs MC2"] == 1
    assert numbers["ROC AUC", "MC1 vs rest"] == 1
    assert numbers["ROC AUC", "MC2 vs rest"] == pytest.approx(5.5 / 6)
    without = grade_metrics(p[:2], np.array([0, 0]))
    for key in (("ROC AUC", "MC0 vs MC2"), ("sensitivity", "MC1"), ("F1", "MC2"), ("specificity", "MC0")):
        assert math.isnan(without[key]), key
    assert without["balanced accuracy", "all"] == 1  # a tie goes to the first class


def test_calibration_error_is_the_gap_between_prediction_and_outcome() -> None:
    predicted = np.array([0.85] * 10 + [0.25] * 10)
    happened = np.array([1] * 6 + [0] * 4 + [1] * 4 + [0] * 6)
    assert calibration_error(predicted, happened) == pytest.approx((0.25 + 0.15) / 2)
    assert reliability(predicted, happened) == [pytest.approx((0.25, 0.4, 10)), pytest.approx((0.85, 0.6, 10))]
    assert calibration_error(predicted, happened, np.repeat([1, 3], 10)) == pytest.approx((0.25 + 3 * 0.15) / 4)
    assert calibration_error(np.array([1.0, 1.0]), np.array([1, 1])) == 0


def test_probabilities_that_are_honest_have_a_small_calibration_error_and_others_not() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet((1, 1, 1), 5000)
    labels = np.array([rng.choice(3, p=row) for row in p])
    sharp = p**3 / (p**3).sum(1, keepdims=True)
    honest, overconfident = probability_metrics(p, labels), probability_metrics(sharp, labels)
    for which in ("all", "MC0", "MC1", "MC2", "classes weighted equally"):
        assert honest["calibration error", which] < 0.03 < 0.05 < overconfident["calibration error", which]
        assert honest["Brier", which] < overconfident["Brier", which]
    assert ("Brier", "MC1") not in probability_metrics(p[labels != 1], labels[labels != 1])


def test_brier_of_one_disc() -> None:
    numbers = probability_metrics(np.array([[0.7, 0.2, 0.1]]), np.array([1]))
    assert numbers["Brier", "all"] == pytest.approx(0.7**2 + 0.8**2 + 0.1**2)
    assert numbers["Brier", "MC1"] == pytest.approx(0.8**2)


def test_coverage_and_abstention_by_class() -> None:
    p = np.array([[0.9, 0.05, 0.05], [0.5, 0.1, 0.4], [0.5, 0.1, 0.4], [0.1, 0.1, 0.8]])
    numbers = set_metrics(p, np.array([0, 0, 2, 0]), [0.5, 0.5, 0.6])
    assert numbers["coverage", "all"] == 3 / 4
    assert numbers["coverage", "MC0"] == 2 / 3
    assert numbers["abstained", "MC0"] == pytest.approx(1 / 3)
    assert numbers["abstained", "MC2"] == 1
    assert numbers["accuracy where not abstained", "all"] == 1 / 2
    assert math.isnan(numbers["coverage", "MC1"])


def test_each_metric_says_on_how_many_discs_it_stands() -> None:
    assert counted(("sensitivity", "MC1"), LABELS).sum() == 2
    assert counted(("specificity", "MC1"), LABELS).sum() == 8
    assert counted(("ROC AUC", "MC0 vs MC2"), LABELS).sum() == 8
    assert counted(("ROC AUC", "MC1 vs rest"), LABELS).sum() == 10
    assert counted(("F1", "macro"), LABELS).sum() == 10


def test_levels_as_in_the_papers_table() -> None:
    numbers = level_metrics(np.array([5, 5, 5, 0]), np.array([0.9, 0.3, 0.0, 0.7]), np.array([1.0, 0.8, 0.0, 0.5]))
    assert numbers["IoU", "L5/S1"] == pytest.approx(0.6)  # of those numbers
    assert numbers["confidence", "L5/S1"] == pytest.approx(0.9)
    assert numbers["named right", "L5/S1"] == pytest.approx(1 / 3)  # of those that are there
    assert numbers["named right", "all"] == 0.5
    assert math.isnan(numbers["IoU", "L1/L2"])


def test_wrong_names_are_counted_by_whether_they_were_flagged() -> None:
    right, flagged = np.array([True, True, False, False, False]), np.array([False, True, True, True, False])
    numbers = numbering_metrics(right, flagged, "slices")
    assert numbers["all names right", "slices"] == 0.4
    assert numbers["flagged uncertain", "slices"] == 0.6
    assert numbers["wrong ones flagged", "slices"] == pytest.approx(2 / 3)
    assert numbers["wrong and not flagged", "slices"] == 0.2
    assert math.isnan(numbering_metrics(right[:2], flagged[:2], "slices")["wrong ones flagged", "slices"])


def test_intervals_draw_patients_and_not_discs() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in range(50) for _ in range(6)]
    alike = np.repeat(rng.normal(0, 1, 50), 6)  # six equal discs a patient count as one

    def mean(rows: np.ndarray) -> dict[str, float]:
        return {"mean": float(alike[rows].mean()), "never": float("nan")}

    numbers = intervals(mean, patients)
    low, high = numbers["mean"]
    assert high - low == pytest.approx(2 * 1.96 / 50**0.5, rel=0.25)
    assert "never" not in numbers
    assert numbers == intervals(mean, patients) != intervals(mean, patients, seed=1)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(100):
        patients = np.repeat(np.arange(40), 3)
        values = np.repeat(rng.normal(0, 1, 40), 3) + rng.normal(0, 1, 120)
        low, high = intervals(lambda r, v=values: {"m": float(v[r].mean())}, list(map(str, patients)), draws=200)["m"]
        held += low <= 0 <= high
    assert 86 <= held <= 100


def test_the_interval_of_the_auc_is_of_the_auc() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 2], 200)
    p = np.clip(0.3 + 0.2 * (labels == 2) + rng.normal(0, 0.15, 200), 0.01, 0.9)
    both = np.stack([1 - p, np.zeros(200), p], 1)
    low, high = auc_interval(both, labels, [str(i // 5) for i in range(200)]) or (0, 0)
    assert 0.7 < low < grade_metrics(both, labels)["ROC AUC", "MC0 vs MC2"] < high < 0.95
    assert auc_interval(both, np.zeros(200, int), ["a"] * 200) is None


def test_three_of_three_have_an_interval_and_a_perfect_area_has_none() -> None:
    """Whatever patients are drawn, all are right: the draws say nothing about other patients."""
    numbers = {("sensitivity", "MC1"): 1.0, ("abstained", "MC1"): 0.0, ("ROC AUC", "MC0 vs MC2"): 1.0}
    rows = with_intervals(lambda _: numbers, ["a", "a", "b", "c"], lambda _: np.ones(4, bool), group="all")
    assert [(row["low"], row["high"]) for row in rows] == [wilson(3, 3), wilson(0, 3), (None, None)]
