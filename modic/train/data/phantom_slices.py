"""Slices of synthetic patients as samples for the detector, rendered once and kept in a cache."""

from pathlib import Path
from typing import Any

import numpy as np

from modic.phantom.anatomy import S1, Patient, make_patient
from modic.phantom.many import on_all_cores
from modic.phantom.physics import Sequence, stir_null_ti
from modic.phantom.render import Grid, disc_boxes, render_many
from modic.records import LEVELS
from modic.train.data.samples import Sample

CONTRASTS = ("t1", "t2", "stir")
STORED = ("image", "boxes", "names", "other")  # fields of a Sample in the cache


def phantom_samples(patients: int, *, seed: int, cache: Path) -> list[Sample]:
    """Slices near the midline of `patients` synthetic patients: T1 and T2 of each, STIR of every fourth.

    A transitional spine has two sets of names (`Sample.other`).

    Args:
        seed: other synthetic patients for another seed.
        cache: folder in which the slices are kept.
    """
    path = cache / f"phantom-{patients}-{seed}.npz"
    if not path.is_file():
        seeds = range(seed * 1_000_000, seed * 1_000_000 + patients)
        samples = [sample for slices in on_all_cores(_slices, seeds) for sample in slices]
        cache.mkdir(parents=True, exist_ok=True)
        arrays = {f"{s.patient}_{s.contrast}_{part}": getattr(s, part) for s in samples for part in STORED}
        np.savez_compressed(path, **arrays)
    with np.load(path) as stored:
        keys = sorted({name.rsplit("_", 1)[0] for name in stored.files})
        return [_stored(stored, key) for key in keys]


def _stored(arrays: Any, key: str) -> Sample:
    image, boxes, names, other = (arrays[f"{key}_{part}"] for part in STORED)
    patient, contrast = key.split("_", 1)
    return Sample(patient, contrast, image, boxes, names, int(other), given=False)


def _slices(seed: int) -> list[Sample]:
    patient = make_patient(seed)
    rng = np.random.default_rng([seed, 3])
    contrasts = CONTRASTS if seed % 4 == 0 else CONTRASTS[:2]
    grid = _grid(patient, rng)
    sequences = [random_sequence(name, rng) for name in contrasts]
    snr, coil = float(rng.uniform(12, 60)), float(rng.random())
    volumes = render_many(patient, grid, sequences, seed=0, snr=snr, coil=coil)
    discs = disc_boxes(patient, grid, 0)
    boxes = np.array([box for _, box in discs])
    names = np.array([LEVELS.index(name) if name else -1 for name, _ in discs])
    other = 0
    if patient.transitional:
        other = -1 if patient.disc[S1 - 1] > patient.disc[S1] else 1  # S1/S2 may be called L5/S1, or L4/L5 may
    return [
        Sample(f"p{seed}", name, _uint8(volume.voxels[0]), boxes, names, other)
        for name, volume in zip(contrasts, volumes, strict=True)
    ]


def _grid(patient: Patient, rng: np.random.Generator) -> Grid:
    """One sagittal slice within about 3 mm of the midline, with a random field of view."""
    _, y, z = patient.lumbar_centre_mm
    off = float(rng.normal(0, 3))
    centre = (float(patient.lateral(z)) + off, y + rng.uniform(-25, 30), z + rng.uniform(-45, 15))
    field_of_view = float(rng.uniform(250, 370))
    return Grid("sagittal", 288, 288, field_of_view / 288, 1, 4.4, 2.0, centre, 0.0)


def random_sequence(name: str, rng: np.random.Generator) -> Sequence:
    """A sequence with TR, TE and field drawn from the ranges in SPIDER's headers (series.csv)."""
    field = float(rng.choice([0.3, 1.0, 1.5, 1.5, 3.0]))
    if name == "t1":
        return Sequence("t1", float(rng.uniform(400, 800)), float(rng.uniform(7, 25)), field_t=field)
    if name == "t2":
        return Sequence("t2", float(rng.uniform(2500, 5500)), float(rng.uniform(80, 125)), field_t=field)
    stir = Sequence("stir", float(rng.uniform(3000, 5500)), float(rng.uniform(30, 80)), field_t=field)
    return Sequence("stir", stir.tr_ms, stir.te_ms, stir_null_ti(stir), field_t=field)


def _uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(image / np.percentile(image, 99.8) * 255, 0, 255).astype(np.uint8)
