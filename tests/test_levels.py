"""Naming: every level at most once, in anatomical order, whatever the detector proposes."""

import numpy as np
import pytest

from modic.config import LevelOptions
from modic.levels import Candidate, central_slices, detector_image, find_levels, iou, merge, name_sequence
from modic.records import LEVELS, Volume
from modic.weights import Model


def spine(n: int = 6, *, score: float = 0.9, first: int = 0) -> list[Candidate]:
    """`n` discs 40 px apart, each sure of its own name, the top one named `first`."""
    discs = []
    for i in range(n):
        scores = np.full(6, 0.01)
        scores[first + i] = score
        discs.append(Candidate(np.array([100.0, 40 * i, 150, 40 * i + 20]), scores))
    return discs


def test_a_clear_spine_is_named_top_to_bottom():
    names, p = name_sequence(spine())
    assert names == [0, 1, 2, 3, 4, 5]
    assert p > 0.99


def test_a_missing_disc_does_not_shift_its_neighbours():
    discs = spine()
    del discs[2]
    names, _ = name_sequence(discs)
    assert names == [0, 1, 3, 4, 5]


def test_one_wrongly_named_disc_is_outvoted():
    discs = spine()
    wrong = np.full(6, 0.01)
    wrong[2] = 0.9  # the fourth disc is called L2/L3 a second time
    discs[3] = Candidate(discs[3].box, wrong)
    assert name_sequence(discs)[0] == [0, 1, 2, 3, 4, 5]


def test_a_disc_above_t12_stays_unnamed():
    extra = Candidate(np.array([100.0, -40, 150, -20]), np.array([0.3, 0.01, 0, 0, 0, 0]))
    assert name_sequence([extra, *spine()])[0] == [None, 0, 1, 2, 3, 4, 5]


def test_ambiguous_scores_are_reported_as_uncertain():
    discs = []
    for i in range(5):
        scores = np.zeros(6)
        scores[i] = scores[i + 1] = 0.45
        discs.append(Candidate(np.array([100.0, 40 * i, 150, 40 * i + 20]), scores))
    assert name_sequence(discs)[1] < 0.6


@pytest.mark.parametrize("seed", range(5))
def test_random_detections_never_give_duplicates_or_disorder(seed):
    rng = np.random.default_rng(seed)
    for _ in range(400):
        n = int(rng.integers(0, 12))
        corner = rng.uniform(0, 300, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(1, 80, (n, 2))], 1)
        candidates = merge([(boxes, rng.uniform(0, 1, n), rng.integers(0, 6, n))], 0.05)
        names, p = name_sequence(candidates)
        given = [name for name in names if name is not None]
        assert given == sorted(set(given))
        assert 0 <= p <= 1


def test_boxes_of_one_disc_on_three_slices_become_one_candidate():
    box = np.array([[10.0, 10, 60, 30]])
    slices = [(box + shift, np.array([0.8]), np.array([4])) for shift in (-1, 0, 1)]
    (found,) = merge(slices, 0.05)
    assert found.box == pytest.approx([10, 10, 60, 30], abs=0.1)
    assert found.scores[4] == pytest.approx(0.8)


def test_central_slices():
    assert central_slices(11, 3) == [4, 5, 6]
    assert central_slices(2, 3) == [0, 1]


def test_detector_image_scales_by_the_longer_side():
    image = np.random.default_rng(0).uniform(0, 1000, (100, 50)).astype(np.float32)
    padded, scale = detector_image(image, {"image_size": 200, "percentiles": [1, 99]})
    assert padded.shape == (200, 200)
    assert scale == 2
    assert padded[:, 100:].max() == 0
    assert 0.95 < padded.max() <= 1


class FixedBoxes:
    """A detector that finds the six discs at fixed places of its 64 px image."""

    def __call__(self, images):
        import torch

        boxes = torch.tensor([[20.0, 8 * i + 4, 40, 8 * i + 9] for i in range(6)])
        return [{"boxes": boxes, "scores": torch.full((6,), 0.9), "labels": torch.arange(1, 7)} for _ in images]


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_come_back_in_the_volumes_own_pixels(flip):
    voxels = np.random.default_rng(0).uniform(size=(7, 128, 128)).astype(np.float32)
    affine = np.array([[0, 0, 4, -12], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
    if flip:  # the same spine stored feet first, posterior first
        voxels = np.ascontiguousarray(voxels[:, ::-1, ::-1])
        affine = np.array([[0, 0, 4, -12], [-1, 0, 0, 127], [0, 1, 0, -127], [0, 0, 0, 1]], float)
    card = {"preprocessing": {"image_size": 64, "percentiles": [0, 100]}}
    volume = Volume(voxels, affine)
    found = find_levels(volume, detector=Model(FixedBoxes(), card, "", "cpu"), options=LevelOptions())
    assert [b.level for b in found.boxes] == list(LEVELS)
    top = found.boxes[0]
    corner = volume.to_mm(np.array([[top.box[0], top.box[1], 3], [top.box[2], top.box[3], 3]]))
    assert corner[:, 1].min() == pytest.approx(40.5)  # mm, posterior: (20 + 0.5) * 2 - 0.5
    assert corner[:, 2].max() == pytest.approx(-8.5)


def test_iou():
    assert iou(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])) == pytest.approx(1 / 3)
    assert iou(np.array([0, 0, 1, 1]), np.array([2, 2, 3, 3])) == 0
