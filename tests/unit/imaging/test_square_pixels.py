"""Square pixels: nothing changes where they are, and millimetres stay where they were where they are not."""

import numpy as np
import pytest

from modic.imaging.volume import MOST_STRETCHED, CanonicalVolume, Volume, square_pixels

SAGITTAL = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)


def blob(columns_mm: float, rows_mm: float) -> CanonicalVolume:
    """120 × 120 mm with a bright disc of 30 mm, its middle at 40 mm to posterior and 70 mm to the feet."""
    columns, rows = round(120 / columns_mm), round(120 / rows_mm)
    affine = np.array([[0, 0, 4, 0], [columns_mm, 0, 0, 0], [0, -rows_mm, 0, 0], [0, 0, 0, 1]], float)
    y, z = np.meshgrid(np.arange(columns) * columns_mm, np.arange(rows) * rows_mm)
    image = (np.hypot(y - 40, z - 70) < 15).astype(np.float32)
    return Volume(np.stack([image, image]), affine).canonical()


def middle_mm(volume: Volume) -> np.ndarray:
    slices, rows, columns = np.nonzero(volume.voxels > 0.5)
    return volume.to_mm(np.stack([columns, rows, slices], 1)).mean(0)


def outline(volume: Volume) -> np.ndarray:
    """Two corners of the first slice's outer edge, mm."""
    rows, columns = volume.voxels.shape[1:]
    return volume.to_mm(np.array([[-0.5, -0.5, 0], [columns - 0.5, rows - 0.5, 0]]))


@pytest.mark.parametrize("columns_mm, rows_mm", [(1.0, 1.0), (0.68, 0.6835)])
def test_square_pixels_come_back_as_they_are(columns_mm: float, rows_mm: float) -> None:
    volume = blob(columns_mm, rows_mm)
    assert square_pixels(volume) is volume


@pytest.mark.parametrize("columns_mm, rows_mm", [(1.0, 2.0), (2.0, 1.0), (0.7, 1.1), (1.1, 0.7)])
def test_stretched_pixels_are_made_square_and_stay_where_they_were(columns_mm: float, rows_mm: float) -> None:
    volume = blob(columns_mm, rows_mm)
    square = square_pixels(volume)
    assert square.spacing_mm[:2] == pytest.approx([min(columns_mm, rows_mm)] * 2, rel=0.01)
    assert middle_mm(square) == pytest.approx(middle_mm(volume), abs=0.6)
    edges = [outline(one) for one in (volume, square)]
    assert edges[0] == pytest.approx(edges[1])


def test_pixels_stretched_beyond_measure_do_not_blow_up_the_image() -> None:
    volume = Volume(np.zeros((2, 400, 6), np.float32), SAGITTAL @ np.diag([100.0, 0.5, 4.0, 1.0])).canonical()
    square = square_pixels(volume)
    assert square.voxels.shape[1:] == (round(400 * 0.5 * MOST_STRETCHED / 100), round(6 * MOST_STRETCHED))
