"""Training of the segmenter, on strips drawn for it."""

import numpy as np
import pytest

from modic.errors import UsageError
from modic.imaging.spine_strip import COLUMNS
from modic.models.weights import load_segmenter
from modic.phantom.masks import BODY, CANAL, DISC, UNKNOWN
from modic.train import endplates
from modic.train.augment.strips import view_of
from modic.train.data.endplate_strips import WIDE, StripSample, bodies_only, disc_boxes_of, pseudo_labels
from modic.train.endplates import EndplateTraining, train_endplates

PERIOD, ROWS = 40, 240  # rows of a disc and a body


def strip(patient):
    rows = np.arange(ROWS)
    labels = np.zeros((ROWS, WIDE), np.uint8)
    labels[:, 40:86] = np.where(rows % PERIOD < 10, DISC, BODY)[:, None]
    labels[:, 90:104] = CANAL
    image = np.array([0.1, 0.5, 0.3, 0.9], np.float32)[labels]
    rhythm = (rows - 5) / PERIOD
    return StripSample(image, labels, rhythm, patient, "t2", "phantom")


@pytest.fixture
def options(tmp_path, monkeypatch):
    samples = [strip(f"p{i}") for i in range(20)]
    monkeypatch.setattr(endplates, "phantom_strips", lambda *_, **__: samples)
    return EndplateTraining(
        ("phantom=20",), tmp_path, widths=(4, 4, 4, 4, 4), first_steps=8, steps=8, batch=2, rows=64, epoch_steps=4,
        threads=1,
    )  # fmt: skip


def test_weights_and_card_serve_and_a_finished_training_is_not_repeated(options, capsys):
    path = train_endplates(options)
    segmenter = load_segmenter(str(path))
    p = segmenter.probabilities(np.ones((2, 64, COLUMNS), np.float32), np.linspace(0, 1, 64))
    assert p.shape == (2, 4, 64, COLUMNS)
    assert p.sum(1) == pytest.approx(1, abs=1e-5)
    assert "test patients" in path.with_suffix(".md").read_text(encoding="utf-8")
    before = path.read_bytes()
    assert train_endplates(options) == path and path.read_bytes() == before
    assert "finished" in capsys.readouterr().out


@pytest.mark.parametrize("data", [("spider=x",), ("phantom=some",), ("volumes=x", "phantom=3")])
def test_data_without_masks_are_refused(data, tmp_path):
    with pytest.raises(UsageError, match="--data"):
        train_endplates(EndplateTraining(data, tmp_path))


def test_a_view_keeps_image_labels_and_rhythm_together():
    sample = strip("p0")
    for seed in range(5):
        image, labels, rhythm = view_of(sample, np.random.default_rng(seed), rows=96)
        assert image.shape == labels.shape == (96, COLUMNS) and rhythm.shape == (96,)
        assert set(np.unique(labels)) <= {0, BODY, DISC, CANAL, UNKNOWN}
        assert np.isfinite(image).all() and image.min() >= 0
        middle = labels[:, COLUMNS // 2]
        discs, bodies = (np.abs((rhythm[middle == kind] + 0.5) % 1 - 0.5).mean() for kind in (DISC, BODY))
        assert discs < bodies  # whole numbers lie on discs


def test_posterior_elements_are_no_bodies():
    labels = strip("p0").labels
    labels[:, 108:120] = BODY
    cleaned = bodies_only(labels)
    assert not (cleaned[:, 108:] == BODY).any()
    assert (cleaned[:, :86] == labels[:, :86]).all()


def test_parts_of_one_disc_share_a_box():
    disc = np.zeros((200, 100), bool)
    disc[20:28, 20:60] = disc[24:30, 64:80] = disc[60:70, 20:80] = True
    disc[100:102, 20:24] = True  # a crumb
    boxes = disc_boxes_of(disc, 1.0)
    assert len(boxes) == 2
    assert boxes[0] == pytest.approx([14.5, 15, 84.5, 34])


def test_only_sure_answers_become_labels():
    class Half:
        def probabilities(self, images, rhythm):
            p = np.full((1, 4, *images.shape[1:]), 0.1, np.float32)
            p[:, BODY, :100] = 0.7
            return p

    labels = pseudo_labels(strip("p0").image, np.arange(ROWS), Half())
    inner = labels[:, (WIDE - COLUMNS) // 2 : -(WIDE - COLUMNS) // 2]
    assert (inner[:100] == BODY).all() and (inner[100:] == UNKNOWN).all()
    assert (labels[:, :4] == UNKNOWN).all()
