"""Weights are refused unless file, card and this version agree."""

import json
import os
import pickle

import pytest

from modic.errors import WeightsError
from modic.models.card import read_card, sha256
from modic.models.detector import build_detector
from modic.models.weights import load_detector, save_weights

ARCHITECTURE = {"backbone": "resnet18", "fpn_channels": 16, "head_features": 16}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    card = {
        "name": "tiny",
        "kind": "detector",
        "architecture": ARCHITECTURE,
        "preprocessing": {"image_size": 64, "percentiles": [1, 99]},
    }
    return save_weights(path, build_detector(ARCHITECTURE).state_dict(), card)


def altered(saved, tmp_path, **changes):
    path = tmp_path / "copy.safetensors"
    path.write_bytes(saved.read_bytes())
    card = json.loads(saved.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | changes))
    return str(path)


def test_saved_weights_load_with_their_id(saved):
    model = load_detector(str(saved))
    assert model.id == sha256(saved)[:12]
    assert not model.net.training


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "0" * 64}, "its card says"),
        ({"kind": "classifier"}, "is the card of a classifier"),
        ({"preprocessing": {"image_size": 64}}, "`percentiles` is missing"),
        (
            {"preprocessing": {"image_size": 64, "percentiles": [1, 99], "gamma": 2}},
            "unknown key `gamma`; known here: image_size, percentiles",
        ),
    ],
)
def test_a_card_that_does_not_match_is_refused(saved, tmp_path, changes, words):
    with pytest.raises(WeightsError, match=words):
        read_card(altered(saved, tmp_path, **changes), "detector")


@pytest.mark.parametrize("text", ["[]", "null", '"detector"', "{}", '{"architecture": {}, "preprocessing": []}'])
def test_what_is_no_card_is_refused(saved, tmp_path, text):
    path = altered(saved, tmp_path)
    (tmp_path / "copy.json").write_text(text)
    with pytest.raises(WeightsError, match="is no card"):
        read_card(path, "detector")


def test_an_architecture_that_does_not_fit_the_weights_is_refused(saved, tmp_path):
    with pytest.raises(WeightsError, match="does not fit its card's architecture"):
        load_detector(altered(saved, tmp_path, architecture=ARCHITECTURE | {"fpn_channels": 32}))
    with pytest.raises(WeightsError, match="architecture of the model card: unknown key `attention`; known here: anch"):
        load_detector(altered(saved, tmp_path, architecture=ARCHITECTURE | {"attention": True}))
    with pytest.raises(WeightsError, match="architecture of the model card: fpn_channels must be int, not str"):
        load_detector(altered(saved, tmp_path, architecture=ARCHITECTURE | {"fpn_channels": "32"}))


def test_missing_weights_are_named():
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors does not exist"):
        read_card("/tmp/nowhere.safetensors", "detector")


def test_the_papers_detector_can_be_built_from_a_card():
    net = build_detector({"backbone": "resnet50"})
    assert net.roi_heads.box_predictor.cls_score.out_features == 7


class Owned:
    """What a pickle could run."""

    def __reduce__(self):
        return (os.mkdir, ("owned",))


def test_a_pickle_named_safetensors_is_refused_and_not_run(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "copy.safetensors"
    path.write_bytes(pickle.dumps(Owned()))
    card = json.loads(saved.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"sha256": sha256(path)}))
    with pytest.raises(WeightsError, match="is not safetensors"):
        load_detector(str(path))
    assert not (tmp_path / "owned").exists()
