"""The audit tells a grader that reads the marrow from one that reads the disc."""

from dataclasses import fields, replace

import numpy as np
import pytest

from modic.records import LEVELS
from modic.statistics.audit import (
    ADDED,
    BASE,
    SHORT_CUT,
    WITHIN,
    Audited,
    audit_metrics,
    nested_scores,
    spearman,
    used,
    within_grade_auc,
)

N = 1200


def made(reads: str) -> Audited:
    """200 patients with six discs; the degenerate ones have MC2 more often. `reads`: disc | marrow."""
    rng = np.random.default_rng(3)
    grade = rng.integers(1, 6, N)
    fat = rng.random(N) < (grade - 0.5) / 6
    evidence = (grade - 3.0) if reads == "disc" else 2.0 * fat - 1
    share = 1 / (1 + np.exp(-(evidence + 0.5 * rng.normal(size=N))))
    p = np.column_stack([1 - share, np.zeros(N), share])
    narrowing = np.where(grade > 3, 1.0, 0.0)
    patients = [f"p{i // 6}" for i in range(N)]
    sure = np.where(np.abs(share - 0.5) > 0.2, p.argmax(1), -1)
    return Audited(p, 2 * fat.astype(int), grade, narrowing, list(LEVELS) * (N // 6), patients, sure)


def numbers(audited: Audited) -> dict[tuple[str, str], float]:
    return audit_metrics(audited, nested_scores(audited), np.arange(len(audited.labels)))


def test_a_pure_degeneration_detector_is_exposed() -> None:
    exposed = numbers(made("disc"))
    assert exposed["ROC AUC", "MC0 vs MC2"] > 0.72
    assert exposed[WITHIN] == pytest.approx(0.5, abs=0.05)
    assert exposed[ADDED] == pytest.approx(0, abs=0.015)
    assert exposed[SHORT_CUT] > 0.85
    assert exposed["mean P(MC2) of MC0", "Pfirrmann 5"] > exposed["mean P(MC2) of MC0", "Pfirrmann 1"] + 0.5
    assert exposed["MC0 surely called MC2", "Pfirrmann 5"] > 0.8


def test_a_grader_that_reads_the_marrow_passes() -> None:
    passed = numbers(made("marrow"))
    assert passed[WITHIN] > 0.95
    assert passed[ADDED] > 0.15
    assert passed[BASE] < 0.8
    assert abs(passed[SHORT_CUT]) < 0.1


def test_only_discs_of_equal_grade_are_compared() -> None:
    scores, fat = np.array([0.1, 0.2, 0.8, 0.9]), np.array([True, False, True, False])
    assert within_grade_auc(scores, fat, np.array([1, 1, 5, 5])) == 0
    assert within_grade_auc(scores, fat, np.array([1, 2, 3, 4])) != within_grade_auc(scores, fat, np.ones(4))
    assert np.isnan(within_grade_auc(scores, fat, np.array([1, 2, 3, 4])))
    assert within_grade_auc(np.ones(4), fat, np.ones(4)) == 0.5


def test_numbers_without_a_value_are_nan() -> None:
    assert np.isnan(spearman(np.ones(5), np.arange(5)))
    few = made("disc")
    few = Audited(**{f.name: getattr(few, f.name)[:6] for f in fields(few)})
    assert nested_scores(few) is None
    assert np.isnan(numbers(few)["MC1 surely called MC2", "MC1"])


def test_type_1_is_in_no_comparison_of_0_and_2() -> None:
    audited = made("marrow")
    labels = audited.labels.copy()
    labels[:60] = 1
    with1 = replace(audited, labels=labels)
    base, joined = nested_scores(with1) or (np.zeros(0),) * 2
    assert np.isnan(base[:60]).all()
    assert np.isfinite(joined[60:]).all()
    assert not used(with1, WITHIN)[:60].any()
    assert used(with1, ("MC1 surely called MC2", "MC1")).sum() == 60
