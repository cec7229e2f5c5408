"""Labelled discs, which the classifier learns from: regions as grading cuts them, with a margin for augmentation."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modic.config import LevelOptions
from modic.imaging.regions import cut_regions
from modic.imaging.volume import CanonicalVolume
from modic.models.card import DEFAULT_CONTRASTS
from modic.records import LEVELS, LevelBox, LevelSet, Region
from modic.train.data.disc_geometry import DiscGeometry, disc_geometry

MARGIN = 1.5  # side of a cached region / side of the region that the network reads
ONE_SLICE = frozenset({"spider", "slices"})  # sources with one slice a contrast


@dataclass(frozen=True, eq=False)
class Disc:
    """One labelled disc."""

    contrasts: dict[str, np.ndarray]  # in the order of a network's input: float32 (slices, n, n), n = size * MARGIN
    label: int  # Modic type 0, 1, 2
    level: str
    patient: str  # SPIDER's number, `phantom-<seed>`, or the name in a user's labels
    source: str  # spider | phantom | one of modic.train.data.KINDS
    geometry: DiscGeometry
    degeneration: int  # Pfirrmann grade 1-5, 0 unknown
    scanner: str = ""  # `scanner_name`; empty if unknown
    marrow: np.ndarray | None = None  # float64 (modic.grading.marrow_features.FEATURES,); None: not measured

    @property
    def real(self) -> bool:
        """Whether the disc is a patient's."""
        return self.source != "phantom"

    @property
    def one_slice(self) -> bool:
        """Whether the source has only one slice of the disc, which is then repeated."""
        return self.source in ONE_SLICE


def scanner_name(manufacturer: Any, field_t: Any) -> str:
    """Manufacturer and field strength, such as `Philips 3 T`; empty if either is missing.

    Only the first word of the manufacturer is taken, and only its letters: header text is not to be trusted.
    """
    word = re.match(r"\W*([A-Za-z]{2,20})", str(manufacturer or ""))
    try:
        field = float(field_t)
    except (TypeError, ValueError):
        return ""
    return f"{word.group(1).title()} {field:.2g} T" if word and 0 < field < 20 else ""


def wide(preprocessing: dict[str, Any]) -> dict[str, Any]:
    """Preprocessing that cuts a region with its margin, on the same pixel grid as the region without it."""
    size = round(preprocessing["region_size"] * MARGIN / 2) * 2
    scale = preprocessing["region_scale"] * size / preprocessing["region_size"]
    return {**preprocessing, "region_scale": scale, "region_size": size}


def cut_discs(
    volumes: dict[str, CanonicalVolume], boxes: list[LevelBox], labels: dict[str, tuple[int, int]], *, patient: str,
    source: str, preprocessing: dict[str, Any], scanner: str = "", marrow: dict[str, np.ndarray] | None = None,
) -> Iterator[Disc]:  # fmt: skip
    """Cut the labelled discs of one patient; those that cannot be cut are left out.

    Args:
        volumes: of each contrast, in the order of the network's input and one frame of reference.
        boxes: in native pixels of the T2, or of the STIR if there is no T2.
        labels: level → (Modic type, Pfirrmann grade or 0).
        preprocessing: of the classifier, without the margin.
    """
    larger = wide(preprocessing)
    levels = LevelSet(tuple(boxes), "ok", 1.0)
    parts = cut_regions(volumes, levels, preprocessing=larger, options=LevelOptions())
    for box, part in zip(boxes, parts, strict=True):
        if isinstance(part, Region) and box.level in labels:
            width = larger["region_size"] / larger["region_scale"]
            geometry = disc_geometry(box.box, front_down=box.level in LEVELS[-2:], width_px=width)
            label, degeneration = labels[box.level]
            numbers = (marrow or {}).get(box.level)
            yield Disc(part.contrasts, label, box.level, patient, source, geometry, degeneration, scanner, numbers)


def save_discs(path: Path, discs: list[Disc]) -> None:
    """Write a cache of discs: images in half precision, each contrast scaled to 0..1 of its region first."""
    names = list(discs[0].contrasts)
    images = np.stack([np.stack([_unit(d.contrasts[name]) for name in names]).astype(np.float16) for d in discs])
    rows = [(d.label, d.level, d.patient, d.source, d.degeneration, d.scanner) for d in discs]
    shapes = np.array([(d.geometry.width, d.geometry.thickness, d.geometry.tilt) for d in discs])
    nothing = np.full(max((len(d.marrow) for d in discs if d.marrow is not None), default=0), np.nan)
    marrow = np.array([nothing if d.marrow is None else d.marrow for d in discs])
    path.parent.mkdir(parents=True, exist_ok=True)
    contrasts = np.array(names)
    np.savez(path, images=images, rows=np.array(json.dumps(rows)), shapes=shapes, marrow=marrow, contrasts=contrasts)


def load_discs(path: Path) -> list[Disc]:
    """The discs that `save_discs` wrote."""
    with np.load(path) as file:
        images, rows, shapes = file["images"], json.loads(str(file["rows"])), file["shapes"]
        names = file["contrasts"].tolist() if "contrasts" in file else list(DEFAULT_CONTRASTS)
        marrow = file["marrow"] if "marrow" in file else np.zeros((len(rows), 0))
    discs = []
    for both, row, shape, measured in zip(images, rows, shapes, marrow, strict=True):
        label, level, patient, source, degeneration, scanner = row
        contrasts = {name: image.astype(np.float32) for name, image in zip(names, both, strict=True)}
        geometry = DiscGeometry(*map(float, shape))
        numbers = measured if len(measured) else None
        discs.append(Disc(contrasts, label, level, patient, source, geometry, degeneration, scanner, numbers))
    return discs


def _unit(values: np.ndarray) -> np.ndarray:
    return values / max(float(np.abs(values).max()), 1e-6)
