"""The JSON card beside a file of weights: read, checked against the file, hashed."""

from typing import TYPE_CHECKING, Any

from modic.errors import WeightsError

if TYPE_CHECKING:
    pass
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def parse_architecture(cls: type, architecture: dict[str, Any]) -> Any:
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in architecture.items()})
    except TypeError as error:
        raise WeightsError(f"the card's architecture does not fit {cls.__name__}: {error}") from error


SHIPPED = Path(__file__).parent / "shipped"

PREPROCESSING = {
    "detector": frozenset({"image_size", "percentiles"}),
    "classifier": frozenset({"normalization", "region_scale", "region_size", "slices"}),
    "segmenter": frozenset({"columns", "percentiles", "width_px"}),
}
"""Exactly the preprocessing this version knows how to do; a card with more or fewer keys is refused."""


PARTS = ("architecture", "preprocessing")


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


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
