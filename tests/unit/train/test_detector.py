"""Training of the detector: it runs, leaves a card that service accepts, and its pieces keep boxes right."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from modic.errors import UsageError
from modic.levels.detect import detect
from modic.models.weights import Model, load_detector
from modic.train.augment.curvature import bend
from modic.train.augment.slices import augment
from modic.train.augment.transitional import change_count, rename
from modic.train.box_bias import correct_box_edges
from modic.train.data.samples import Sample
from modic.train.data.spider_slices import load_spider
from modic.train.data.split import split_of
from modic.train.detector import load_samples, train_detector
from modic.train.options import DetectorTraining


def test_boxes_follow_the_pixels_they_mark():
    rng = np.random.default_rng(0)
    image = np.zeros((200, 160), np.float32)
    image[90:110, 60:100] = 1
    boxes = np.array([[60.0, 90, 99, 109]])
    for _ in range(20):
        view, moved, kept = augment(image, boxes, rng, size=128)
        bright = np.argwhere(view > 0.75 * view.max())
        if kept[0] and moved[0, 0] > 5 and moved[0, 2] < 122 and moved[0, 1] > 5 and moved[0, 3] < 122:
            centre = (moved[0, :2] + moved[0, 2:]) / 2
            assert np.abs(np.median(bright, axis=0)[::-1] - centre).max() < 6


def test_a_patient_is_in_one_part_for_ever():
    parts = [split_of(str(i)) for i in range(400)]
    assert parts == [split_of(str(i)) for i in range(400)]
    assert 0.6 < parts.count("train") / 400 < 0.8
    assert 0.12 < parts.count("test") / 400 < 0.28


def test_training_writes_weights_that_service_accepts(tmp_path):
    options = DetectorTraining(
        data=("phantom=6",), out=tmp_path, backbone="resnet18", fpn_channels=16, head_features=16, image_size=96,
        steps=2, batch=2, epoch_steps=1,
    )  # fmt: skip
    path = train_detector(options)
    assert load_detector(str(path)).card["architecture"]["fpn_channels"] == 16
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["data"]["patients"]["phantom"] > 0
    assert "named right" in path.with_suffix(".md").read_text(encoding="utf-8")
    history = pq.read_table(tmp_path / "history.parquet")
    assert history["epoch"].to_pylist() == [1, 2]
    assert cv2.imread(str(tmp_path / "learning_curve.png")).min() < 100


@pytest.mark.parametrize("source", ["spider", "phantom=many", "atlas=here", "spider=nowhere"])
def test_a_source_that_cannot_be_used_is_named(tmp_path, source):
    with pytest.raises(UsageError, match=source.split("=")[-1]):
        load_samples((source,), 0, tmp_path)


def test_spider_boxes_are_named_from_the_sacrum_up(shared_data):
    samples = load_spider(shared_data / "spider")
    assert len(samples) > 80
    for sample in samples:
        assert sample.names[-1] == 5
        assert (np.diff(sample.boxes[:, 1]) > 0).all()


def test_a_vertebra_is_added_or_taken_away_with_its_disc_and_its_names():
    rng = np.random.default_rng(0)
    image, names = np.zeros((400, 100), np.float32), np.array([-1, 0, 1, 2, 3, 4, 5])
    boxes = np.array([[40.0, 45 + 40 * i, 60, 55 + 40 * i] for i in range(7)])
    for x0, y0, x1, y1 in boxes.astype(int):
        image[y0:y1, x0:x1] = 1
    for added, count in ((True, 8), (False, 6)):
        changed, where, counted, other = change_count(image, boxes, names, rng, added=added)
        assert len(where) == len(counted) == count
        assert counted[-1] == 5  # from the sacrum
        assert list(rename(counted, other))[:2] == [-1, 0]  # from above
        for x0, y0, x1, y1 in where.astype(int):
            assert changed[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].min() > 0.9
        assert (changed > 0.5).sum() == pytest.approx(200 * count, rel=0.1)


@pytest.mark.parametrize("degrees", [35.0, -20.0])
def test_a_bent_spine_takes_its_boxes_along_and_turns_the_sacrum(degrees):
    image = np.zeros((400, 400), np.float32)
    boxes = np.array([[180.0, 35 + 45 * i, 220, 55 + 45 * i] for i in range(6)])
    for x0, y0, x1, y1 in boxes.astype(int):
        image[y0 + 5 : y1 - 5, x0 + 5 : x1 - 5] = 1
    bent, where = bend(image, boxes, np.random.default_rng(0), degrees=degrees)
    centres = (where[:, :2] + where[:, 2:]) / 2
    _, _, _, found = cv2.connectedComponentsWithStats((bent > 0.5).astype(np.uint8))
    for centre in centres:
        assert np.linalg.norm(found[1:] - centre, axis=1).min() < 2
    assert np.allclose(where[:2], boxes[:2])  # the upper discs stay
    assert np.sign(centres[-1, 0] - 200) == np.sign(degrees)  # steeper: the sacrum moves backwards, to the right
    assert (where[-1, 3] - where[-1, 1]) > (boxes[-1, 3] - boxes[-1, 1])


class _Detector(torch.nn.Module):
    """Proposes the given boxes, too tall by a tenth above and a fifth below, and regresses them by its bias alone."""

    def __init__(self, boxes: np.ndarray) -> None:
        super().__init__()
        heights = boxes[:, 3] - boxes[:, 1]
        self.proposals = torch.tensor(boxes + np.stack([0 * heights, -0.1 * heights, 0 * heights, 0.2 * heights], 1))
        self.roi_heads = torch.nn.Module()
        self.roi_heads.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.roi_heads.box_predictor = torch.nn.Module()
        self.roi_heads.box_predictor.bbox_pred = torch.nn.Linear(1, 28, dtype=torch.float64)
        torch.nn.init.zeros_(self.roi_heads.box_predictor.bbox_pred.bias)

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        by_class = self.roi_heads.box_predictor.bbox_pred.bias.detach().reshape(7, 4)[1:]
        boxes = self.roi_heads.box_coder.decode_single(by_class, self.proposals)
        return [{"boxes": boxes, "scores": torch.ones(6), "labels": torch.arange(1, 7)}]


def test_boxes_settle_on_given_ones_and_not_on_those_of_a_detector():
    boxes = np.array([[40.0, 20 + 25 * i, 75, 35 + 25 * i] for i in range(6)])
    image = np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8)
    model = Model(_Detector(boxes), {"preprocessing": {"image_size": 200, "percentiles": [1, 99]}}, "", "cpu")
    one = Sample("1", "t2", image, boxes, np.arange(6))
    assert correct_box_edges(model, [replace(one, given=False)] * 12) == {}
    moved = correct_box_edges(model, [one] * 12)
    assert moved["L5/S1"] == pytest.approx([0, -0.1, 0, 0.2], abs=0.01)
    assert np.allclose(detect(image[None], model)[0][0], boxes, atol=0.1)
