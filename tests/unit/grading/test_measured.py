"""The measured marrow beside the network: what it adds, and what it must not."""

from dataclasses import asdict

import numpy as np
import pytest

from modic.errors import WeightsError
from modic.grading.agreement import agreed
from modic.grading.marrow import EndplateMarrow, MarrowMeasurements
from modic.grading.marrow_features import FEATURES
from modic.grading.measured import Measured, measured_of
from modic.records import Grade

N = len(FEATURES)
PART = Measured(FEATURES, (0.1,) * N, (2.0,) * N, (0.5,) + (0.0,) * (N - 1), 0.25)
SURE = Grade("L4/L5", (0.05, 0.05, 0.9), (2,), 2, False, ())


def test_types_0_and_2_move_against_each_other() -> None:
    values = np.full((1, N), 0.1)
    values[0, 0] = 4.1  # two standard deviations
    assert PART.logits(values).tolist() == [[-0.625, 0.0, 0.625]]


def test_what_is_not_measured_says_nothing() -> None:
    values = np.full((2, N), np.nan)
    values[1, 1] = 5.0  # of no weight; the first number is missing and counts as the mean
    assert PART.logits(values).tolist() == [[0, 0, 0], [-0.125, 0, 0.125]]


def test_a_card_brings_its_part_or_is_refused() -> None:
    assert measured_of({}) is None
    assert measured_of({"marrow": asdict(PART)}) == PART
    with pytest.raises(WeightsError, match="other measurements"):
        measured_of({"marrow": asdict(PART) | {"names": FEATURES[::-1]}})
    with pytest.raises(WeightsError, match="`mean` is missing"):
        measured_of({"marrow": {"names": FEATURES}})


def test_a_contradicted_grade_keeps_its_probabilities() -> None:
    dark, bright = (
        MarrowMeasurements("L4/L5", side, side) for side in (EndplateMarrow({"t1": t1}, {}) for t1 in (0.7, 1.4))
    )
    taken_back = agreed(SURE, dark)
    assert taken_back.mc is None and taken_back.abstained and taken_back.abstained_reason == "marrow.t1_dark"
    assert (taken_back.p, taken_back.prediction_set) == (SURE.p, SURE.prediction_set)
    assert agreed(SURE, bright) is SURE
