"""The difference estimator: unbiased however wrong the model, never wider than readings alone, the same as others'."""

import numpy as np
import pandas as pd
import pytest

from modic.statistics.difference import Estimate, Pseudo, Read, mean, pseudo_outcomes, solve
from modic.statistics.intervals import wilson
from modic.statistics.odds_ratios import odds_ratios, read_odds_ratios
from modic.statistics.prevalence import own_prevalence, prediction_powered


def world(rng: np.random.Generator, patients: int = 1500) -> tuple[pd.DataFrame, Read]:
    """Six levels a patient, odds of `y` rising by 1.5 with `x`, a model that says too often yes for x > 0; a tenth is
    read."""
    of = np.repeat(np.arange(patients), 6)
    x = rng.normal(size=patients)[of]
    y = rng.random(len(of)) < 1 / (1 + np.exp(0.8 - np.log(1.5) * x - rng.normal(size=patients)[of]))
    said = np.where(rng.random(len(of)) < 0.1, ~y, y) | ((x > 0) & (rng.random(len(of)) < 0.3))
    frame = pd.DataFrame({"patient_key": of, "x": x, "y": y.astype(int), "p": np.where(said, 0.8, 0.2), "said": said})
    chance = np.where(said, 0.16, 0.07)
    place = np.flatnonzero(rng.random(len(of)) < chance)
    return frame, Read(place, frame["y"].to_numpy(float)[place, None], 1 / chance[place])


def of_mean(frame: pd.DataFrame, read: Read) -> tuple[float, float]:
    found = mean(frame[["p"]].to_numpy(), frame["said"].to_numpy(), frame["patient_key"].to_numpy(), read)
    return float(found.values[0, 0]), float(np.sqrt(found.covariance[0, 0]))


def with_pseudo(frame: pd.DataFrame, read: Read) -> pd.DataFrame:
    pseudo = pseudo_outcomes(frame[["p"]].to_numpy(), frame["said"].to_numpy(), frame["patient_key"].to_numpy(), read)
    columns = {name: np.full(len(frame), np.nan) for name in ("missed", "weight")}
    columns["missed"][read.place], columns["weight"][read.place] = pseudo.missed[:, 0], read.weights
    frame = frame.rename(columns={"said": "answer"})
    return frame.assign(said=pseudo.said[:, 0], **columns)


def test_the_mean_is_unbiased_and_its_error_is_as_said() -> None:
    worlds = [world(np.random.default_rng(seed)) for seed in range(80)]
    found = [(of_mean(frame, read), frame["y"].mean()) for frame, read in worlds]
    errors = np.array([value - truth for (value, _), truth in found])
    said = np.mean([deviation for (_, deviation), _ in found])
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(80)
    assert 0.75 < errors.std() / said < 1.15  # of the cohort's own mean; the interval is about that of the population


def test_it_is_narrower_than_readings_alone_and_a_useless_model_costs_nothing() -> None:
    frame, read = world(np.random.default_rng(3))
    alone = of_mean(frame.assign(p=0.5, said=0), read)
    useless = frame.assign(p=np.random.default_rng(0).random(len(frame)), said=0)
    assert of_mean(frame, read)[1] < 0.9 * alone[1]
    assert of_mean(useless, read)[1] == pytest.approx(alone[1], rel=0.03)


def test_if_all_is_read_the_mean_is_that_of_the_readings() -> None:
    frame, _ = world(np.random.default_rng(3), 100)
    every = Read(np.arange(len(frame)), frame[["y"]].to_numpy(float), np.ones(len(frame)))
    assert of_mean(frame, every)[0] == pytest.approx(frame["y"].mean(), abs=0.002)  # parts learn a little unlike lines


def test_a_regression_on_ones_is_the_mean_and_on_groups_their_means() -> None:
    frame, read = world(np.random.default_rng(5))
    patients = frame["patient_key"].to_numpy()
    pseudo = pseudo_outcomes(frame[["p"]].to_numpy(), frame["said"].to_numpy(), patients, read)
    one, logit = (solve(np.ones((len(frame), 1)), pseudo, patients, link).values for link in ("identity", "logit"))
    assert one[0, 0] == pytest.approx(of_mean(frame, read)[0]) == pytest.approx(1 / (1 + np.exp(-logit[0, 0])))


def test_an_association_that_the_model_distorts_is_found() -> None:
    ratios, naive, truths, covered = [], [], [], []
    for seed in range(16):
        frame, read = world(np.random.default_rng(seed), 700)
        row = read_odds_ratios(with_pseudo(frame, read), "y ~ x").iloc[0]
        ratios.append(np.log(row["odds_ratio"]))
        naive.append(np.log(odds_ratios(frame.assign(y=frame["said"].astype(int)), "y ~ x")["odds_ratio"].iloc[0]))
        truths.append(np.log(odds_ratios(frame, "y ~ x")["odds_ratio"].iloc[0]))
        covered.append(np.log(row["low"]) <= truths[-1] <= np.log(row["high"]))
    assert np.mean(ratios) == pytest.approx(np.mean(truths), abs=0.06) and np.mean(naive) > np.mean(truths) + 0.15
    assert np.sum(covered) >= 14


def predict_then_debias(frame: pd.DataFrame, read: Read, draws: int, seed: int) -> tuple[float, float]:
    """Log odds ratio of x, and its standard error (Kluger et al., arXiv 2501.18577): the fit to the readings, plus
    tuned the difference of the fits to what the model says of all and of the read levels; patients bootstrapped."""
    w = np.zeros(len(frame))
    w[read.place] = read.weights
    x = np.column_stack([np.ones(len(frame)), frame["x"]])

    def fit(outcome: np.ndarray, weights: np.ndarray) -> float:
        beta = np.zeros(2)
        for _ in range(8):
            mu = 1 / (1 + np.exp(-x @ beta))
            beta += np.linalg.solve((x.T * (weights * mu * (1 - mu))) @ x, x.T @ (weights * (outcome - mu)))
        return float(beta[1])

    rng, patients = np.random.default_rng(seed), frame["patient_key"].to_numpy()
    y, p = frame["y"].to_numpy(float), frame["p"].to_numpy()
    n = patients.max() + 1
    fits = []
    for number in range(draws + 1):
        times = rng.multinomial(n, np.full(n, 1 / n)) if number else np.ones(n)
        of = times[patients].astype(float)
        fits.append((fit(p, of), fit(y, w * of), fit(p, w * of)))
    every, true, said = np.array(fits).T
    covariance = np.cov(np.stack([true[1:], said[1:], every[1:]]))
    tuned = (covariance[0, 1] - covariance[0, 2]) / (covariance[1, 1] + covariance[2, 2] - 2 * covariance[1, 2])
    debiased = true + tuned * (every - said)
    return float(debiased[0]), float(debiased[1:].std(ddof=1))


def test_it_agrees_with_predict_then_debias() -> None:
    frame, read = world(np.random.default_rng(11))
    value, error = predict_then_debias(frame, read, 100, 0)
    row = read_odds_ratios(with_pseudo(frame, read), "y ~ x").iloc[0]
    ours, half = np.log(row["odds_ratio"]), np.log(row["high"] / row["low"]) / 2
    assert ours == pytest.approx(value, abs=0.6 * error)
    assert half / 1.96 == pytest.approx(error, rel=0.2)


def test_what_cannot_be_fitted_is_refused() -> None:
    frame, read = world(np.random.default_rng(1), 200)
    patients = frame["patient_key"].to_numpy()
    pseudo = pseudo_outcomes(frame[["p"]].to_numpy(), frame["said"].to_numpy(), patients, read)
    with pytest.raises(ValueError, match="no model solves"):
        solve(np.ones((len(frame), 2)), pseudo, patients, "logit")
    with pytest.raises(ValueError, match="at least two patients"):
        one = Pseudo(pseudo.said, np.zeros((2, 1)), np.array([0, 1]), np.ones(2))
        solve(np.ones((len(frame), 1)), one, patients)


def test_the_degrees_of_freedom_are_those_of_the_patients_that_matter() -> None:
    even = np.tile([1.0, -1.0], 50)[:, None]
    assert Estimate(np.zeros((1, 1)), even, 100).spread()[1] == 99
    few = np.concatenate([np.tile([10.0, -10.0], 5), np.tile([0.1, -0.1], 45)])[:, None]
    assert Estimate(np.zeros((1, 1)), few, 100).spread()[1] == pytest.approx(2 / (1 / 10 - 1 / 100), rel=0.01)
    both = Estimate(np.zeros((1, 2)), np.column_stack([even, few]), 100)
    deviation, freedom = both.spread(np.array([[1.0], [-1.0]]))
    assert deviation[0] ** 2 == pytest.approx(both.covariance[[0, 1], [0, 1]].sum() - 2 * both.covariance[0, 1])
    assert 9 < freedom[0] < 99


def test_intervals_hold_the_truth_if_few_patients_have_most_of_the_weight() -> None:
    """20 of 2,970 patients are read, and 30 others: of 2,000 cohorts 94.1 % (93.5 % with 49 degrees of freedom)."""
    covered = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        common = np.arange(3000) < 2970
        y = rng.random(3000) < np.where(common, 0.4, 0.7)
        place = np.concatenate([rng.choice(2970, 20, replace=False), np.arange(2970, 3000)])
        read = Read(place, y[place, None].astype(float), np.where(common, 2970 / 20, 1.0)[place])
        found = mean(np.full((3000, 1), 0.5), np.zeros(3000), np.arange(3000), read)
        covered.append(abs(found.values[0, 0] - (0.4 * 0.99 + 0.7 * 0.01)) <= found.half()[0, 0])
    assert 0.92 <= np.mean(covered) <= 0.98


def test_probabilities_are_brought_to_the_prevalence_that_they_show() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, size=30_000, p=[0.9, 0.02, 0.08])
    signal = 2.5 * np.eye(3)[truth] + rng.normal(size=(30_000, 3))
    p = np.exp(2.5 * signal)  # the likelihood of equal-variance signals: calibrated if grades are equally frequent
    p /= p.sum(1, keepdims=True)
    assert p.mean(0)[1] > 0.05
    assert own_prevalence(p).mean(0) == pytest.approx([0.9, 0.02, 0.08], abs=0.005)


def test_an_outcome_that_no_reader_saw_is_not_sure_to_be_rare() -> None:
    """Six patients were read, nobody had it, and the model says 1 %: Wilson's interval of none of six ends at 39 %."""
    patients, place = np.arange(100), np.arange(6)
    p = np.full((100, 3), [0.98, 0.01, 0.01])
    found = prediction_powered(p, patients, read=place, truth=np.zeros(6, int))
    assert found.low[1] == 0 and found.high[1] == pytest.approx(wilson(0, 6)[1], abs=0.02) and found.high[1] > 0.35
    assert found.high[0] == 1 and found.low[0] < 0.65
    weighted = prediction_powered(
        p, patients, read=place, truth=np.zeros(6, int), weights=np.array([90.0, 1, 1, 1, 1, 1])
    )
    assert weighted.high[1] > 0.7, "one patient with all the weight says little"
