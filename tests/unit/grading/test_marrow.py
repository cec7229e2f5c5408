"""The marrow beside endplates, on volumes painted for it: bodies 27 mm high and 32 mm deep, discs of 9 mm."""

import numpy as np
import pytest

from modic.grading.marrow import measure_marrow
from modic.imaging.volume import Volume
from modic.records import LEVELS, Endplate, EndplateLine, Endplates, EndplateTrouble

DISC, BODY, DEEP, SLICES = 9.0, 27.0, 32.0, 3
VERTEBRAE = ("T12", "L1", "L2", "L3", "L4", "L5", "S1")
AFFINE = np.array([[0, 0, 4.0, -4.0], [0.8, 0, 0, -40.0], [0, -0.8, 0, 40.0], [0, 0, 0, 1]])


def head_of_disc(level):
    return -36.0 * level


def spine():
    """Endplates of all levels: flat, 25 points from front to back on three slices."""
    return {level: Endplates(level, plate(i, -1), plate(i, 1), (0, 1, 2)) for i, level in enumerate(LEVELS)}


def plate(level, side):
    """`side` -1: the upper endplate of a disc, whose marrow lies above it."""
    y = np.linspace(-DEEP / 2, DEEP / 2, 25)
    z = np.full(25, head_of_disc(level) - (DISC if side > 0 else 0.0))
    inward = np.tile([0.0, 0.0, -float(side)], (25, 1))
    lines = [
        EndplateLine(np.stack([np.full(25, x), y, z], 1), inward, np.full(25, 20.0), DEEP) for x in (-4.0, 0.0, 4.0)
    ]
    return Endplate(VERTEBRAE[level + (side > 0)], tuple(lines))


def volume(marrow=100.0, band=1.0, *, level="L4/L5", front_to_back=(-1.0, 1.0), depth=8.0, noise=0.0):
    """Marrow everywhere, and at the upper endplate of `level` a band `depth` mm deep of `band` times its brightness.

    `front_to_back`: what part of the depth the band takes, -1 in front to 1 behind.
    """
    index = np.stack(np.meshgrid(np.arange(100), np.arange(380), np.arange(SLICES), indexing="ij"), -1).reshape(-1, 3)
    mm = index @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    values = np.full(len(mm), marrow)
    above = mm[:, 2] - head_of_disc(LEVELS.index(level))
    along = mm[:, 1] / (DEEP / 2)
    values[(above > 0) & (above < depth) & (along >= front_to_back[0]) & (along <= front_to_back[1])] *= band
    values += noise * np.random.default_rng(0).standard_normal(len(values))
    return Volume(values.reshape(100, 380, SLICES).transpose(2, 1, 0).astype(np.float32), AFFINE)


def test_even_marrow_has_ratios_of_one_and_no_extent():
    measured = measure_marrow({"t1": volume(noise=5), "t2": volume(300.0, noise=15)}, spine())
    assert list(measured) == list(LEVELS)
    for level in measured.values():
        columns = level.columns()
        assert all(abs(columns[name] - 1) < 0.03 for name in columns if "ratio" in name)
        assert columns["extent_upper"] == columns["depth_lower_mm"] == 0


def test_a_fatty_band_is_brighter_than_its_own_and_the_patients_marrow():
    columns = measure_marrow({"t1": volume(band=1.6), "t2": volume(band=1.3)}, spine())["L4/L5"].columns()
    assert columns["t1_ratio_upper"] == pytest.approx(1.6, rel=0.03)
    assert columns["t1_patient_ratio_upper"] == pytest.approx(1.6, rel=0.03)
    assert columns["t2_ratio_upper"] == pytest.approx(1.3, rel=0.03)
    assert columns["t1_ratio_lower"] == pytest.approx(1.0, abs=0.03)
    assert columns["extent_upper"] == 1 and columns["extent_lower"] == 0
    assert columns["depth_upper_mm"] == pytest.approx(8, abs=1)


def test_oedema_is_dark_on_t1_and_its_extent_is_its_share_of_the_endplate():
    part = {"front_to_back": (-1.0, 0.0)}
    marrow = measure_marrow({"t1": volume(band=0.5, **part), "t2": volume(band=1.8, **part)}, spine())["L4/L5"].upper
    assert marrow.extent == pytest.approx(0.5, abs=0.08)
    assert marrow.unlike_ratio["t1"] == pytest.approx(0.5, rel=0.1)
    assert marrow.unlike_ratio["t2"] == pytest.approx(1.8, rel=0.1)
    assert marrow.bright == 0


def test_where_a_part_is_dark_and_a_part_bright_the_share_of_the_bright_part_is_known():
    front = volume(band=0.5, front_to_back=(-1.0, -0.2))
    both = Volume(front.voxels * volume(1.0, band=1.6, front_to_back=(0.2, 1.0)).voxels, AFFINE)
    upper = measure_marrow({"t1": both, "t2": volume(band=1.3)}, spine())["L4/L5"].upper
    assert upper.bright == pytest.approx(0.5, abs=0.1)
    assert upper.extent == pytest.approx(0.8, abs=0.1)


def test_height_is_the_bodies_and_that_of_the_others_where_one_endplate_is_not_seen():
    measured = measure_marrow({"t1": volume(), "t2": volume()}, spine())
    assert [one.upper.height_mm for one in measured.values()] == pytest.approx([BODY] * 6, abs=0.01)
    assert measured["L5/S1"].lower.height_mm == pytest.approx(BODY)
    alone = measure_marrow({"t1": volume(), "t2": volume()}, {"L5/S1": spine()["L5/S1"]})
    assert alone["L5/S1"].upper.height_mm is None


def test_dark_on_both_contrasts_is_no_modic_change_of_type_1_or_2():
    marrow = measure_marrow({"t1": volume(band=0.5), "t2": volume(band=0.5)}, spine())["L4/L5"].upper
    assert marrow.ratio["t1"] == pytest.approx(0.5, rel=0.05)
    assert marrow.extent == 0 and marrow.unlike_ratio["t1"] is None


def test_gain_and_coil_profile_change_nothing():
    def through_a_coil(image, gain, along, across):
        _, rows, columns = image.voxels.shape
        field = gain * np.exp(along * np.linspace(-1, 1, rows)[:, None] + across * np.linspace(-1, 1, columns))
        return Volume((image.voxels * field).astype(np.float32), image.affine)

    plain = {"t1": volume(band=1.5, noise=3), "t2": volume(band=1.2, noise=3)}
    seen = {"t1": through_a_coil(plain["t1"], 7.0, 0.5, -0.4), "t2": through_a_coil(plain["t2"], 0.2, -0.5, 0.3)}
    before, after = (measure_marrow(contrasts, spine()) for contrasts in (plain, seen))
    for level in LEVELS:
        one, other = before[level].columns(), after[level].columns()
        assert [one[name] for name in one] == pytest.approx([other[name] for name in one], abs=0.03)


def test_one_abnormal_body_does_not_move_the_patients_marrow():
    bright = volume(band=1.6, depth=BODY)  # the whole of L4
    columns = measure_marrow({"t1": bright, "t2": bright}, spine())["L4/L5"].columns()
    assert columns["t1_ratio_upper"] == pytest.approx(1.0, abs=0.03)
    assert columns["t1_patient_ratio_upper"] == pytest.approx(1.6, rel=0.1)


def test_an_endplate_that_was_not_found_has_no_number_but_a_reason():
    endplates = spine()
    lost = Endplate("S1", (EndplateTrouble.NO_VERTEBRA,) * 3)
    endplates["L5/S1"] = Endplates("L5/S1", endplates["L5/S1"].upper, lost, (0, 1, 2))
    measured = measure_marrow({"t1": volume(), "t2": volume()}, endplates)["L5/S1"]
    assert measured.lower.trouble == "endplate.no_vertebra"
    assert measured.columns()["t1_ratio_lower"] is measured.columns()["extent_lower"] is None
    assert measured.columns()["t1_ratio_upper"] == pytest.approx(1, abs=0.01)


def test_without_t1_there_are_ratios_on_t2_alone():
    columns = measure_marrow({"t2": volume(band=1.5)}, spine())["L4/L5"].columns()
    assert columns["t2_ratio_upper"] == pytest.approx(1.5, rel=0.03)
    assert columns["t1_ratio_upper"] is columns["extent_upper"] is None


def test_marrow_outside_of_the_image_is_not_measured():
    cut = volume()
    cut = Volume(np.ascontiguousarray(cut.voxels[:, :200]), cut.affine)
    measured = measure_marrow({"t1": cut, "t2": cut}, spine())
    assert measured["L5/S1"].columns()["t1_ratio_lower"] is None
    assert measured["L1/L2"].columns()["t1_ratio_lower"] == pytest.approx(1, abs=0.01)


def test_nothing_found_measures_nothing():
    assert measure_marrow({"t1": volume(), "t2": volume()}, {}) == {}
