"""The straightened strip along the discs."""

import numpy as np
import pytest

from modic.imaging.spine_strip import COLUMNS, WIDTH_PX, _hermite, lay_strip

STRAIGHT = np.array([[50.0, 40.0 * i] for i in range(6)])


def test_discs_lie_at_whole_rhythms_and_in_the_middle_column():
    strip = lay_strip(STRAIGHT, range(6), 48.0)
    for level, centre in enumerate(STRAIGHT):
        row = round(strip.row_of(level))
        assert strip.points[row, COLUMNS // 2] == pytest.approx(centre, abs=strip.step)
        assert strip.rhythm[row] == pytest.approx(level, abs=0.03)


def test_rows_run_to_the_feet_and_columns_to_the_back_a_step_apart():
    strip = lay_strip(STRAIGHT, range(6), 56.0)
    assert strip.step == pytest.approx(56.0 / WIDTH_PX)
    assert np.diff(strip.points[:, 0, 1]) == pytest.approx(strip.step, rel=0.01)
    assert np.diff(strip.points[0, :, 0]) == pytest.approx(strip.step, rel=0.01)


def test_a_level_that_was_not_found_leaves_a_longer_step():
    strip = lay_strip(STRAIGHT[[0, 1, 3, 4]], [0, 1, 3, 4], 48.0)
    assert strip.row_of(2) == pytest.approx((strip.row_of(1) + strip.row_of(3)) / 2, abs=0.5)


def test_a_bent_spine_is_straightened():
    angle = np.linspace(-0.5, 0.5, 6)
    centres = 200 * np.stack([np.cos(angle), np.sin(angle)], 1)  # an arc, bulging to the back
    strip = lay_strip(centres, range(6), 48.0)
    inner = slice(round(strip.row_of(0)), round(strip.row_of(5)))
    radius = np.linalg.norm(strip.points[inner, COLUMNS // 2], axis=1)
    assert radius == pytest.approx(200, abs=1.5)


def test_one_disc_is_enough_and_none_is_not():
    assert len(lay_strip(STRAIGHT[:1], [3], 48.0).rhythm) > WIDTH_PX
    with pytest.raises(ValueError, match="a disc"):
        lay_strip(STRAIGHT[:0], [], 48.0)


def test_the_curve_is_a_cubic_hermite_spline():
    from scipy.interpolate import CubicHermiteSpline

    rng = np.random.default_rng(0)
    chord, knots, slopes = np.cumsum(rng.uniform(1, 3, 6)), rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    at = np.linspace(chord[0], chord[-1], 50)
    points, derivatives = _hermite(at, chord, knots, slopes)
    expected = CubicHermiteSpline(chord, knots, slopes)
    assert points == pytest.approx(expected(at), abs=1e-12)
    assert derivatives == pytest.approx(expected(at, 1), abs=1e-12)
