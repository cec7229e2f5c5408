"""The JSON card beside a file of weights: read, checked against the file, hashed.

A card (`NAME.json`) has: `name`, `kind` (detector | classifier | segmenter | steps), `architecture` (what
modic.models.detector, classifier, endplate_net or step_classifier builds), `preprocessing` (what training did to a
pixel and grading must do again), `sha256` of `NAME.safetensors`, `data`, `recipe`, `results`, `limits`, `licence`, and
for a classifier `calibration`. People read `NAME.md`.

The classes here say what every value that grading uses may be. A card outside of that is refused before a run starts.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from modic.decode import decode
from modic.errors import WeightsError
from modic.grades import CLASSES

T = TypeVar("T")

Width = Annotated[int, Field(ge=1, le=4096)]  # of a layer, or of something in pixels
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Percentiles = tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]]
OF_CLASSES = (Field(min_length=CLASSES, max_length=CLASSES),)
PerClass = Annotated[tuple[Share, ...], *OF_CLASSES]
Normalization = Literal["none", "standardize", "clahe", "gamma"]
"""What modic.imaging.normalize can do."""


@dataclass(frozen=True, slots=True)
class DetectorPreprocessing:
    """From a slice to the detector's input (modic.levels.detect)."""

    image_size: Annotated[int, Field(ge=32, le=4096)]  # px, both sides
    percentiles: Percentiles


@dataclass(frozen=True, slots=True)
class ClassifierPreprocessing:
    """From volumes to the classifier's input (modic.imaging.regions, modic.imaging.normalize)."""

    normalization: Normalization
    region_scale: Annotated[float, Field(ge=0.5, le=10)]  # side of the region over the width of the disc's box
    region_size: Annotated[int, Field(ge=4, le=1024)]  # px, both sides
    slices: Annotated[int, Field(ge=1, le=99)]
    contrasts: tuple[str, ...] = ("t1", "t2")


@dataclass(frozen=True, slots=True)
class SegmenterPreprocessing:
    """From a volume to the segmenter's strips (modic.imaging.spine_strip)."""

    columns: Annotated[int, Field(ge=8, le=4096)]
    percentiles: Percentiles
    width_px: Annotated[float, Field(ge=4, le=4096)]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Quantiles of the prediction sets by the share of sets that may miss (modic.grading.thresholds)."""

    alpha: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    q: tuple[PerClass, ...]


@dataclass(frozen=True, slots=True)
class ClassifierCalibration:
    """From logits to grades (modic.grading.classify)."""

    temperature: Annotated[float, Field(ge=0.01, le=100)]
    conformal_q: PerClass
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    thresholds: Thresholds | None = None
    prior: PerClass | None = None  # this and the next describe what it was fitted on
    shift: Annotated[tuple[Annotated[float, Field(ge=-100, le=100)], ...], *OF_CLASSES] | None = None
    folds: Count | None = None
    patients: Count | None = None
    discs: dict[str, Count] | None = None
    sources: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NumberingCalibration:
    """From detector scores to probabilities of names (modic.levels.certainty.Calibration)."""

    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    doubted: Share = 0.5
    intercept: Annotated[float, Field(ge=-100, le=100)] = 0.0
    slope: Annotated[float, Field(ge=-100, le=100)] = 1.0
    another_disc: Annotated[float, Field(ge=-100, le=100)] = 0.0


@dataclass(frozen=True, slots=True)
class DetectorCalibration:
    """What a detector's card may say of its scores."""

    numbering: NumberingCalibration = NumberingCalibration()


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing."""


SHIPPED = Path(__file__).parent / "shipped"
"""The folder of the weights that come with modic."""

SEGMENTER, STEPS = "endplates", "count_from_c2"
"""The shipped weights that find endplates, and those that count discs from C2 (both cannot be chosen)."""

DESIGNS = ("paper",)
"""Folders of shipped weights that hold a detector and a classifier of one design."""

PARTS = ("architecture", "preprocessing")
"""What every card must have, each an object."""

PREPROCESSING: dict[str, Any] = {
    "detector": DetectorPreprocessing,
    "classifier": ClassifierPreprocessing,
    "segmenter": SegmenterPreprocessing,
    "steps": Nothing,  # its features are made by modic.levels.count_from_c2 in one way
}
"""The preprocessing that this version knows how to do; a card with more or fewer keys is refused."""

CALIBRATION: dict[str, Any] = {
    "detector": DetectorCalibration,
    "classifier": ClassifierCalibration,
    "segmenter": Nothing,
    "steps": Nothing,
}
"""What this version uses of a card's `calibration`; the rest of it describes."""

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


def weights_path(name: str, kind: str) -> Path:
    """The file of shipped weights (`detector`), of a design (`paper`), of a path to NAME.safetensors, or of that kind
    in a folder or in its own folder there (where `modic train classifier --out DIR/classifier` puts it)."""
    folder = Path(name) if is_path(name) else SHIPPED / name
    if not folder.is_dir():
        return folder if is_path(name) else folder.with_suffix(".safetensors")
    path, own = folder / f"{kind}.safetensors", folder / kind / f"{kind}.safetensors"
    return own if own.is_file() and not path.is_file() else path


def is_path(name: str) -> bool:
    """Whether `name` is a file or folder of somebody's weights; else it names shipped ones."""
    if Path(name).name != name or "." in name:
        return True
    shipped = (SHIPPED / name).is_dir() or (SHIPPED / f"{name}.safetensors").is_file()
    return Path(name).is_dir() and not shipped


def read_card(name: str, kind: str) -> tuple[dict[str, Any], Path]:
    """The card of weights by name, path or folder (`weights_path`), checked against the file.

    Costs no torch import. Raises WeightsError naming what does not match: file missing, hash, kind, preprocessing.
    """
    path = weights_path(name, kind)
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
    _check_preprocessing(card, f"{kind} weights: preprocessing of {card_path}", kind)
    _check_calibration(card, f"{kind} weights: calibration of {card_path}", kind)
    return card, path


def _check_preprocessing(card: dict[str, Any], where: str, kind: str) -> None:
    """Raises WeightsError for preprocessing that this version does not know, or contrasts that no series has."""
    decoded = decode(PREPROCESSING[kind], card["preprocessing"], where, error=WeightsError)
    percentiles = getattr(decoded, "percentiles", (0, 100))
    if not percentiles[0] < percentiles[1]:
        raise WeightsError(f"{where}: the first of `percentiles` must be below the second, not {percentiles}")
    wanted = getattr(decoded, "contrasts", DEFAULT_CONTRASTS)
    if not wanted or len(set(wanted)) < len(wanted):
        raise WeightsError(f"{where}: `contrasts` must be a list of different names, not {list(wanted)!r}")
    if unknown := [name for name in wanted if name not in CONTRASTS]:
        known = ", ".join(CONTRASTS)
        raise WeightsError(f"{where} asks for contrasts {', '.join(unknown)}; known: {known}")


def _check_calibration(card: dict[str, Any], where: str, kind: str) -> None:
    """Raises WeightsError for values that grading cannot use."""
    given = card.get("calibration", {})
    if not isinstance(given, dict):
        raise WeightsError(f"{where} must hold keys and values")
    used = {key.name for key in fields(CALIBRATION[kind])}
    decoded = decode(CALIBRATION[kind], {k: v for k, v in given.items() if k in used}, where, error=WeightsError)
    table = getattr(decoded, "thresholds", None)
    if table and (len(table.alpha) != len(table.q) or list(table.alpha) != sorted(set(table.alpha))):
        raise WeightsError(f"{where}: thresholds: `alpha` must ascend, and `q` have a row for each")


def model_id(card: dict[str, Any]) -> str:
    """First 12 hex digits of the weights' SHA-256, as the tables show it."""
    return str(card["sha256"])[:12]


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
