"""Synthetic discs with a Modic change at an endplate that the test knows."""

from dataclasses import dataclass
from functools import cache

from modic.imaging.volume import CanonicalVolume
from modic.phantom import physics
from modic.phantom.anatomy import DISC_OF_LEVEL, make_patient
from modic.phantom.render import Grid, disc_boxes, render_many
from modic.records import LevelBox, LevelSet

SLICES, MIDDLE = 5, 2


@dataclass(frozen=True, eq=False)
class Spine:
    """One synthetic patient with the true boxes; `sides`: level → endplates with a lesion, `upper` or `lower`."""

    t1: CanonicalVolume
    t2: CanonicalVolume
    levels: LevelSet
    grades: dict[str, int]
    sides: dict[str, set[str]]


@cache
def spine(seed: int) -> Spine:
    """The same patient for the same seed; MC1 is common."""
    patient = make_patient(seed, p_mc1=0.4, p_mc2=0.1, p_transitional=0)
    _, y, z = patient.lumbar_centre_mm
    centre = (float(patient.lateral(z)), y + 5, z - 20)
    grid = Grid("sagittal", 256, 256, 290 / 256, SLICES, 4.4, 4.0, centre)
    contrasts = [physics.Sequence("t1", 550, 11.0), physics.Sequence("t2", 3500, 100.0)]
    t1, t2 = render_many(patient, grid, contrasts, seed=0)
    boxes = tuple(LevelBox(name, box, MIDDLE, 0.9) for name, box in disc_boxes(patient, grid, MIDDLE) if name)
    sides: dict[str, set[str]] = {level: set() for level in DISC_OF_LEVEL}
    for level, disc in DISC_OF_LEVEL.items():
        for lesion in patient.lesions:
            if lesion.kind == f"mc{patient.grades[level]}" and (lesion.vertebra, lesion.upper) == (disc, True):
                sides[level].add("lower")  # a vertebra's upper endplate is below the disc
            if lesion.kind == f"mc{patient.grades[level]}" and (lesion.vertebra, lesion.upper) == (disc + 1, False):
                sides[level].add("upper")
    return Spine(t1.canonical(), t2.canonical(), LevelSet(boxes, "ok", 1.0), dict(patient.grades), sides)
