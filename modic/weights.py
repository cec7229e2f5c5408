"""Weights as safetensors beside a JSON card; nothing is unpickled, and nothing runs that does not match its card.

A card (`NAME.json`) has: `name`, `kind` (detector | classifier), `architecture` (modic.nets), `preprocessing` (what
training did to a pixel and service must do again), `sha256` of `NAME.safetensors`, `data`, `recipe`, `results`,
`limits`, `licence`, and for a classifier `calibration`. People read `NAME.md`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modic.errors import WeightsError

if TYPE_CHECKING:
    from torch import nn

SHIPPED = Path(__file__).parent / "weights"

PREPROCESSING = {
    "detector": frozenset({"image_size", "percentiles"}),
    "classifier": frozenset({"normalization", "region_scale", "region_size", "slices"}),
}
"""Exactly the preprocessing this version knows how to do; a card with more or fewer keys is refused."""


PARTS = ("architecture", "preprocessing")


@dataclass(frozen=True, eq=False)
class Model:
    """A network in evaluation mode on its device, with its card. `id`: first 12 hex digits of the SHA-256."""

    net: "nn.Module"
    card: dict[str, Any]
    id: str
    device: str


def read_card(name: str, kind: str) -> tuple[dict[str, Any], Path]:
    """The card of shipped weights (`detector`) or of a path to NAME.safetensors, checked against the file.

    Costs no torch import. Raises WeightsError naming what does not match: file missing, hash, kind, preprocessing.
    """
    path = SHIPPED / f"{name}.safetensors" if Path(name).name == name and "." not in name else Path(name)
    card_path = path.with_suffix(".json")
    for file in (path, card_path):
        if not file.is_file():
            raise WeightsError(f"{kind} weights: {file} does not exist")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{kind} weights: {card_path} is not JSON: {error}") from error
    if not isinstance(card, dict) or not all(isinstance(card.get(part), dict) for part in PARTS):
        raise WeightsError(f"{kind} weights: {card_path} is no card: it has no {' and '.join(PARTS)}")
    if card.get("kind") != kind:
        raise WeightsError(f"{kind} weights: {card_path} is the card of a {card.get('kind')}")
    digest = sha256(path)
    if card.get("sha256") != digest:
        said = str(card.get("sha256"))[:12]
        raise WeightsError(f"{kind} weights: {path} has SHA-256 {digest[:12]}…, its card says {said}…")
    differ = PREPROCESSING[kind] ^ set(card["preprocessing"])
    if differ:
        keys = ", ".join(sorted(differ))
        raise WeightsError(f"{kind} weights: preprocessing of {card_path} does not match this version: {keys}")
    return card, path


def model_id(card: dict[str, Any]) -> str:
    """First 12 hex digits of the weights' SHA-256, as the tables show it."""
    return str(card["sha256"])[:12]


def load_detector(name: str = "detector", *, device: str = "cpu") -> Model:
    """Faster R-CNN named by its card, in evaluation mode. Raises WeightsError (`read_card`)."""
    from modic.nets import build_detector

    return _load(name, "detector", build_detector, device)


def load_classifier(name: str = "classifier", *, device: str = "cpu") -> Model:
    """Dual 3D ResNet named by its card, in evaluation mode. Raises WeightsError (`read_card`)."""
    from modic.nets import build_classifier

    return _load(name, "classifier", build_classifier, device)


def _load(name: str, kind: str, build: Any, device: str) -> Model:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card, path = read_card(name, kind)
    net = build(card["architecture"])
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
    return Model(net.eval().requires_grad_(False).to(device), card, model_id(card), device)


def save_weights(path: Path, state: dict[str, Any], card: dict[str, Any]) -> Path:
    """Write `path` (fp16 safetensors) and the card beside it with the file's hash; returns `path`."""
    from safetensors.torch import save_file

    half = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, path)
    text = json.dumps({**card, "sha256": sha256(path)}, indent=2, ensure_ascii=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return path


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
