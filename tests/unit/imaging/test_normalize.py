"""The four normalizations: what they promise about a region's values."""

import numpy as np
import pytest

from modic.errors import WeightsError
from modic.imaging.normalize import METHODS, normalize
from modic.records import Region


def region(values: np.ndarray) -> Region:
    return Region("L5/S1", {"t1": values.astype(np.float32), "t2": (values * 3 + 7).astype(np.float32)})


MARROW = np.random.default_rng(0).gamma(4, 50, (5, 32, 32))


@pytest.mark.parametrize("method", METHODS)
def test_scanner_gain_does_not_matter_and_nothing_is_changed_in_place(method: str) -> None:
    one, other = region(MARROW), region(MARROW * 17)
    before = one.contrasts["t1"].copy()
    a, b = normalize(one, method=method), normalize(other, method=method)
    np.testing.assert_allclose(a.contrasts["t1"], b.contrasts["t1"], atol=1e-3)
    assert a.contrasts["t1"].dtype == np.float32
    assert a.contrasts["t1"].shape == before.shape
    assert a.level == "L5/S1"
    assert np.abs(a.contrasts["t1"]).max() <= 12
    np.testing.assert_array_equal(one.contrasts["t1"], before)


def test_standardize_has_mean_0_and_deviation_1_over_all_slices() -> None:
    out = normalize(region(MARROW), method="standardize")
    for values in out.contrasts.values():
        assert abs(values.mean()) < 1e-4
        assert abs(values.std() - 1) < 1e-4
    bright = MARROW * np.array([1, 1, 2, 1, 1])[:, None, None]
    out = normalize(region(bright), method="standardize")
    assert out.contrasts["t1"][2].mean() > out.contrasts["t1"][1].mean() + 0.5  # a brighter slice stays brighter


@pytest.mark.parametrize("method", ["clahe", "gamma"])
def test_clahe_and_gamma_stay_in_0_to_1_and_brighten_the_dark(method: str) -> None:
    ramp = np.broadcast_to(np.linspace(10, 500, 32), (5, 32, 32))
    out = normalize(region(ramp), method=method).contrasts["t1"]
    assert out.min() >= 0
    assert out.max() <= 1
    assert (np.diff(out[0, 16]) >= -1e-3).all()
    unit = normalize(region(MARROW), method="gamma").contrasts["t1"]
    assert np.median(unit) > np.median((MARROW - MARROW.min()) / np.ptp(MARROW))


def test_the_clip_limit_of_clahe_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more grey levels than a tile has pixels it would not: hardly a level is met twice."""
    waves = np.sin(np.linspace(0, 9, 64))
    smooth = region((np.add.outer(waves, waves[::-1] / 2) ** 3)[None])
    limited = normalize(smooth, method="clahe").contrasts["t1"]
    monkeypatch.setattr("modic.imaging.normalize.CLAHE_CLIP", 1000.0)
    unlimited = normalize(smooth, method="clahe").contrasts["t1"]
    assert np.abs(limited - unlimited).mean() > 0.05


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 123.4])
def test_a_constant_region_gives_no_nan(method: str, value: float) -> None:
    out = normalize(region(np.full((5, 16, 16), value)), method=method)
    assert np.isfinite(out.contrasts["t1"]).all()
    assert np.ptp(out.contrasts["t1"]) == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_pixel_that_is_no_number_spoils_only_itself(method: str) -> None:
    values = MARROW.copy()
    values[0, 0, 0] = np.nan
    assert np.isfinite(normalize(region(values), method=method).contrasts["t1"]).all()


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(WeightsError, match="histogram"):
        normalize(region(MARROW), method="histogram")  # type: ignore[arg-type]
