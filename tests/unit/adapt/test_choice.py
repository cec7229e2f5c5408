"""The closed test: what it takes, and how often it takes something where nothing is better."""

from dataclasses import replace

import numpy as np
import pytest

from made_readings import TEMPERATURE, discs
from modic.adapt.choice import LEVEL, choose, folds_of, kinds_for, max_t
from modic.adapt.thresholds import coverage_differs, effective, promise, site_quantiles, weighted_quantile
from modic.adapt.update import INTERCEPT, SCALING, SHIPPED, Discs, fit
from modic.statistics.calibration import conformal_quantiles


def labelled(labels: np.ndarray) -> Discs:
    """Discs of these types, two a patient, that know nothing else."""
    n = len(labels)
    return Discs(np.zeros((n, 3)), np.zeros((n, 0)), labels, np.arange(n) // 2, np.ones(n), np.ones(n))


def test_a_shift_is_taken_and_nothing_larger_without_need() -> None:
    chosen = choose(discs(200, shift=(0.4, -1.2, 0.8)), TEMPERATURE)
    assert chosen.kind == INTERCEPT
    assert min(one.p_value for one in chosen.tested) < 0.01


def test_a_last_layer_is_taken_where_features_tell_much() -> None:
    assert choose(discs(400, told=2.5), TEMPERATURE).kind.name == "last layer"


def test_where_nothing_is_wrong_the_shipped_grader_stays_in_95_percent() -> None:
    taken = sum(choose(discs(100, seed=seed), TEMPERATURE).kind != SHIPPED for seed in range(60))
    assert taken <= 7  # 3 expected


def test_a_last_layer_needs_discs_and_patients() -> None:
    assert [kind.name for kind in kinds_for(discs(99))] == ["intercept", "intercept and temperature"]
    assert "last layer" in [kind.name for kind in kinds_for(discs(200))]


def test_all_discs_of_a_patient_lie_in_one_fold() -> None:
    patients = np.array([f"p{n}" for n in np.random.default_rng(0).integers(0, 30, 200)])
    folds = folds_of(patients, 5)
    assert all(len(set(folds[patients == name])) == 1 for name in set(patients))
    assert set(folds) == set(range(5))


def test_max_t_holds_its_level_over_all_columns_and_finds_what_is_there() -> None:
    rng = np.random.default_rng(0)
    false = [min(max_t(rng.normal(size=(40, 5)), seed)) < LEVEL for seed in range(150)]
    assert np.mean(false) < 0.11
    gains = rng.normal(size=(60, 3)) + np.array([0, 1.0, 0])
    adjusted = max_t(gains)
    assert adjusted[1] < 0.002 and adjusted[0] > LEVEL and adjusted[2] > LEVEL


def test_a_weighted_quantile_of_equal_weights_is_the_conformal_one() -> None:
    some = discs(150)
    p = np.random.default_rng(1).dirichlet((1, 1, 1), 150)
    q = site_quantiles(p, replace(some, weights=np.full(150, 3.7)), 0.2, np.full(3, 0.5))
    assert q == pytest.approx(conformal_quantiles(p, some.labels, alpha=0.2))


def test_a_heavy_reading_counts_as_often_as_the_discs_that_it_stands_for() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.9])
    assert weighted_quantile(scores, np.array([9.0, 9, 9, 0.1]), 0.3, 4) == 0.3
    assert weighted_quantile(scores, np.array([1.0, 1, 1, 9]), 0.3, 4) == 0.9


def test_a_type_of_few_readings_keeps_the_shipped_threshold() -> None:
    p = np.random.default_rng(1).dirichlet((1, 1, 1), 119)
    q = site_quantiles(p, labelled(np.repeat([0, 1], [100, 19])), 0.2, np.array([0.5, 0.6, 0.7]))
    assert q[1] == 0.6 and q[2] == 0.7 and q[0] != 0.5


def test_thresholds_that_hold_are_told_from_those_that_do_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2], 100)
    some = labelled(labels)
    assert not coverage_differs(rng.random(200) < 0.8, some, 0.2)
    assert coverage_differs(np.where(labels == 2, rng.random(200) < 0.4, rng.random(200) < 0.8), some, 0.2)
    assert coverage_differs(np.ones(200, bool), some, 0.2)  # holding more is abstaining more
    assert not coverage_differs(np.zeros(30, bool), labelled(np.arange(30) % 3), 0.2)  # too few


@pytest.mark.parametrize(("readings", "sd"), [(20, 0.06), (67, 0.035), (100, 0.03)])
def test_what_readings_promise(readings: int, sd: float) -> None:
    """Coverage of 90 % from so many readings; simulated: thresholds of uniform scores."""
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.random((4000, readings)), axis=1)[:, int(np.ceil((readings + 1) * 0.9)) - 1]
    of = promise(readings, 0.1)
    assert of.sd == pytest.approx(sd, abs=0.005) and of.sd == pytest.approx(drawn.std(), rel=0.06)
    assert np.mean((drawn > of.low) & (drawn < of.high)) == pytest.approx(0.95, abs=0.015)
    assert promise(3, 0.1).low == 1.0  # the set then always holds the type


def test_uneven_weights_are_worth_fewer_readings() -> None:
    ones = np.ones(40)
    assert effective(ones, ones) == 40 and effective(np.r_[np.ones(20), np.full(20, 9.0)], ones) < 30


def test_a_disc_counts_once_however_many_readers_share_it() -> None:
    some, halves = labelled(np.repeat([0, 1], 60)), np.full(120, 0.5)
    shared = replace(some, weights=halves, shares=halves)  # 60 discs of which two readers gave different types
    assert shared.count() == 60 and shared.types.tolist() == [30, 30, 0]
    assert effective(halves[:60], halves[:60]) == 30
    assert [kind.name for kind in kinds_for(replace(discs(120), shares=np.full(120, 0.5)))] == [
        "intercept", "intercept and temperature",
    ]  # fmt: skip
    p = np.random.default_rng(1).dirichlet((1, 1, 1), 120)
    few = replace(shared, shares=np.full(120, 0.3))  # 18 of each type
    assert site_quantiles(p, few, 0.2, np.full(3, 0.5)).tolist() == [0.5, 0.5, 0.5]
    twice = np.repeat(np.arange(25), 2)  # each score twice, as of two readers who agree
    once = weighted_quantile(np.sort(p[:25, 0]), np.ones(25), 0.2, 25)
    assert weighted_quantile(np.sort(p[:25, 0])[twice], np.full(50, 0.5), 0.2, 25) == once


def test_two_readers_of_a_disc_move_the_grader_as_far_as_one() -> None:
    one = discs(60, shift=(0.4, -1.2, 0.8))
    two = one.some(np.repeat(np.arange(60), 2))
    two = replace(two, weights=two.weights / 2, shares=two.shares / 2)
    assert fit(SCALING, two, TEMPERATURE).shift == pytest.approx(fit(SCALING, one, TEMPERATURE).shift, abs=1e-4)
