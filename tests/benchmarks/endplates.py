"""Types and extents at single endplates of phantoms with known lesions: `python tests/benchmarks/endplates.py [N]`.

The level's grade is taken from the truth, so that this tells how well the marrow says *where* a change lies and what it
looks like, not how well the level is graded. Boxes are the phantom's own. Prints one JSON object: of endplates with a
lesion, by its type, how often each type was given; the same of endplates without one at levels with a change; and the
grade of the extent against the lesion's true depth. Says nothing about patients: no endplate of a patient is labelled.
"""

import json
import sys
from collections import Counter
from typing import Any

import numpy as np

from modic.grading.endplate_types import DEFAULT, endplate_columns
from modic.grading.marrow import measure_marrow
from modic.imaging.endplates import find_endplates
from modic.models.weights import load_segmenter
from modic.phantom.anatomy import VERTEBRAE, Patient, make_patient
from modic.phantom.physics import Sequence
from modic.phantom.render import Grid, disc_boxes, render_many
from modic.records import SIDES, LevelBox, LevelSet

FIRST_SEED = 9_100_000  # no training's


def measured(patient: Patient, segmenter: Any) -> dict[str, dict[str, str | None]]:
    """Level → columns of its endplates; the level's grade is the true one."""
    _, y, z = patient.lumbar_centre_mm
    grid = Grid("sagittal", 272, 176, 1.05, 5, 4.0, 2.0, (float(patient.lateral(z)), y, z - 15.0))
    sequences = [Sequence("t1", 550.0, 12.0), Sequence("t2", 3500.0, 100.0)]
    rendered = render_many(patient, grid, sequences, seed=0, snr=30.0, coil=0.5)
    volumes = {name: volume.canonical() for name, volume in zip(("t1", "t2"), rendered, strict=True)}
    boxes = tuple(LevelBox(name, box, 2, 1.0) for name, box in disc_boxes(patient, grid, 2) if name)
    ends = find_endplates(volumes["t2"], volumes["t1"], LevelSet(boxes, "ok", 1.0), segmenter=segmenter)
    marrow = measure_marrow(volumes, ends)
    return {level: endplate_columns(int(patient.grades[level]), marrow.get(level)) for level in patient.grades}


def truth(patient: Patient, level: str, side: str) -> tuple[str, float]:
    """Type and depth (mm) of the lesion at one endplate, `0` and 0 without one."""
    above, below = level.split("/")
    vertebra, upper = (VERTEBRAE.index(above), False) if side == "upper" else (VERTEBRAE.index(below), True)
    lesions = [x for x in patient.lesions if x.vertebra == vertebra and x.upper == upper and x.kind in ("mc1", "mc2")]
    return (lesions[0].kind[2:], lesions[0].depth_mm) if lesions else ("0", 0.0)


def main() -> None:
    """Measure N phantom patients (40)."""
    segmenter = load_segmenter()
    types: dict[str, Counter[str]] = {}
    extents: dict[str, Counter[str]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + int((sys.argv[1:] or ["40"])[0])):
        patient = make_patient(seed, p_mc1=0.3, p_mc2=0.3, p_transitional=0.0)
        for level, columns in measured(patient, segmenter).items():
            for side in SIDES if patient.grades[level] else ():
                kind, depth = truth(patient, level, side)
                types.setdefault(f"truth {kind}", Counter())[str(columns[f"mc_{side}"])] += 1
                if kind != "0" and columns[f"udby_{side}"]:
                    true = "ABC"[int(np.digitize(depth / 28.0, DEFAULT.extents))]  # lumbar bodies are 26-30 mm high
                    extents.setdefault(f"truth {true}", Counter())[str(columns[f"udby_{side}"])] += 1
    print(json.dumps({"types": types, "extents": extents}, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
