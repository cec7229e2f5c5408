"""Levels on data that training never saw: `python tests/benchmarks/levels.py SHARED_DATA [WEIGHTS]`.

SPIDER's test patients with boxes that were given (no detector's own), the same slices with the sacrum cropped away or
a vertebra added (flagged as uncertain?), and the volumes of two other hospitals, `vb2` (T2) and `vb3` (T1-weighted
water images: a contrast that nobody trained on). A level is right where the box's centre lies in the gap between its
two labelled vertebrae, less than a third of their distance from its middle. Prints one JSON object.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from modic.config import LevelOptions
from modic.levels import find_levels, iou
from modic.records import LEVELS, LevelSet, Volume
from modic.train.spider import Sample, load_spider, split_of
from modic.train.transitional import change_count
from modic.weights import Model, load_detector

VERTEBRAE = {"vb2": ("T11", "T12", "L1", "L2", "L3", "L4", "L5"), "vb3": ("L1", "L2", "L3", "L4", "L5")}
SAGITTAL = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)


def measure_volumes(folder: Path, names: tuple[str, ...], detector: Model) -> dict:
    """Levels of every volume in `folder` found in the right gap under the right name."""
    right, total, wrong, flagged = 0, 0, [], 0
    paths = sorted(folder.glob("*.npz"))
    for path in paths:
        with np.load(path) as file:
            image, labels = file["image"], file["labels"]
        voxels = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
        found = find_levels(Volume(voxels, SAGITTAL), detector=detector, options=LevelOptions())
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


def one_slice(image: np.ndarray) -> Volume:
    """A volume of one slice."""
    return Volume(np.ascontiguousarray(image[None]).astype(np.float32), SAGITTAL)


def measure_slices(samples: list[Sample], detector: Model) -> dict:
    """SPIDER: IoU by level, slices and patients named right, and how often what is uncertain is called so."""
    overlaps: dict[str, list[float]] = {level: [] for level in LEVELS}
    patients: dict[str, bool] = {}
    flags: dict[str, list[bool]] = {"as it is": [], "sacrum cropped away": [], "a vertebra added": []}
    rng, whole = np.random.default_rng(0), []
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
        for kind, image in changed(sample, rng):
            found = find_levels(one_slice(image), detector=detector, options=LevelOptions())
            flags[kind].append(found.numbering != "ok")
    return {
        "slices": len(whole),
        "slices named right": float(np.mean(whole)),
        "patients": len(patients),
        "patients named right": float(np.mean(list(patients.values()))),
        "iou": {level: round(float(np.mean([v for v in values if v > 0])), 3) for level, values in overlaps.items()},
        "flagged uncertain": {kind: round(float(np.mean(values)), 3) for kind, values in flags.items()},
    }


def changed(sample: Sample, rng: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """The slice ending at three places between L4/L5 and the lower edge of L5/S1, and with a vertebra more."""
    upper, lower = sample.boxes[-2], sample.boxes[-1]
    centre, height = (upper[1] + upper[3]) / 2, upper[3] - upper[1]
    step = (lower[1] + lower[3]) / 2 - centre
    cuts = [sample.image[: int(centre + share * step + 0.3 * height)] for share in (0.15, 0.5, 0.85)]
    unit = sample.image.astype(np.float32) / 255
    more = change_count(unit, sample.boxes, sample.names, rng, added=True)[0]
    return [*(("sacrum cropped away", cut) for cut in cuts), ("a vertebra added", 255 * more)]


def main() -> None:
    """Measure and print."""
    data, weights = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "detector"
    detector = load_detector(weights)
    samples = [s for s in load_spider(data / "spider") if split_of(s.patient) == "test"]  # boxes that were given
    results = {"spider, test patients": measure_slices(samples, detector)}
    results |= {name: measure_volumes(data / name, parts, detector) for name, parts in VERTEBRAE.items()}
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
