"""Endplates of synthetic patients, found with the shipped network, against where the phantom has them."""

from dataclasses import replace

import numpy as np
import pytest

from modic.imaging.endplates import find_endplates
from modic.imaging.volume import Volume
from modic.models.weights import load_segmenter
from modic.phantom.anatomy import DISC_OF_LEVEL, S1, make_patient
from modic.phantom.physics import Sequence
from modic.phantom.render import Grid, disc_boxes, render_many
from modic.records import LEVELS, EndplateTrouble, LevelBox, LevelSet

T1, T2 = Sequence("t1", 550, 12), Sequence("t2", 3500, 100)


@pytest.fixture(scope="module")
def segmenter():
    return load_segmenter()


@pytest.fixture(scope="module")
def patient():
    return make_patient(11, p_mc1=0, p_mc2=0, p_transitional=0)


@pytest.fixture(scope="module")
def study(patient):
    """T1, T2 and the boxes of the discs; three slices of 1 mm pixels."""
    _, y, z = patient.lumbar_centre_mm
    grid = Grid("sagittal", 280, 160, 1.0, 3, 4.0, 2.0, (float(patient.lateral(z)), y, z - 15))
    t1, t2 = render_many(patient, grid, [T1, T2], seed=0)
    boxes = [LevelBox(name, box, 1, 1.0) for name, box in disc_boxes(patient, grid, 1) if name]
    return t1, t2, LevelSet(tuple(boxes), "ok", 1.0)


@pytest.fixture(scope="module")
def found(study, segmenter):
    t1, t2, levels = study
    return find_endplates(t2, t1, levels, segmenter=segmenter)


def off_mm(patient, level, side, line):
    """Distances of a line's points from where the marrow of the body ends in the phantom."""
    vertebra = DISC_OF_LEVEL[level] + (side == "upper")
    s, a = patient.spine_coordinates(line.points_mm[:, 1], line.points_mm[:, 2])
    aside = (line.points_mm[:, 0] - patient.lateral(line.points_mm[:, 2])) / (patient.width[vertebra] / 2)
    across = np.clip(1 - (a / (patient.depth[vertebra] / 2)) ** 2, 0, 1) * np.clip(1 - aside**2, 0, 1)
    dent = patient.concavity * across
    if side == "upper":
        return s - (patient.low[vertebra] + dent + 1.1)
    return s - (patient.high[vertebra] - dent * (vertebra >= S1) - 1.1)


@pytest.mark.parametrize("level", LEVELS)
def test_both_endplates_lie_where_the_marrow_ends(level, found, patient):
    for side in ("upper", "lower"):
        plate = getattr(found[level], side)
        assert plate.trouble is None
        assert np.mean([np.abs(off_mm(patient, level, side, line)).mean() for line in plate.seen]) < 1.0


def test_lines_run_from_front_to_back_and_look_into_their_vertebra(found):
    pair = found["L3/L4"]
    for plate, head in ((pair.upper, 1), (pair.lower, -1)):
        for line in plate.seen:
            assert (np.diff(line.points_mm[:, 1]) > 0).all()
            assert (head * line.inward[:, 2] > 0.8).all()
            assert 20 < line.length_mm < 50
            assert np.median(line.reach_mm) > 12
    assert (pair.upper.vertebra, pair.lower.vertebra) == ("L3", "L4")


def test_axes_in_another_order_give_the_same_millimetres(study, found, segmenter):
    t1, t2, levels = study
    affine = t2.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 2
    affine[:3, 2] *= -1
    flipped = Volume(np.ascontiguousarray(t2.voxels[::-1]), affine)
    again = find_endplates(flipped, t1, levels, segmenter=segmenter)
    for level in LEVELS:
        for one, other in zip(found[level].upper.seen, again[level].upper.seen, strict=True):
            assert one.points_mm == pytest.approx(other.points_mm, abs=0.01)


def test_a_box_that_is_not_on_a_disc_gives_a_reason_and_no_line(study, segmenter):
    t1, t2, levels = study
    boxes = list(levels.boxes)
    x0, y0, x1, y1 = boxes[2].box
    boxes[2] = replace(boxes[2], box=(x0, y0 - 16, x1, y1 - 16))  # on the vertebra above
    pair = find_endplates(t2, t1, replace(levels, boxes=tuple(boxes)), segmenter=segmenter)["L2/L3"]
    assert pair.upper.trouble is not None
    assert not pair.upper.seen and not pair.lower.seen


def test_a_disc_at_the_border_of_the_image_is_outside(study, segmenter):
    t1, t2, levels = study
    box = levels.boxes[-1].box
    last = int((box[1] + box[3]) / 2) + 4
    cut = Volume(np.ascontiguousarray(t2.voxels[:, :last]), t2.affine)
    pairs = find_endplates(cut, t1, levels, segmenter=segmenter)
    assert pairs["L5/S1"].lower.trouble is EndplateTrouble.OUTSIDE_IMAGE
    assert pairs["L3/L4"].lower.trouble is None


def test_a_patient_who_moved_between_the_contrasts_is_not_measured(study, segmenter):
    t1, t2, levels = study
    affine = t1.affine.copy()
    affine[2, 3] += 4.0
    moved = find_endplates(t2, Volume(t1.voxels, affine), levels, segmenter=segmenter)
    troubles = [pair.upper.trouble for pair in moved.values()]
    assert troubles.count(EndplateTrouble.CONTRASTS_APART) >= 5


def test_t2_alone_serves_and_no_level_gives_nothing(study, segmenter):
    _, t2, levels = study
    alone = find_endplates(t2, None, levels, segmenter=segmenter)
    assert sum(pair.upper.trouble is None for pair in alone.values()) >= 5
    assert find_endplates(t2, None, LevelSet((), "uncertain", 0.0), segmenter=segmenter) == {}
