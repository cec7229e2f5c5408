"""What STIR is good for on phantoms with known lesions: `python tests/benchmarks/stir.py [N]` (20; 8 s each).

Each patient is imaged twice, in another place, with another pixel, scanner, noise and coil. Prints one JSON object:

- `ratio`: quantiles (5, 25, 50, 75, 95 %) of `stir_ratio_*` by what the endplate has, and how well it tells type 1;
- `twice`: within-patient standard deviation of its logarithm between the two visits;
- `levels`: the shipped detector on T2 and on STIR: discs under their true name, studies with numbering `ok`, and how
  many of these have all names right;
- `pixels`: what contrast_from_pixels.py takes the STIR for;
- `placed`: what registration makes of STIR and T2, and of T1 and STIR.

Says nothing about patients.
"""

import json
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from modic.config import Config
from modic.grading.marrow import band_ratios
from modic.imaging.endplates import find_endplates
from modic.imaging.registration import register
from modic.imaging.volume import CanonicalVolume
from modic.levels.find import find_levels
from modic.models.weights import load_detector, load_segmenter
from modic.phantom.anatomy import VERTEBRAE, Patient, make_patient
from modic.phantom.physics import stir_null_ti
from modic.phantom.render import Grid, disc_boxes, render_many
from modic.records import LevelBox, LevelSet
from modic.series.contrast_from_pixels import contrast_of_pixels
from modic.train.data.phantom_slices import random_sequence

FIRST_SEED = 9_300_000  # no training's
NAMES = ("t1", "t2", "stir")
CONFIG = Config()
Box = tuple[float, float, float, float]


def imaged(patient: Patient, visit: int, rng: np.random.Generator) -> tuple[dict[str, CanonicalVolume], Grid]:
    """T1, T2 and STIR of one visit."""
    _, y, z = patient.lumbar_centre_mm
    centre = (float(patient.lateral(z)) + 0.7 * visit, y + visit, z - 15.0 - visit)
    grid = Grid("sagittal", 272, 224, 1.05 + 0.05 * visit, 7, 4.0 + 0.3 * visit, 2.0, centre)
    field = float(rng.choice([0.3, 1.5, 1.5, 3.0]))
    t1, t2, stir = (replace(random_sequence(name, rng), field_t=field) for name in NAMES)
    stir = replace(stir, ti_ms=stir_null_ti(stir))
    noise, coil = float(rng.uniform(15, 45)), float(rng.uniform(0.1, 0.7))
    rendered = render_many(patient, grid, [t1, t2, stir], seed=visit, snr=noise, coil=coil)
    return {name: volume.canonical() for name, volume in zip(NAMES, rendered, strict=True)}, grid


def truth(patient: Patient, level: str, side: str) -> str:
    """What an endplate has: `type 1`, `type 2`, `nothing`, or `other` (a Schmorl's node, sclerosis)."""
    above, below = level.split("/")
    vertebra, upper = (VERTEBRAE.index(above), False) if side == "upper" else (VERTEBRAE.index(below), True)
    kinds = {lesion.kind for lesion in patient.lesions if (lesion.vertebra, lesion.upper) == (vertebra, upper)}
    return "type 1" if "mc1" in kinds else "type 2" if "mc2" in kinds else "other" if kinds else "nothing"


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b)) - both)


def count_levels(volume: CanonicalVolume, true: LevelSet, detector: Any, counts: Counter[str]) -> None:
    """What the detector finds on one volume."""
    found = find_levels(volume, detector=detector, options=CONFIG.levels)
    boxes = {box.level: box.box for box in found.boxes}
    right = [box.level in boxes and overlap(box.box, boxes[box.level]) > 0.5 for box in true.boxes]
    counts.update({"studies": 1, "discs": len(right), "right": sum(right), "ok": found.numbering == "ok"})
    counts["ok and all right"] += found.numbering == "ok" and all(right)


def main() -> None:
    """Measure N phantom patients."""
    detector, segmenter = load_detector(), load_segmenter()
    values, twice = defaultdict(list), defaultdict(list)
    levels: dict[str, Counter[str]] = {"t2": Counter(), "stir": Counter()}
    pixels: Counter[str] = Counter()
    placed: dict[str, Counter[str]] = {"stir to t2": Counter(), "t1 to stir": Counter()}
    for seed in range(FIRST_SEED, FIRST_SEED + int((sys.argv[1:] or ["20"])[0])):
        patient = make_patient(seed, p_mc1=0.3, p_mc2=0.3, p_transitional=0.0)
        rng, visits = np.random.default_rng([seed, 4]), []
        for visit in range(2):
            volumes, grid = imaged(patient, visit, rng)
            boxes = tuple(LevelBox(name, box, 3, 1.0) for name, box in disc_boxes(patient, grid, 3) if name)
            true = LevelSet(boxes, "ok", 1.0)
            for name, counts in levels.items():
                count_levels(volumes[name], true, detector, counts)
            pixels[contrast_of_pixels(volumes["stir"], [box.box for box in boxes], range(1, 6)).contrast] += 1
            for name, (moving, fixed) in {"stir to t2": ("stir", "t2"), "t1 to stir": ("t1", "stir")}.items():
                registration = register(volumes[moving], volumes[fixed])
                placed[name][registration.in_one_frame(CONFIG.registration).value] += 1
            ends = find_endplates(volumes["t2"], volumes["t1"], true, segmenter=segmenter)
            visits.append(band_ratios(volumes["stir"], ends))
        for level, sides in visits[0].items():
            for side in sides:
                both = [one.get(level, {}).get(side) for one in visits]
                values[truth(patient, level, side)] += [ratio for ratio in both if ratio is not None]
                if None not in both:
                    twice[truth(patient, level, side)].append(np.log(both))
    spread = {kind: round(float(np.diff(np.array(logs)).std() / np.sqrt(2)), 3) for kind, logs in twice.items()}
    print(json.dumps({
        "ratio": {kind: [len(ratios), *np.quantile(ratios, [0.05, 0.25, 0.5, 0.75, 0.95]).round(2)]
                  for kind, ratios in values.items()},
        "auc of type 1": {kind: round(float(roc_auc_score(
            [1] * len(values["type 1"]) + [0] * len(ratios), values["type 1"] + ratios)), 3)
            for kind, ratios in values.items() if kind != "type 1"},
        "twice": spread, "levels": levels, "pixels": pixels, "placed": placed,
    }, indent=1, sort_keys=True))  # fmt: skip


if __name__ == "__main__":
    main()
