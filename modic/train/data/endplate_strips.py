"""Strips with masks to train the segmenter on: SPIDER's T2 SPACE with masks by people, phantoms, and paired slices.

Paired slices are SPIDER's T1 and T2 without masks. A first network labels the T2, and the T1 of the same patient, which
lies on it to a pixel, gets the same labels. Labels are modic.phantom.masks' (`UNKNOWN`: neither right nor wrong).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import label as components

from modic.errors import UsageError
from modic.imaging.spine_strip import COLUMNS, WIDTH_PX, Strip, lay_strip
from modic.phantom.masks import BODY, CANAL, DISC, UNKNOWN
from modic.phantom.render import BOX_MARGIN_MM
from modic.records import LEVELS
from modic.train.data.spider_discs import spider_pair
from modic.train.data.spider_slices import boxed_by, evenly_spaced

if TYPE_CHECKING:
    from modic.models.endplate_net import Segmenter

WIDE = COLUMNS + 32  # columns with a margin for augmentation
SPACE_MM = 0.47  # pixels of SPIDER's T2 SPACE
SPACE_LABELS = {76: BODY, 29: DISC, 150: CANAL}
SMALLEST_DISC_MM2 = 60.0  # what is smaller is a crumb of a mask
DISCS_APART_MM = 12.0  # between the heights of neighbours' centres, at least
BODY_HALF = 0.46  # of a box's width from a disc's centre: no vertebral body reaches farther back


@dataclass(frozen=True, eq=False)
class StripSample:
    """One slice as a strip. `image` float32 (rows, WIDE) in 0..1, `labels` uint8 alike, `rhythm` (rows,)."""

    image: np.ndarray
    labels: np.ndarray
    rhythm: np.ndarray
    patient: str
    contrast: str  # t1 | t2 | stir
    source: str  # space | phantom | spider


def space_strips(folder: Path) -> list[StripSample]:
    """Slices of SPIDER's T2 SPACE with masks, `folder`/<patient>.npz. Raises UsageError if there are none."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise UsageError(f"{folder} holds no <patient>.npz with image and mask")
    return [sample for path in paths for sample in _space_patient(path)]


def _space_patient(path: Path) -> Iterator[StripSample]:
    with np.load(path) as file:
        images, masks = file["image"], file["mask"]
    boxes = _space_boxes(masks)
    if boxes is None:
        return
    strip = strip_of(boxes, np.arange(len(LEVELS) - len(boxes), len(LEVELS)))  # the lowest disc is L5/S1
    for image, mask in zip(images, masks, strict=True):
        labels = np.zeros(mask.shape, np.uint8)
        for value, meaning in SPACE_LABELS.items():
            labels[mask == value] = meaning
        there = bodies_only(sampled(labels, strip, nearest=True))
        there[(strip.rhythm > len(LEVELS) - 1 + 0.05)[:, None] & (there == 0)] = UNKNOWN  # the sacrum has no mask
        if (there == CANAL).any(1).mean() > 0.3:
            yield StripSample(_unit(sampled(image, strip)), there, strip.rhythm, path.stem, "t2", "space")


def _space_boxes(masks: np.ndarray) -> np.ndarray | None:
    """Boxes of the lowest six discs on the slice nearest to the middle where they are evenly spaced, or None."""
    for index in sorted(range(len(masks)), key=lambda i: abs(i - len(masks) // 2)):
        boxes = disc_boxes_of(masks[index] == 29, SPACE_MM)[-len(LEVELS) :]
        if len(boxes) >= 4 and evenly_spaced(boxes):
            return boxes
    return None


def disc_boxes_of(disc: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Boxes (n, 4) of discs in a mask, head to foot, with the margins of a detector's. Parts of one disc, which lie
    nearer to each other than discs do, share a box."""
    numbered, n = components(disc)
    margin = np.array([*BOX_MARGIN_MM, *BOX_MARGIN_MM]) * (-1, -1, 1, 1) / pixel_mm
    boxes: list[np.ndarray] = []
    for index in np.argsort([np.nonzero(numbered == i)[0].mean() for i in range(1, n + 1)]) + 1:
        rows, columns = np.nonzero(numbered == index)
        box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], float)
        if len(rows) * pixel_mm**2 < SMALLEST_DISC_MM2:
            continue
        if boxes and (box[1] + box[3] - boxes[-1][1] - boxes[-1][3]) / 2 * pixel_mm < DISCS_APART_MM:
            last = boxes.pop()
            box = np.concatenate([np.minimum(box[:2], last[:2]), np.maximum(box[2:], last[2:])])
        boxes.append(box)
    return np.array([box + margin for box in boxes])


def strip_of(boxes: np.ndarray, levels: np.ndarray) -> Strip:
    """A wide strip along boxes (n, 4) of a slice, in its pixels."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return lay_strip(centres, list(levels), float(np.median(boxes[:, 2] - boxes[:, 0])), columns=WIDE)


def sampled(image: np.ndarray, strip: Strip, *, nearest: bool = False) -> np.ndarray:
    """A slice (rows, columns) at a strip's pixels; 0 outside."""
    points = strip.points.astype(np.float32)
    if not nearest and strip.step > 1.5:  # a fine matrix must not be aliased
        image = cv2.GaussianBlur(image, (0, 0), 0.35 * strip.step)
    order = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.remap(image, points[..., 0], points[..., 1], order, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values / max(float(np.percentile(values, 99.8)), 1e-6)).clip(0, 1).astype(np.float32)


def bodies_only(labels: np.ndarray) -> np.ndarray:
    """Without the posterior elements of the vertebrae, which SPIDER's masks include: what lies behind the middle of
    the canal. Where the canal is not seen, what may be pedicle is UNKNOWN."""
    columns = np.arange(labels.shape[1])
    canal = labels == CANAL
    seen = np.flatnonzero(canal.any(1))
    middle = np.array([columns[canal[row]].mean() for row in seen])
    out = labels.copy()
    half = BODY_HALF * WIDTH_PX + (labels.shape[1] - 1) / 2
    for row in range(len(labels)):
        near = middle[np.abs(seen - row) <= 8]
        limit, meaning = (np.median(near), 0) if len(near) else (half, UNKNOWN)
        out[row, (labels[row] == BODY) & (columns > limit)] = meaning
    return out


def phantom_strips(patients: int, *, seed: int, cache: Path) -> list[StripSample]:
    """Three slices of T1 and T2 (every fourth patient: STIR as well) of synthetic patients; kept in a cache."""
    from modic.phantom.many import on_all_cores

    path = cache / f"endplates-{patients}-{seed}.npz"
    if not path.is_file():
        made = on_all_cores(_phantom_patient, range(seed * 1_000_000 + 500_000, seed * 1_000_000 + 500_000 + patients))
        samples = [sample for group in made for sample in group]
        cache.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, np.ndarray] = {}
        for index, s in enumerate(samples):
            name = f"{index}_{s.patient}_{s.contrast}"
            arrays |= {f"{name}_image": (255 * s.image).astype(np.uint8), f"{name}_labels": s.labels}
            arrays |= {f"{name}_rhythm": s.rhythm.astype(np.float32)}
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    with np.load(path) as stored:
        names = sorted({name.rsplit("_", 1)[0] for name in stored.files})
        return [
            StripSample(
                stored[f"{name}_image"].astype(np.float32) / 255, stored[f"{name}_labels"], stored[f"{name}_rhythm"],
                name.split("_")[1], name.split("_")[2], "phantom",
            )
            for name in names
        ]  # fmt: skip


def _phantom_patient(seed: int) -> list[StripSample]:
    from modic.phantom.anatomy import make_patient
    from modic.phantom.masks import tissue_masks
    from modic.phantom.render import Grid, disc_boxes, render_many
    from modic.train.data.phantom_slices import random_sequence

    patient = make_patient(seed, p_mc1=0.2, p_mc2=0.25, p_transitional=0.0)
    rng = np.random.default_rng([seed, 5])
    _, y, z = patient.lumbar_centre_mm
    centre = (float(patient.lateral(z) + rng.normal(0, 3)), y, z - 15.0)
    grid = Grid("sagittal", 300, 220, float(rng.uniform(0.85, 1.1)), 3, float(rng.uniform(4, 8)), 2.0, centre)
    contrasts = ("t1", "t2", "stir") if seed % 4 == 0 else ("t1", "t2")
    volumes = render_many(
        patient, grid, [random_sequence(name, rng) for name in contrasts], seed=0, snr=float(rng.uniform(10, 60)),
        coil=float(rng.random()),
    )  # fmt: skip
    named = [(LEVELS.index(name), box) for name, box in disc_boxes(patient, grid, 1) if name]
    strip = strip_of(np.array([box for _, box in named]), np.array([level for level, _ in named]))
    sample = partial(StripSample, rhythm=strip.rhythm, patient=f"p{seed}", source="phantom")
    return [
        sample(_unit(sampled(volume.voxels[i], strip)), sampled(labels, strip, nearest=True), contrast=name)
        for i, labels in enumerate(tissue_masks(patient, grid))
        for name, volume in zip(contrasts, volumes, strict=True)
    ]


def spider_boxes(folder: Path, detector: str, cache: Path) -> dict[str, dict]:
    """Boxes of SPIDER's slices by people, and by a detector where there are none; kept in a cache."""
    path = cache / "boxes.json"
    if not path.is_file():
        boxes = json.loads((folder / "disc_boxes.json").read_text(encoding="utf-8"))
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(boxed_by(detector, folder, boxes) if detector else boxes), encoding="utf-8")
    stored: dict[str, dict] = json.loads(path.read_text(encoding="utf-8"))
    return stored


def paired_strips(folder: Path, boxes: dict[str, dict], segmenter: "Segmenter") -> list[StripSample]:
    """SPIDER's mid-sagittal T2 and T1 with the labels that a first network gives the T2 (`pseudo_labels`)."""
    samples = []
    for path in sorted((folder / "images").glob("*_t2.png")):
        patient = path.stem.removesuffix("_t2")
        pair = spider_pair(folder / "images", patient, boxes)
        if pair is None:
            continue
        volumes, on_t2 = pair
        t1, t2 = volumes["t1"], volumes["t2"]
        found = np.array(on_t2[-len(LEVELS) :])
        strip = strip_of(found, np.arange(len(LEVELS) - len(found), len(LEVELS)))
        on_t1 = t1.to_index(t2.to_mm(np.dstack([strip.points, np.zeros(strip.points.shape[:2])]).reshape(-1, 3)))
        moved = replace(strip, points=on_t1[:, :2].reshape(strip.points.shape))
        image = _unit(sampled(t2.voxels[0], strip))
        labels = pseudo_labels(image, strip.rhythm, segmenter)
        for contrast, values in (("t2", image), ("t1", _unit(sampled(t1.voxels[0], moved)))):
            samples.append(StripSample(values, labels, strip.rhythm, patient, contrast, "spider"))
    return samples


def pseudo_labels(image: np.ndarray, rhythm: np.ndarray, segmenter: "Segmenter", sure: float = 0.7) -> np.ndarray:
    """uint8 (rows, WIDE): the class that a network gives with probability `sure`, else UNKNOWN; so are the margins."""
    margin = (image.shape[1] - COLUMNS) // 2
    inner = slice(margin, margin + COLUMNS)
    p = segmenter.probabilities(image[None, :, inner], rhythm)[0]
    labels = np.full(image.shape, UNKNOWN, np.uint8)
    labels[:, inner] = np.where(p.max(0) >= sure, p.argmax(0), UNKNOWN)
    return labels
