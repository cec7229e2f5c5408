"""Edges of bodies beside discs, found in drawn strips: bodies of 30 rows, discs of 10 rows between them."""

import numpy as np
import pytest

from modic.imaging.endplate_edges import CENTRE, SpineStrips, find_edges, longest_run
from modic.imaging.spine_strip import COLUMNS, Strip
from modic.imaging.volume import Volume
from modic.records import EndplateTrouble

ROWS, STEP_MM, LEVELS = 240, 0.8, (0, 1, 2, 3)


def drawn(slices: int = 1) -> SpineStrips:
    """Discs at rows 40, 80, 120 and 160."""
    columns, rows = np.meshgrid(np.arange(COLUMNS, dtype=float), np.arange(ROWS, dtype=float))
    strip = Strip(np.stack([columns, rows], -1) * STEP_MM, np.arange(ROWS) / 40 - 1, STEP_MM)
    p = np.zeros((slices, 4, ROWS, COLUMNS), np.float32)
    disc = (rows + 5) % 40 < 10  # rows 35-44, 75-84, …
    column = np.abs(columns - CENTRE) < 25
    p[:, 1], p[:, 2] = ~disc & column, disc & column
    inside, bodies = np.ones((slices, ROWS, COLUMNS), bool), np.stack([p[:, 1] > 0.5] * 2)
    volume = Volume(np.zeros((slices, ROWS, COLUMNS), np.float32), np.diag([STEP_MM, STEP_MM, 4, 1]))
    return SpineStrips(strip, tuple(range(slices)), LEVELS, volume, p, inside, bodies)


def test_both_edges_of_every_level_and_slice_are_found():
    edges = find_edges(drawn(slices=3))
    assert set(edges) == {(level, number) for level in LEVELS for number in range(3)}
    for (level, _), (upper, lower) in edges.items():
        assert upper[1] == pytest.approx(40 * (level + 1) - 5.5, abs=0.3)
        assert lower[1] == pytest.approx(40 * (level + 1) + 4.5, abs=0.3)
        assert np.ptp(upper[0]) == np.ptp(lower[0]) == 49


def test_slices_do_not_mix():
    spine = drawn(slices=2)
    spine.probabilities[1, :, 60:90] = np.roll(spine.probabilities[1, :, 60:90], 3, axis=1)
    edges = find_edges(spine)
    assert edges[1, 0][0][1] == pytest.approx(74.5, abs=0.3)
    assert edges[1, 1][0][1] == pytest.approx(77.5, abs=0.3)


def test_every_trouble_is_of_its_level_slice_and_side():
    spine = drawn(slices=2)
    spine.inside[0, 40, 48] = False  # level 0
    spine.probabilities[0, 2, 75:85] = 0  # level 1: no disc
    spine.bodies[1, 0, 108:114] ^= True  # level 2: bodies on T2 and T1 end apart
    spine.probabilities[0, 1, 165:] = 0  # level 3: no body below
    troubles = {place: [edge if isinstance(edge, EndplateTrouble) else None for edge in pair]
                for place, pair in find_edges(spine).items()}  # fmt: skip
    assert troubles == {
        (0, 0): [EndplateTrouble.OUTSIDE_IMAGE] * 2, (0, 1): [None, None],
        (1, 0): [EndplateTrouble.NO_DISC] * 2, (1, 1): [None, None],
        (2, 0): [EndplateTrouble.CONTRASTS_APART] * 2, (2, 1): [None, None],
        (3, 0): [None, EndplateTrouble.NO_VERTEBRA], (3, 1): [None, None],
    }  # fmt: skip


def test_a_disc_beside_its_box_contradicts_it():
    spine = drawn()
    spine.probabilities[:, 2] = np.roll(spine.probabilities[:, 2], 10, axis=1)
    assert find_edges(spine)[1, 0] == (EndplateTrouble.CONTRADICTS_BOX, EndplateTrouble.CONTRADICTS_BOX)


def test_a_ragged_edge_is_uneven_and_a_disc_of_23_mm_implausible():
    spine = drawn(slices=2)
    spine.probabilities[0, 1, 85:94, np.arange(COLUMNS) // 4 % 2 == 0] = 0  # teeth of 7 mm
    spine.probabilities[1, 1, 66:95] = 0  # 23 mm between the bodies
    edges = find_edges(spine)
    assert edges[1, 0][1] is EndplateTrouble.UNEVEN
    assert not isinstance(edges[1, 0][0], EndplateTrouble)
    assert edges[1, 1] == (EndplateTrouble.IMPLAUSIBLE_DISC, EndplateTrouble.IMPLAUSIBLE_DISC)


def test_a_run_goes_on_over_three_missing_columns_and_not_over_four():
    assert longest_run(np.array([1, 1, 0, 0, 0, 1, 1, 1], bool)).tolist() == [0, 1, 5, 6, 7]
    assert longest_run(np.array([1, 1, 0, 0, 0, 0, 1, 1, 1], bool)).tolist() == [6, 7, 8]
    assert longest_run(np.zeros(4, bool)).tolist() == []
