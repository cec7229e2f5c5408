"""Weights as safetensors beside a JSON card; nothing is unpickled, and nothing runs that does not match its card
(modic/models/card.py)."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modic.errors import WeightsError
from modic.models.card import SEGMENTER, contrasts, model_id, read_card, sha256
from modic.models.device import compute_exactly
from modic.models.fold import fold
from modic.models.onnx_trunk import fast_trunk
from modic.models.step_classifier import StepClassifier, load_step_classifier

if TYPE_CHECKING:
    from torch import nn

    from modic.models.endplate_net import Segmenter
    from modic.models.network import Network

Net = TypeVar("Net")
LITE = "efficientnet_lite0"


@dataclass(frozen=True, eq=False)
class Model(Generic[Net]):
    """A network in evaluation mode on its device, with its card. `id`: first 12 hex digits of the weights' SHA-256."""

    net: Net
    card: dict[str, Any]
    id: str
    device: str


@dataclass(frozen=True, eq=False)
class Models:
    """The networks that a worker keeps loaded."""

    detector: "Model[nn.Module]"
    classifier: "Model[Network]"
    segmenter: "Segmenter | None" = None  # finds endplates; None: the marrow is not measured
    steps: StepClassifier | None = None  # follows the spine up to C2; None: nothing is counted from there

    @property
    def identity(self) -> dict[str, str]:
        """The columns of a row that name what graded it."""
        return {
            "normalization": self.classifier.card["preprocessing"]["normalization"],
            "detector_id": self.detector.id,
            "classifier_id": self.classifier.id,
            "device": self.detector.device,
        }

    def usable(self) -> bool:
        """Whether their device still answers this process."""
        if self.detector.device == "cpu":
            return True
        import torch

        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return False
        return True

    def free_memory(self) -> bool:
        """Give back what this process keeps of the GPU's memory for its next study; whether it has a GPU."""
        if self.detector.device == "cpu":
            return False
        import torch

        with suppress(RuntimeError):  # the GPU is lost; `usable` says so
            torch.cuda.empty_cache()
        return True


@cache
def load_models(detector: str, classifier: str, device: str) -> Models:
    """Detector, classifier and what cannot be chosen on `device`, loaded once a process. Raises WeightsError."""
    networks = load_detector(detector, device=device), load_classifier(classifier, device=device)
    return Models(*networks, load_segmenter(device=device), load_step_classifier())


def load_detector(name: str = "detector", *, device: str = "cpu") -> "Model[nn.Module]":
    """The Faster R-CNN that a card describes, in evaluation mode. Raises WeightsError (`read_card`)."""
    from modic.models.detector import build_detector
    from modic.models.detector_heads import quicken

    model = _load(name, "detector", lambda card: build_detector(card["architecture"]), device)
    quicken(model.net)
    if device == "cpu" and model.card["architecture"].get("backbone") == LITE:
        model.net.backbone.body = fast_trunk(model.net.backbone.body)
    return model


def load_classifier(name: str = "classifier", *, device: str = "cpu") -> Model[Any]:
    """The classifier that a card describes, a module and a Network, in evaluation mode. WeightsError: `read_card`."""
    from modic.models.classifier import build_classifier

    model = _load(name, "classifier", lambda card: build_classifier(card["architecture"], contrasts(card)), device)
    if device == "cpu" and model.card["architecture"].get("backbone") == LITE:
        model.net.trunk = fast_trunk(model.net.trunk)
    return model


def load_segmenter(name: str = SEGMENTER, *, device: str = "cpu") -> "Segmenter":
    """The network that finds endplates, named by its card, ready for service. Raises WeightsError (`read_card`)."""
    from modic.models.endplate_net import build_segmenter, segmenter_of

    model = _load(name, "segmenter", lambda card: build_segmenter(card["architecture"]), device)
    return segmenter_of(model.net, model.card, model.id, device)


def _load(name: str, kind: str, build: "Callable[[dict[str, Any]], nn.Module]", device: str) -> Model[Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if device != "cpu":
        compute_exactly()
    card, path = read_card(name, kind)
    net = build(card)
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{kind} weights: {path} is not safetensors: {error}") from error
    state = {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        why = str(error)[:200]
        raise WeightsError(f"{kind} weights: {path} does not fit its card's architecture: {why}") from error
    folded = fold(net.eval(), device=device)
    return Model(folded.requires_grad_(False).to(device), card, model_id(card), device)


def save_weights(path: Path, state: dict[str, Any], card: dict[str, Any]) -> Path:
    """Write `path` (fp16 safetensors) and the card beside it with the file's hash; returns `path`."""
    from safetensors.torch import save_file

    half = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, path)
    text = json.dumps({**card, "sha256": sha256(path)}, indent=2, ensure_ascii=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return path
