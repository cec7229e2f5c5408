"""Discs of synthetic patients."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.models.card import DEFAULT_CONTRASTS
from modic.phantom.many import on_all_cores
from modic.records import LevelBox
from modic.train.data.discs import Disc, cut_discs

if TYPE_CHECKING:
    from modic.phantom.anatomy import Patient


def phantom_discs(patients: int, preprocessing: dict[str, Any], *, first_seed: int = 7_000_000) -> list[Disc]:
    """Discs of synthetic patients whose lesions are more frequent than in life; each takes a core 1-3 s.

    Transitional spines are left out.
    """
    seeds = range(first_seed, first_seed + patients)
    made = on_all_cores(partial(_discs_of, preprocessing=preprocessing), seeds)
    return [disc for discs in made for disc in discs]


def _discs_of(seed: int, preprocessing: dict[str, Any]) -> list[Disc]:
    from modic.phantom.anatomy import make_patient

    patient = make_patient(seed, p_mc1=0.3, p_mc2=0.3)
    return [] if patient.transitional else imaged_discs(patient, preprocessing)


def imaged_discs(
    patient: "Patient", preprocessing: dict[str, Any], *, matrix: tuple[int, int] = (272, 176),
    pixel_mm: tuple[float, float] = (0.95, 1.15), snr: tuple[float, float] = (12, 60),
) -> list[Disc]:  # fmt: skip
    """Render T1 and T2 (or what `preprocessing` asks for) of a synthetic patient and cut the six discs.

    The scanner is drawn from the patient's seed; echo and repetition times and fields from what SPIDER's headers hold.

    Args:
        matrix: rows, columns of the slices.
        pixel_mm, snr: bounds between which pixel side and signal-to-noise ratio are drawn.
    """
    from modic.phantom.physics import Sequence, stir_null_ti
    from modic.phantom.render import Grid, disc_boxes, render_many

    rng = np.random.default_rng([patient.seed, 11])
    _, y, z = patient.lumbar_centre_mm
    centre = (float(patient.lateral(z) + rng.normal(0, 2)), y, z - 15.0)
    spacing = float(rng.uniform(3.5, 5.0))
    grid = Grid("sagittal", *matrix, float(rng.uniform(*pixel_mm)), preprocessing["slices"], spacing, 2.0, centre)
    field = float(rng.choice([0.3, 1.0, 1.5, 1.5, 3.0]))
    t1 = Sequence("t1", float(rng.uniform(400, 800)), float(rng.uniform(7, 25)), field_t=field)
    t2 = Sequence("t2", float(rng.uniform(2500, 5500)), float(rng.uniform(80, 125)), field_t=field)
    stir = replace(t2, name="stir", te_ms=t2.te_ms / 2)
    sequences = {"t1": t1, "t2": t2, "stir": replace(stir, ti_ms=stir_null_ti(stir))}
    noise, coil = float(rng.uniform(*snr)), float(rng.random())
    names = preprocessing.get("contrasts", DEFAULT_CONTRASTS)
    rendered = render_many(patient, grid, [sequences[name] for name in names], seed=0, snr=noise, coil=coil)
    middle = preprocessing["slices"] // 2
    boxes = [LevelBox(name, box, middle, 1.0) for name, box in disc_boxes(patient, grid, middle) if name]
    labels = {level: (int(grade), 0) for level, grade in patient.grades.items()}
    volumes = {name: volume.canonical() for name, volume in zip(names, rendered, strict=True)}
    cut = cut_discs(
        volumes, boxes, labels, patient=f"phantom-{patient.seed}", source="phantom",
        preprocessing=preprocessing,
    )  # fmt: skip
    return list(cut)
