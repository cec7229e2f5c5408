"""Values of a volume at any points: linear between voxels, of the outermost ones up to their edge, NaN beyond."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from modic.imaging.volume import Volume, read_points

TILTED = np.array([[0, 0.1, 4, 3], [0.9, 0, 0.2, -5], [0, -1.1, 0, 7], [0, 0, 0, 1]], float)


@pytest.fixture
def volume() -> Volume:
    return Volume(np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32), TILTED)


def test_values_are_those_of_linear_interpolation(volume):
    index = np.random.default_rng(1).uniform(-0.5, [6.5, 4.5, 2.5], (500, 3))
    expected = map_coordinates(volume.voxels, index.T[::-1], order=1, mode="nearest", output=np.float64)
    assert volume.values_at(volume.to_mm(index)) == pytest.approx(expected, abs=1e-12)


def test_nothing_is_known_beyond_the_outer_edges(volume):
    index = np.array([[-0.4, 0, 0], [-0.6, 0, 0], [6.4, 4.4, 2.4], [6.6, 0, 0], [0, 0, 2.6], [0, -0.6, 0]])
    assert np.isnan(volume.values_at(volume.to_mm(index))).tolist() == [False, True, False, True, True, True]


def test_one_slice_serves_on_both_of_its_sides():
    voxels = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    assert read_points(voxels, np.array([[0.5, 0.5, 0.4], [1, 1, -0.4]])).tolist() == [1.5, 3.0]
