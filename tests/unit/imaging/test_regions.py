"""Regions cut from volumes whose content is a known function of patient millimetres."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adversaries import turned
from modic.config import LevelOptions
from modic.errors import Reason
from modic.imaging import regions
from modic.imaging.regions import box_on, corners_mm, cut_regions, slices_beyond
from modic.imaging.volume import CanonicalVolume, Volume, places_on
from modic.records import LevelBox, LevelResult, LevelSet, Region

PREPROCESSING = {"normalization": "none", "region_scale": 1.35, "region_size": 64, "slices": 5}
SPOT_MM = np.array([2.0, 10.0, -5.0])  # a bright spot beside the disc's centre, LPS
DISC_MM = np.array([0.0, 6.0, 0.0])


def sagittal(
    columns: float, rows: float, slices: float, *, turned_deg: float = 0.0, origin: tuple = (-20, -60, 70)
) -> np.ndarray:
    """Affine of a canonical sagittal stack with these spacings, turned in plane."""
    c, s = np.cos(np.deg2rad(turned_deg)), np.sin(np.deg2rad(turned_deg))
    affine = np.eye(4)
    affine[:3, 0] = np.array([0, c, s]) * columns
    affine[:3, 1] = np.array([0, s, -c]) * rows
    affine[:3, 2] = (slices, 0, 0)
    affine[:3, 3] = origin
    return affine


def imaged(affine: np.ndarray, shape: tuple[int, int, int]) -> CanonicalVolume:
    """What a scanner with this geometry sees: ramps leftwards and backwards and a Gaussian spot of 3 mm."""
    z, y, x = np.indices(shape)
    mm = np.stack([x, y, z], -1).reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
    spot = np.exp(-((mm - SPOT_MM) ** 2).sum(1) / (2 * 3.0**2))
    voxels = (100 + mm[:, 0] * 0.5 + mm[:, 1] * 0.2 + 100 * spot).reshape(shape).astype(np.float32)
    return Volume(voxels, affine).canonical()


def disc(volume: CanonicalVolume, *, width_mm: float = 40.0, height_mm: float = 12.0) -> LevelBox:
    """A box around DISC_MM in native pixels, whatever its axes."""
    half = np.array([[0, -width_mm / 2, height_mm / 2], [0, width_mm / 2, -height_mm / 2]])
    corners = volume.native.to_index(DISC_MM + half)
    (x0, y0), (x1, y1) = corners[:, :2].min(0), corners[:, :2].max(0)
    return LevelBox("L4/L5", (x0, y0, x1, y1), round(float(corners[0, 2])), 0.9)


def cut(t1: CanonicalVolume, t2: CanonicalVolume, box: LevelBox) -> Region | LevelResult:
    levels = LevelSet((box,), "ok", 1.0)
    (part,) = cut_regions({"t1": t1, "t2": t2}, levels, preprocessing=PREPROCESSING, options=LevelOptions())
    return part


def brightest_mm(image: np.ndarray) -> np.ndarray:
    """Offset (posterior, head) in mm of the spot from the region's centre on the middle slice, by centroid."""
    spot = np.clip(image - np.percentile(image, 90) - 20, 0, None)
    rows, columns = np.indices(image.shape) - (len(image) - 1) / 2
    step = 1.35 * 40 / len(image)
    return np.array([(columns * spot).sum(), -(rows * spot).sum()]) / spot.sum() * step


def flipped(volume: CanonicalVolume, axes: str) -> CanonicalVolume:
    """The same voxels stored with some axes reversed, or rows and columns swapped (`t`)."""
    voxels, affine = volume.voxels, volume.affine.copy()
    for axis in (axis for axis in "xyz" if axis in axes):
        column = "xyz".index(axis)
        affine[:3, 3] += affine[:3, column] * (voxels.shape[2 - column] - 1)
        affine[:3, column] *= -1
        voxels = np.flip(voxels, 2 - column)
    if "t" in axes:
        voxels, affine = voxels.transpose(0, 2, 1), affine[:, [1, 0, 2, 3]]
    return Volume(np.ascontiguousarray(voxels), affine).canonical()


T2 = imaged(sagittal(0.8, 0.8, 4.0), (11, 170, 150))


@pytest.mark.parametrize(
    ("affine", "shape"),
    [
        (sagittal(0.8, 0.8, 4.0), (11, 170, 150)),
        (sagittal(0.43, 0.43, 4.0, origin=(-20, -52, 66)), (11, 300, 280)),
        (sagittal(1.1, 0.9, 3.3, origin=(-18, -70, 80)), (13, 190, 140)),
        (sagittal(0.7, 0.7, 4.5, turned_deg=9, origin=(-23, -60, 70)), (11, 210, 190)),
    ],
)  # fmt: skip
def test_both_contrasts_show_the_same_millimetres(affine: np.ndarray, shape: tuple[int, int, int]) -> None:
    part = cut(imaged(affine, shape), T2, disc(T2))
    assert isinstance(part, Region)
    t1, t2 = part.contrasts["t1"], part.contrasts["t2"]
    assert t1.shape == t2.shape == (5, 64, 64)
    assert t1.dtype == np.float32
    true = (SPOT_MM - DISC_MM)[1:]
    for image in (t1[2], t2[2]):
        assert np.abs(brightest_mm(image) - true).max() < 0.4  # half a pixel of the T2 matrix
    assert np.abs(t1[2] - t2[2])[8:-8, 8:-8].max() < 10  # of 100: slices of T1 lie between those of T2


@pytest.mark.parametrize("axes", ["x", "y", "z", "xyz", "t", "xt", "yzt"])
def test_the_way_voxels_are_stored_does_not_change_a_region(axes: str) -> None:
    plain = cut(T2, T2, disc(T2))
    stored = flipped(T2, axes)
    for t1, t2 in ((stored, T2), (T2, stored), (stored, stored)):
        part = cut(t1, t2, disc(t2))
        assert isinstance(part, Region)
        assert isinstance(plain, Region)
        np.testing.assert_allclose(part.contrasts["t1"], plain.contrasts["t1"], atol=1e-3)
        np.testing.assert_allclose(part.contrasts["t2"], plain.contrasts["t2"], atol=1e-3)


def test_slices_outside_the_volume_repeat_the_nearest() -> None:
    box = disc(T2)
    part = cut(T2, T2, LevelBox(box.level, box.box, 0, 0.9))
    assert isinstance(part, Region)
    assert (part.contrasts["t2"][0] == part.contrasts["t2"][1]).all()
    assert (part.contrasts["t2"][1] == part.contrasts["t2"][2]).all()
    assert (part.contrasts["t2"][2] != part.contrasts["t2"][3]).any()


def test_a_level_that_t1_does_not_cover_is_refused() -> None:
    short = imaged(sagittal(0.8, 0.8, 4.0), (11, 85, 150))  # ends 2 mm below the disc's centre
    part = cut(short, T2, disc(T2))
    assert isinstance(part, LevelResult)
    assert part.status == "unreadable"
    assert part.rejected is not None
    assert part.rejected.reason == Reason.LEVEL_OUTSIDE_T1
    narrow = imaged(sagittal(0.8, 0.8, 4.0, origin=(8, -60, 70)), (11, 170, 150))  # all slices left of the disc
    part = cut(narrow, T2, disc(T2))
    assert isinstance(part, LevelResult)


@pytest.mark.parametrize("width_mm", [5.0, 11.0, 0.0])
def test_a_tiny_box_is_refused(width_mm: float) -> None:
    part = cut(T2, T2, disc(T2, width_mm=width_mm))
    assert isinstance(part, LevelResult)
    assert part.rejected is not None
    assert part.rejected.reason == Reason.LEVEL_TOO_SMALL


def test_box_on_t1_and_in_millimetres() -> None:
    t1 = imaged(sagittal(0.5, 0.5, 5.0, origin=(-20, -50, 60)), (9, 240, 260))
    box, index = box_on(t1.native, T2.native, disc(T2))
    expected = (disc(t1).box, round(float(t1.to_index(T2.to_mm([[0, 0, disc(T2).slice_index]]))[0, 2])))
    np.testing.assert_allclose(box, expected[0], atol=1e-6)
    assert index == expected[1]
    first, last = corners_mm(T2, disc(T2))
    np.testing.assert_allclose(np.array([first, last])[:, 1:], [[-14, 6], [26, -6]], atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    pixel=st.tuples(st.floats(0.3, 1.2), st.floats(0.3, 1.2)),
    gap=st.floats(2.0, 6.0),
    turns=st.tuples(*[st.floats(-8, 8)] * 3),
    shift=st.tuples(*[st.floats(-10, 10)] * 3),
    size=st.tuples(st.integers(11, 25), st.integers(150, 512), st.integers(150, 512)),
    centre=st.tuples(st.floats(-6, 6), st.floats(-15, 15), st.floats(-60, 60)),
)
def test_a_t2_box_lands_on_t1_within_a_pixel(
    pixel: tuple[float, float], gap: float, turns: tuple[float, ...], shift: tuple[float, ...],
    size: tuple[int, int, int], centre: tuple[float, ...],
) -> None:  # fmt: skip
    """Whatever the fields of view, matrices, slices and small turns: every corner, as a point of the patient."""
    directions = np.array(turned(*zip(turns, range(3), strict=True))).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = directions[0] * pixel[0], directions[1] * pixel[1]
    affine[:3, 2] = np.cross(directions[1], directions[0]) * gap
    affine[:3, 3] = np.array(shift) - affine[:3, :3] @ (np.array(size[::-1]) - 1) / 2
    t1 = Volume(np.zeros(size, np.float32), affine).canonical()
    middle = T2.to_index(np.array([centre]))[0]
    slice_ = int(np.clip(round(middle[2]), 0, 10))
    found = LevelBox("L4/L5", (middle[0] - 24, middle[1] - 8, middle[0] + 24, middle[1] + 8), slice_, 0.9)
    (x0, y0, x1, y1), index = box_on(t1.native, T2.native, found)
    a, b, c, d = found.box
    corners = T2.affine[:3, :3] @ np.array([(x, y, slice_) for x in (a, c) for y in (b, d)]).T + T2.affine[:3, 3:]
    offset = corners - affine[:3, 3:]
    columns = directions[0] @ offset / pixel[0]  # T1's directions are orthonormal: a projection each
    rows = directions[1] @ offset / pixel[1]
    expected = (columns.min(), rows.min(), columns.max(), rows.max())
    assert np.abs(np.subtract((x0, y0, x1, y1), expected)).max() < 1e-6
    place = float((affine[:3, 2] / gap) @ offset.mean(1)) / gap
    assert abs(index - np.clip(place, 0, size[0] - 1)) <= 0.5 + 1e-6
    straight = abs(columns.max() - columns.min()) * pixel[0], abs(rows.max() - rows.min()) * pixel[1]
    assert straight[0] <= 0.8 * (48 + 16 * np.sin(np.deg2rad(24))) + 1e-6  # a turn widens the box no further
    assert straight[1] <= 0.8 * (16 + 48 * np.sin(np.deg2rad(24))) + 1e-6


def test_a_fine_matrix_is_averaged_not_aliased() -> None:
    fine = sagittal(0.3, 0.3, 4.0)
    noise = np.random.default_rng(0).normal(100, 10, (11, 450, 400)).astype(np.float32)
    volume = Volume(noise, fine).canonical()
    part = cut(volume, volume, disc(volume))
    assert isinstance(part, Region)
    assert part.contrasts["t2"].std() < 6


def test_a_level_whose_outer_slices_lie_beside_t1_is_refused() -> None:
    """T1 ends two slices left of the disc's own, where the fifth of the graded slices begins."""
    part = cut(imaged(sagittal(0.8, 0.8, 4.0), (7, 170, 150)), T2, disc(T2))
    assert isinstance(part, LevelResult)
    assert part.rejected is not None
    assert part.rejected.reason == Reason.LEVEL_OUTSIDE_T1
    assert isinstance(cut(imaged(sagittal(0.8, 0.8, 4.0), (8, 170, 150)), T2, disc(T2)), Region)


def test_slices_beyond_the_stack_are_counted() -> None:
    middle = disc(T2)
    for index, beyond in ((5, 0), (1, 1), (10, 2), (0, 2)):
        levels = LevelSet((LevelBox(middle.level, middle.box, index, 0.9),), "ok", 1.0)
        assert slices_beyond(T2, levels, 5) == beyond


@pytest.mark.parametrize("columns", [0.3, 0.7, 1.1])
def test_a_region_is_the_same_read_along_the_axes_or_point_by_point(
    monkeypatch: pytest.MonkeyPatch, columns: float
) -> None:
    """T1 of another matrix, field of view and slice position than T2, which ends within the region."""
    t2 = imaged(sagittal(0.7, 0.7, 4.0), (9, 200, 180))
    t1 = imaged(sagittal(columns, 0.9, 3.3, origin=(-9, -24, 60)), (9, 160, round(60 / columns)))
    along = cut(t1, t2, disc(t2))
    monkeypatch.setattr(regions, "places_on", lambda *_: None)
    by_point = cut(t1, t2, disc(t2))
    assert isinstance(along, Region) and isinstance(by_point, Region)
    for name, values in along.contrasts.items():
        assert values.dtype == np.float32 and values == pytest.approx(by_point.contrasts[name], abs=2e-4)


def test_volumes_whose_axes_lie_apart_have_no_lattice_in_common() -> None:
    t2, lattice = imaged(sagittal(0.7, 0.7, 4.0), (9, 20, 20)), (np.arange(9.0), np.arange(20.0), np.arange(20.0))
    assert places_on(imaged(sagittal(0.7, 0.7, 4.0, turned_deg=0.01), (9, 20, 20)), t2, lattice) is None
    places = places_on(imaged(sagittal(0.35, 0.7, 4.0, origin=(-16, -60, 70)), (9, 20, 20)), t2, lattice)
    assert places is not None
    for found, expected in zip(places, (lattice[0] - 1, lattice[1], 2 * lattice[2]), strict=True):
        assert found == pytest.approx(expected)
