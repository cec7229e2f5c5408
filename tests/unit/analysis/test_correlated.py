"""Grades of one study are drawn alike, and each level's own probability stays."""

import numpy as np
import pytest

from modic.analysis import correlated
from modic.analysis.correlated import draw_correlated
from modic.grades import CLASSES

STUDIES = np.repeat(np.arange(20_000), 6)
P = np.tile([[0.9, 0.04, 0.06], [0.7, 0.1, 0.2], [0.5, 0.1, 0.4]], (40_000, 1))
NONE = np.array([], int)


def drawn(rng: np.random.Generator, rho: float, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Grades with this ρ alone."""
    with monkeypatch.context() as patch:
        patch.setattr(correlated, "RHO", np.array([rho]))
        return draw_correlated(rng, P, STUDIES, NONE, NONE)


def changed_levels(grades: np.ndarray) -> np.ndarray:
    """Of each study, how many of its levels have a change."""
    return np.bincount(STUDIES, grades > 0)


def test_levels_alone_keep_their_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    for rho in (0.0, 0.6):
        grades = drawn(np.random.default_rng(1), rho, monkeypatch)
        for kind in range(3):
            found = np.bincount(grades[kind::3], minlength=CLASSES) / 40_000
            assert found == pytest.approx(P[kind], abs=0.015)


def test_alike_levels_leave_more_patients_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    apart, alike = (changed_levels(drawn(rng, rho, monkeypatch)) for rho in (0.0, 0.5))
    assert (apart > 0).mean() == pytest.approx(1 - (0.9 * 0.7 * 0.5) ** 2, abs=0.01)
    assert (alike > 0).mean() < (apart > 0).mean() - 0.1 and (alike >= 4).mean() > 2 * (apart >= 4).mean()


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_as_alike_as_what_was_read(rho: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    truth = drawn(rng, rho, monkeypatch)
    place = np.arange(6 * 2000)
    grades = draw_correlated(rng, P, STUDIES, place, truth[place])
    assert (grades[place] == truth[place]).all()
    unread = changed_levels(grades)[2000:]
    assert unread.var() == pytest.approx(changed_levels(truth).var(), rel=0.12)


def test_a_read_level_tells_of_the_others_of_its_study(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    monkeypatch.setattr(correlated, "RHO", np.array([0.5]))
    place = np.arange(0, len(P), 6)
    others = {
        grade: changed_levels(draw_correlated(rng, P, STUDIES, place, np.full(len(place), grade))).mean() - (grade > 0)
        for grade in (0, 2)
    }
    assert others[2] > others[0] + 1


def test_few_readings_make_levels_little_alike() -> None:
    """Two levels of one study: the prior stands, and ρ of 0.5 or more is rare."""
    rng = np.random.default_rng(5)
    found = [
        correlated._draw_rho(rng, np.array([0.1, 0.2]), np.array([40.0, 40.0]), np.array([0, 0])) for _ in range(400)
    ]
    assert 0.05 < np.mean(found) < 0.25 and np.mean(np.array(found) >= 0.5) < 0.15
