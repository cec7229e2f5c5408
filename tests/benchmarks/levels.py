"""Levels on data that training never saw: `python tests/benchmarks/levels.py SHARED_DATA [WEIGHTS]`.

SPIDER's test patients with boxes that were given (no detector's own), and the same slices with the sacrum cropped away
(flagged as uncertain?); all slices of test patients that this detector can box as well, altered: a vertebra added or
taken away, bent at a disc; all their slices as they are, boxed or not; and the volumes of two other hospitals, `vb2`
(T2) and `vb3` (T1-weighted water images: a contrast that nobody trained on). A level is right where the box's centre
lies in the gap between its two labelled vertebrae, less than a third of their distance from its middle. Prints one
JSON object.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from modic.config import LevelOptions
from modic.imaging.volume import CanonicalVolume, Volume
from modic.levels.detect import iou
from modic.levels.find import find_levels
from modic.models.weights import Model, load_detector
from modic.records import LEVELS, LevelSet
from modic.train.augment.curvature import bend
from modic.train.augment.transitional import change_count
from modic.train.data.samples import Sample
from modic.train.data.spider_slices import load_spider
from modic.train.data.split import split_of

VERTEBRAE = {"vb2": ("T11", "T12", "L1", "L2", "L3", "L4", "L5"), "vb3": ("L1", "L2", "L3", "L4", "L5")}
DRAWS = 4
SAGITTAL = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)


def measure_volumes(folder: Path, names: tuple[str, ...], detector: Model) -> dict:
    """Levels of every volume in `folder` found in the right gap under the right name."""
    right, total, wrong, flagged = 0, 0, [], 0
    paths = sorted(folder.glob("*.npz"))
    for path in paths:
        with np.load(path) as file:
            image, labels = file["image"], file["labels"]
        voxels = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
        found = find_levels(Volume(voxels, SAGITTAL).canonical(), detector=detector, options=LevelOptions())
        hits = [gap in found_gaps(found, labels, names) for gap in gaps(labels, names)]
        right, total = right + sum(hits), total + len(hits)
        flagged += found.numbering != "ok"
        wrong += [] if all(hits) else [f"{path.stem} ({found.numbering})"]
    return {"levels": total, "right": right, "volumes": len(paths), "uncertain": flagged, "wrong": wrong}


def gaps(labels: np.ndarray, names: tuple[str, ...]) -> dict[str, tuple[np.ndarray, float]]:
    """Graded levels between labelled vertebrae: middle (row, column) and distance of the vertebrae, px."""
    centres = [np.argwhere(labels == i + 1)[:, :2].mean(0) for i in range(len(names))]
    pairs = {f"{a}/{b}": (centres[i], centres[i + 1]) for i, (a, b) in enumerate(pairwise(names))}
    return {k: ((a + b) / 2, float(np.linalg.norm(a - b))) for k, (a, b) in pairs.items() if k in LEVELS}


def found_gaps(found: LevelSet, labels: np.ndarray, names: tuple[str, ...]) -> set[str]:
    """The levels whose box lies in the gap of its name."""
    boxes = {b.level: ((b.box[1] + b.box[3]) / 2, (b.box[0] + b.box[2]) / 2) for b in found.boxes}
    return {
        level
        for level, (middle, distance) in gaps(labels, names).items()
        if level in boxes and np.linalg.norm(np.array(boxes[level]) - middle) < distance / 3
    }


def one_slice(image: np.ndarray) -> CanonicalVolume:
    """A volume of one slice."""
    return Volume(np.ascontiguousarray(image[None]).astype(np.float32), SAGITTAL).canonical()


def measure_slices(samples: list[Sample], detector: Model) -> dict:
    """SPIDER: IoU by level, slices and patients named right, and how often what is uncertain is called so."""
    overlaps: dict[str, list[float]] = {level: [] for level in LEVELS}
    patients: dict[str, bool] = {}
    flags: dict[str, list[bool]] = {"as it is": [], "sacrum cropped away": []}
    whole = []
    for sample in samples:
        found = find_levels(one_slice(sample.image), detector=detector, options=LevelOptions())
        named = {b.level: np.array(b.box) for b in found.boxes}
        truth = {LEVELS[n]: box for n, box in zip(sample.names, sample.boxes, strict=True) if n >= 0}
        ious = {level: iou(named[level], box) if level in named else 0.0 for level, box in truth.items()}
        right = min(ious.values()) >= 0.5 and set(named) <= set(truth)
        whole.append(right)
        patients[sample.patient] = patients.get(sample.patient, True) and right
        for level, value in ious.items():
            overlaps[level].append(value)
        flags["as it is"].append(found.numbering != "ok")
        for image in without_sacrum(sample):
            found = find_levels(one_slice(image), detector=detector, options=LevelOptions())
            flags["sacrum cropped away"].append(found.numbering != "ok")
    return {
        "slices": len(whole),
        "slices named right": float(np.mean(whole)),
        "patients": len(patients),
        "patients named right": float(np.mean(list(patients.values()))),
        "iou": {level: round(float(np.mean([v for v in values if v > 0])), 3) for level, values in overlaps.items()},
        "flagged uncertain": {kind: round(float(np.mean(values)), 3) for kind, values in flags.items()},
    }


def without_sacrum(sample: Sample) -> list[np.ndarray]:
    """The slice ending at three places between L4/L5 and the lower edge of L5/S1."""
    upper, lower = sample.boxes[-2], sample.boxes[-1]
    centre, height = (upper[1] + upper[3]) / 2, upper[3] - upper[1]
    step = (lower[1] + lower[3]) / 2 - centre
    return [sample.image[: int(centre + share * step + 0.3 * height)] for share in (0.15, 0.5, 0.85)]


def measure_altered(samples: list[Sample], detector: Model) -> dict:
    """`DRAWS` of each kind of change a slice: share called uncertain, and named right counted from the sacrum."""
    samples = [s for s in samples if not s.other and len(s.boxes) >= 5]
    results: dict[str, Any] = {"slices": len(samples), "patients": len({s.patient for s in samples})}
    for number, kind in enumerate(("a vertebra added", "a vertebra taken away", "bent at a disc")):
        flagged, right = [], []
        for i, sample in enumerate(samples):
            for draw in range(DRAWS):
                image, boxes, names = altered(sample, kind, np.random.default_rng([number, i, draw]))
                found = find_levels(one_slice(image), detector=detector, options=LevelOptions())
                flagged.append(found.numbering != "ok")
                right.append(counted_right(found, boxes, names))
        sure = ~np.array(flagged)
        results[kind] = {
            "images": len(flagged),
            "flagged uncertain": round(float(np.mean(flagged)), 3),
            "named right": round(float(np.mean(right)), 3),
            "wrong and sure": int((sure & ~np.array(right)).sum()),
        }
    return results


def altered(sample: Sample, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (0-255), boxes and names counted from the sacrum."""
    unit = sample.image.astype(np.float32) / 255
    if kind == "bent at a disc":
        image, boxes = bend(unit, sample.boxes, rng)
        return 255 * image, boxes, sample.names
    image, boxes, names, _ = change_count(unit, sample.boxes, sample.names, rng, added=kind == "a vertebra added")
    return 255 * image, boxes, names


def counted_right(found: LevelSet, boxes: np.ndarray, names: np.ndarray) -> bool:
    """Whether every name lies on its disc. The disc above the highest box is there as well, but nobody boxed it."""
    truth = {LEVELS[n]: box for n, box in zip(names, boxes, strict=True) if n >= 0}
    top = min(names[names >= 0])
    above = {LEVELS[top - 1]: truth[LEVELS[top]]} if top > 0 else {}
    on = [iou(b.box, truth[b.level]) >= 0.4 for b in found.boxes if b.level in truth]
    over = [b.level in above and b.box[3] < above[b.level][3] for b in found.boxes if b.level not in truth]
    return bool(found.boxes) and all([*on, *over])


def measure_all(folder: Path, detector: Model) -> dict:
    """All slices of test patients, those that nothing boxed as well: how many are called uncertain."""
    paths = [p for p in sorted((folder / "images").glob("*.png")) if split_of(p.stem.split("_")[0]) == "test"]
    images = [np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths]
    found = [find_levels(one_slice(image), detector=detector, options=LevelOptions()) for image in images]
    return {"slices": len(paths), "flagged uncertain": round(float(np.mean([f.numbering != "ok" for f in found])), 3)}


def main() -> None:
    """Measure and print."""
    data, weights = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "detector"
    detector = load_detector(weights)
    given, boxed = (
        [s for s in load_spider(data / "spider", detector=by) if split_of(s.patient) == "test"] for by in ("", weights)
    )
    results = {
        "spider, test patients": measure_slices(given, detector),
        "altered": measure_altered(boxed, detector),
        "as they are": measure_all(data / "spider", detector),
    }
    results |= {name: measure_volumes(data / name, parts, detector) for name, parts in VERTEBRAE.items()}
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
