"""The numbers about the marrow that the classifier decides by, on endplates drawn by hand."""

import numpy as np
import pytest

from modic.grading.marrow_features import FEATURES, marrow_features
from modic.imaging.volume import Volume
from modic.records import Endplate, EndplateLine, Endplates

SAGITTAL = np.array([[0, 0, 4.0, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # mm: columns back, rows to the feet


def line(row: float, direction: int, slice_: int) -> EndplateLine:
    """An endplate of 25 points along a row; `direction` 1: its vertebra lies at higher rows."""
    columns = np.linspace(12.0, 44.0, 25)
    points = np.stack([np.full(25, 4.0 * slice_), columns, np.full(25, -row)], 1)
    inward = np.tile([0.0, 0.0, -float(direction)], (25, 1))
    return EndplateLine(points, inward, np.full(25, 20.0), 36.0)


def spine(lesion: float, slices: int = 3) -> tuple[dict[str, Volume], dict[str, Endplates]]:
    """A disc from row 40 to 50; T1 is `lesion` times as bright beside its upper endplate."""
    t2 = np.full((slices, 90, 56), 100.0, np.float32)
    t1 = t2.copy()
    t1[:, 34:41] *= lesion
    plates = Endplates(
        "L4/L5", Endplate("L4", tuple(line(40, -1, z) for z in range(slices))),
        Endplate("L5", tuple(line(50, 1, z) for z in range(slices))), tuple(range(slices)),
    )  # fmt: skip
    return {"t1": Volume(t1, SAGITTAL), "t2": Volume(t2, SAGITTAL)}, {"L4/L5": plates}


def numbers(lesion: float, slices: int = 3) -> dict[str, float]:
    values = marrow_features(*spine(lesion, slices))["L4/L5"]
    return dict(zip(FEATURES, values.tolist(), strict=True))


def test_normal_marrow_is_0() -> None:
    assert list(numbers(1.0).values()) == pytest.approx([0] * len(FEATURES), abs=1e-6)


def test_a_bright_band_shows_on_its_contrast_at_one_endplate() -> None:
    found = numbers(1.5)
    assert found["t1_own_band_max"] == pytest.approx(np.log(1.5), abs=0.02)
    assert found["t1_own_band_min"] == pytest.approx(0, abs=0.02)
    assert found["t1_own_band_mean"] == pytest.approx(np.log(1.5) / 2, abs=0.02)
    assert all(found[name] == pytest.approx(0, abs=1e-6) for name in FEATURES if name.startswith("t2"))


def test_a_gain_changes_nothing_and_slices_are_averaged() -> None:
    contrasts, plates = spine(1.5)
    brighter = {name: Volume(volume.voxels * 7, volume.affine) for name, volume in contrasts.items()}
    same = marrow_features(brighter, plates)["L4/L5"]
    assert same == pytest.approx(marrow_features(contrasts, plates)["L4/L5"], abs=1e-6)
    assert list(numbers(1.5, 1).values()) == pytest.approx(list(numbers(1.5, 3).values()), abs=0.02)


def test_without_both_contrasts_nothing_is_measured() -> None:
    contrasts, plates = spine(1.5)
    assert np.isnan(marrow_features({"t2": contrasts["t2"]}, plates)["L4/L5"]).all()
