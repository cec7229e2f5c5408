"""The JSON card beside a file of weights: read, checked against the file, hashed.

A card (`NAME.json`) has: `name`, `kind` (detector | classifier), `architecture` (what modic.models.detector or
modic.models.classifier builds), `preprocessing` (what training did to a pixel and grading must do again), `sha256` of
`NAME.safetensors`, `data`, `recipe`, `results`, `limits`, `licence`, and for a classifier `calibration`. People read
`NAME.md`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from modic.decode import decode
from modic.errors import WeightsError

T = TypeVar("T")

SHIPPED = Path(__file__).parent / "shipped"
SEGMENTER = "endplates"  # the shipped weights that find endplates
"""The folder of the weights that come with modic."""

PARTS = ("architecture", "preprocessing")
"""What every card must have, each an object."""

PREPROCESSING = {
    "detector": frozenset({"image_size", "percentiles"}),
    "classifier": frozenset({"normalization", "region_scale", "region_size", "slices"}),
    "segmenter": frozenset({"columns", "percentiles", "width_px"}),
}
"""Exactly the preprocessing this version knows how to do; a card with more or fewer keys is refused."""

OPTIONAL = {"detector": frozenset[str](), "classifier": frozenset({"contrasts"}), "segmenter": frozenset[str]()}
"""Keys of `preprocessing` that a card may leave out (`contrasts`)."""

DEFAULT_CONTRASTS = ("t1", "t2")
"""What a classifier's card without `contrasts` means."""

CONTRASTS = ("t1", "t2", "stir", "t1_fat_suppressed", "t2_fat_suppressed", "t1_post_contrast", "proton_density")
"""The contrasts that a classifier can be shown, by the names that modic.series.contrast gives to series."""


def contrasts(card: dict[str, Any]) -> tuple[str, ...]:
    """The contrasts that a classifier is shown, in the order of its input channels."""
    return tuple(card["preprocessing"].get("contrasts", DEFAULT_CONTRASTS))


def parse_architecture(cls: type[T], architecture: dict[str, Any]) -> T:
    """The card's `architecture` as a `cls`. Raises WeightsError for an unknown key or a value of another type."""
    return decode(cls, architecture, "architecture of the model card", error=WeightsError)


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
        expected = str(card.get("sha256"))[:12]
        raise WeightsError(f"{kind} weights: {path} has SHA-256 {digest[:12]}…, its card says {expected}…")
    _check_preprocessing(card, card_path, kind)
    return card, path


def _check_preprocessing(card: dict[str, Any], path: Path, kind: str) -> None:
    """Raises WeightsError for preprocessing that this version does not know, or contrasts that no series has."""
    differ = PREPROCESSING[kind] ^ (set(card["preprocessing"]) - OPTIONAL[kind])
    if differ:
        keys = ", ".join(sorted(differ))
        raise WeightsError(f"{kind} weights: preprocessing of {path} does not match this version: {keys}")
    wanted = card["preprocessing"].get("contrasts", list(DEFAULT_CONTRASTS))
    if not isinstance(wanted, list) or not wanted or len(set(map(str, wanted))) < len(wanted):
        raise WeightsError(f"{kind} weights: `contrasts` of {path} must be a list of different names, not {wanted!r}")
    if unknown := [str(name) for name in wanted if name not in CONTRASTS]:
        known = ", ".join(CONTRASTS)
        raise WeightsError(f"{kind} weights: {path} asks for contrasts {', '.join(unknown)}; known: {known}")


def model_id(card: dict[str, Any]) -> str:
    """First 12 hex digits of the weights' SHA-256, as the tables show it."""
    return str(card["sha256"])[:12]


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
