"""Fits of a site's update, with the truth known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from made_readings import TEMPERATURE, discs
from modic.adapt.update import INTERCEPT, SCALING, SHIPPED, Kind, balanced, fit, losses
from modic.grading.site_correction import SiteCorrection
from modic.statistics.prevalence import own_prevalence


def balanced_loss(p: np.ndarray, labels: np.ndarray) -> float:
    each = losses(p, labels)
    return float(np.mean([each[labels == k].mean() for k in range(3)]))


def test_the_shipped_grader_is_a_temperature_alone() -> None:
    some = discs(50)
    assert fit(SHIPPED, some, TEMPERATURE).p(some.logits, some.features) == pytest.approx(
        softmax(some.logits / TEMPERATURE, axis=1)
    )


def test_a_shift_and_a_temperature_are_found() -> None:
    update = fit(SCALING, discs(4000, shift=(0.4, -1.0, 0.6), scale=1.5), TEMPERATURE)
    assert update.shift == pytest.approx([-0.4, 1.0, -0.6], abs=0.15)
    assert update.temperature == pytest.approx(1.5 * TEMPERATURE, rel=0.1)


def test_few_readings_change_little() -> None:
    shift = (0.8, -2.0, 1.2)
    few, many = (np.abs(fit(INTERCEPT, discs(n, shift=shift), TEMPERATURE).shift).max() for n in (6, 2000))
    assert few < 0.7 * many


def test_how_frequent_the_types_are_moves_nothing() -> None:
    for types in ((0.8, 0.1, 0.1), (0.2, 0.2, 0.6)):
        assert fit(INTERCEPT, discs(4000, types=types), TEMPERATURE).shift == pytest.approx([0, 0, 0], abs=0.12)


def test_a_type_that_was_not_read_stays_where_it_is() -> None:
    some = discs(400, shift=(0.5, 0.5, -1.0), types=(0.6, 0.0, 0.4), told=1.0)
    update = fit(Kind("last layer", True, 0.5), some, TEMPERATURE)
    assert update.shift[1] == 0 and not update.weights[:, 1].any()
    assert update.shift.sum() == pytest.approx(0, abs=1e-9) and update.shift[2] > 0.4


def test_a_last_layer_uses_what_features_tell_and_needs_no_more_than_n_numbers() -> None:
    train, test = discs(200, told=1.5, width=500), discs(3000, told=1.5, width=500, seed=1)
    plain, layer = (fit(kind, train, TEMPERATURE).p(test.logits, test.features)
                    for kind in (SCALING, Kind("last layer", True, 0.5)))  # fmt: skip
    assert balanced_loss(layer, test.labels) < balanced_loss(plain, test.labels) - 0.005


def test_weights_make_types_count_alike_and_few_readings_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [60, 5, 20])
    weights = balanced(replace(discs(85), labels=labels, weights=np.linspace(1, 3, 85)))
    sums = [weights[labels == k].sum() for k in range(3)]
    assert sums[0] == pytest.approx(sums[2]) and sums[1] == pytest.approx(sums[0] / 2)
    assert weights.sum() == pytest.approx(85)


def test_the_card_that_is_written_grades_as_the_update_did() -> None:
    some = discs(120, shift=(0.4, -1.0, 0.6), told=1.0)
    update = fit(Kind("last layer", True, 0.5), some, TEMPERATURE)
    correction = SiteCorrection(tuple(update.shift), tuple(tuple(w) for w in update.weights.T))
    p = softmax((some.logits + correction.logits(some.features)) / update.temperature, axis=1)
    assert np.abs(update.weights).max() > 0.01
    np.testing.assert_array_equal(update.p(some.logits, some.features), p)


def test_shares_of_types_are_those_of_the_cohort_though_probabilities_take_them_for_equal() -> None:
    cohort = discs(20_000, types=(0.7, 0.05, 0.25))
    p = fit(SHIPPED, cohort, TEMPERATURE).p(cohort.logits, cohort.features)
    assert own_prevalence(p).mean(0) == pytest.approx([0.7, 0.05, 0.25], abs=0.02)
    assert abs(p.mean(0)[1] - 0.05) > 0.05  # the mean probability is not
