"""Quantiles of many sets at once are those of numpy."""

import numpy as np
import pytest

from modic.quantiles import medians, quantiles
from modic.series.contrast_from_pixels import patches


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.85, 0.9, 1.0])
def test_quantiles_of_what_is_known_are_numpys(share: float, dtype: type) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(100, 30, (40, 3, 12)).astype(dtype)
    values[rng.random(values.shape) < 0.4] = np.nan
    values[..., 0] = 7  # something is known of each
    result = quantiles(values, share)
    assert result.dtype == dtype and result == pytest.approx(np.nanquantile(values, share, axis=-1), rel=1e-6)
    assert medians(values) == pytest.approx(np.nanmedian(values, axis=-1), rel=1e-6)


def test_of_nothing_known_there_is_none() -> None:
    assert np.isnan(medians(np.array([[np.nan, np.nan], [1.0, np.nan]]))).tolist() == [True, False]
    assert medians(np.zeros((0, 3))).shape == (0,)


def test_patches_are_the_pixels_within_each_rectangle_and_one_at_least() -> None:
    image = np.arange(48, dtype=np.float32).reshape(6, 8)
    top, bottom, left, right = (
        np.array(side) for side in ([1.4, 4.0, -9.0], [2.6, 4.2, -7.0], [2.0, 6.6, 3.0], [4.0, 99.0, 2.0])
    )
    shown = patches(image, top, bottom, left, right)
    found = [sorted(one[~np.isnan(one)].tolist()) for one in shown]
    assert found == [[10, 11, 12, 18, 19, 20, 26, 27, 28], [39], [3]]
    assert shown.dtype == np.float32
