"""Layers of tissue at points of a patient, painted over each other with soft edges.

A layer is a mask (0-1) and the fractions of the tissues in it (numbers or arrays of the same shape). Masks do not
depend on the sequence, so T1, T2 and STIR of a patient are composed from the same layers. All distances are in mm;
edges are `edge` mm wide.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from modic.phantom.anatomy import S1, Lesion, Patient

Mixture = Mapping[str, "float | np.ndarray"]
Layer = tuple[np.ndarray, Mixture]


@dataclass(frozen=True, eq=False)
class Points:
    """Points to paint, arrays of one shape: LPS mm, and coordinates along the spine."""

    x: np.ndarray  # from the spine's own midline, mm to the left
    y: np.ndarray
    z: np.ndarray
    s: np.ndarray  # arc length along the axis
    a: np.ndarray  # offset behind the axis
    s_soft: np.ndarray  # the same along the smooth axis, for canal and muscles
    a_soft: np.ndarray
    vertebra: np.ndarray  # index of the nearest vertebra
    edge: float

    def soft(self, distance: np.ndarray) -> np.ndarray:
        """Coverage (0-1) from signed distance in mm, positive inside."""
        return np.clip(distance / self.edge + 0.5, 0, 1)


Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def spine_coordinates(patient: Patient, y: np.ndarray, z: np.ndarray) -> Coordinates:
    """s and a, exact and smooth, of points of the sagittal plane. Slow, but the same for all sagittal slices."""
    return *patient.spine_coordinates(y, z), *patient.spine_coordinates(y, z, smooth=True)


def locate(patient: Patient, x: np.ndarray, y: np.ndarray, z: np.ndarray, edge: float, on_spine: Coordinates) -> Points:
    """Points in LPS mm with their coordinates along the spine."""
    borders = (patient.high[:-1] + patient.low[1:]) / 2
    return Points(x - patient.lateral(z), y, z, *on_spine, np.searchsorted(borders, on_spine[0]), edge)


def layers(patient: Patient, p: Points) -> list[Layer]:
    """All layers, from the air to the smallest lesion."""
    rough = [_noise(patient, p, 0, 5.0), _noise(patient, p, 1, 9.0), _noise(patient, p, 2, 30.0)]
    painted = _soft_tissue(patient, p, rough)
    painted += _posterior_elements(patient, p, rough)
    painted += _canal(patient, p, rough)
    painted += _spine(patient, p, rough)
    return painted


def _noise(patient: Patient, p: Points, field: int, scale: float) -> np.ndarray:
    points = [p.x / scale, p.z / scale, p.y / scale]
    return map_coordinates(patient.noise[field], points, order=1, mode="grid-wrap")


def _soft_tissue(patient: Patient, p: Points, rough: list[np.ndarray]) -> list[Layer]:
    """Skin fat, abdominal wall, retroperitoneal fat and bowel in front; muscle with streaks of fat behind."""
    behind = patient.back_mm - p.a_soft + 6 * np.sin(p.s_soft / 60)
    before = p.a_soft + patient.front_mm
    inside = np.minimum(behind, before)
    depth = p.soft(inside)
    bowel = p.soft(4 * rough[1] + 3 * rough[2] - 3)
    gas = p.soft(5 * rough[2] - 9)
    low = p.soft(-(p.z - patient.point(patient.low[S1], 0)[1]) - 20)
    muscle = p.soft(np.minimum(p.a_soft - 12, behind - patient.skin_fat_mm - 3 * rough[2]))
    streaks = np.clip(0.06 + 0.003 * patient.age_years + 0.16 * rough[0] + 0.16 * rough[1], 0.0, 0.9)
    wall = p.soft(9 - abs(before - patient.skin_fat_mm - 9))
    psoas = p.soft(np.minimum(abs(p.x) - 24, 22 - abs(p.a_soft + 8)))
    vessel = p.soft(np.minimum(8 - abs(p.a_soft + 30 + 0.02 * p.s), 9 - abs(p.x - 6)))
    vessel *= p.soft(p.s - patient.low[S1 + 2])
    return [
        (np.ones_like(p.y), {"air": 1.0}),
        (depth, {"fat": 0.95, "muscle": 0.05}),
        (depth * p.soft(np.minimum(-p.a_soft - 22, before - patient.skin_fat_mm)) * bowel, {"bowel": 0.8, "fat": 0.2}),
        (depth * p.soft(-p.a_soft - 30) * gas, {"air": 1.0}),
        (depth * low * p.soft(-p.a_soft - 25) * bowel, {"muscle": 0.7, "bowel": 0.3}),
        (depth * wall, {"muscle": 1.0}),
        (depth * psoas, {"muscle": 0.92, "fat": 0.08}),
        (depth * muscle, {"muscle": 1 - streaks, "fat": streaks}),
        (depth * vessel, {"blood": 1.0}),
    ]


def _posterior_elements(patient: Patient, p: Points, rough: list[np.ndarray]) -> list[Layer]:
    """Spinous processes near the midline; laminae, facets and pedicles beside it; foramina with fat in between."""
    k = p.vertebra
    middle = (patient.low[k] + patient.high[k]) / 2
    half = patient.depth[k] / 2
    height = patient.high[k] - patient.low[k]
    back = half + patient.canal_mm
    lumbar = (k >= S1 + 1).astype(float)
    droop = 0.35 * (p.a_soft - back)
    reach = np.minimum(p.a_soft - back - 1, back + 26 - p.a_soft)
    spinous = np.minimum(np.minimum(reach, 0.36 * height - abs(p.s_soft - middle + 9 + droop)), 4.5 - abs(p.x))
    crest = np.minimum(np.minimum(p.a_soft - back + 6, back + 3 - p.a_soft), 5 - abs(p.x)) + 3 * rough[1]
    process = np.where(lumbar > 0, spinous, crest)
    pedicle = np.minimum(
        np.minimum(0.22 * height - abs(p.s - middle - 0.2 * height), 6 - abs(abs(p.x) - 17)),
        np.minimum(p.a - half + 3, back + 6 - p.a),
    )
    facet = np.minimum(
        10 - np.hypot(p.a_soft - back - 2, (p.s_soft - patient.low[k] + 2) * 0.7), 9 - abs(abs(p.x) - 17)
    )
    side = np.maximum(pedicle, facet)
    fat = p.soft(np.minimum(np.minimum(p.a_soft - half, back + 8 - p.a_soft), np.minimum(abs(p.x) - 9, 22 - abs(p.x))))
    between = p.soft(np.minimum(np.minimum(p.a_soft - back, back + 28 - p.a_soft), 3.5 - abs(p.x))) * lumbar
    root = p.soft(3 - np.hypot(p.s - middle + 0.12 * height, p.a - half - 5)) * p.soft(
        np.minimum(abs(p.x) - 9, 24 - abs(p.x))
    )
    marrow = {"fat": patient.marrow_fat + 0.1, "marrow_water": 0.9 - patient.marrow_fat}
    return [
        (between, {"ligament": 0.5, "fat": 0.5 + 0.15 * rough[0], "muscle": 0.15}),
        (fat, {"fat": 1.0}),
        (root, {"root": 1.0}),
        (p.soft(side), {"cortex": 1.0}),
        (p.soft(side - 1.5), marrow),
        (p.soft(process), {"cortex": 1.0}),
        (p.soft(process - 1.2), marrow),
    ]


def _canal(patient: Patient, p: Points, rough: list[np.ndarray]) -> list[Layer]:
    """Epidural fat, thecal sac with CSF, cord to the conus, cauda equina lying at the back."""
    k = p.vertebra
    front = np.interp(p.s_soft, (patient.low + patient.high) / 2, patient.depth / 2) + 1.0
    size = patient.canal_mm * np.clip(1 - (patient.low[S1] - p.s_soft) / 70, 0.35, 1)
    t = p.a_soft - front
    canal = np.minimum(np.minimum(t, size - t), 0.62 * size - abs(p.x))
    phase = np.interp(p.s_soft, (patient.high[:-1] + patient.low[1:]) / 2, np.arange(14))
    pad = size * (0.12 + 0.14 * np.cos(2 * np.pi * (phase + 0.15)) * (p.s_soft > patient.low[S1]))
    end = patient.low[S1 - 1] + 6
    anterior = np.clip(3 + (patient.low[S1 + 1] - p.s_soft) / 12, 0.7, 5)
    sac = np.minimum(np.minimum(t - anterior, size - np.maximum(pad, 0.8) - t), 0.5 * size - abs(p.x))
    sac = np.minimum(sac, p.s_soft - end)
    centre = 0.47 * size
    taper = np.clip((p.s_soft - patient.conus_s) / 25, 0, 1)
    cord = np.minimum(0.29 * size * np.sqrt(taper) - np.hypot(t - centre, p.x * 0.8), p.s_soft - patient.conus_s)
    roots = np.clip(0.42 + 0.5 * np.sin(2.2 * t + 0.35 * rough[0] + 1.4 * p.x), 0, 1)
    dorsal = p.soft(np.minimum(sac - 0.5, 0.34 * size - abs(t - 0.62 * size - (p.s_soft - patient.conus_s) * 0.01)))
    dorsal *= np.clip((patient.conus_s + 12 - p.s_soft) / 20, 0, 1) * (0.25 + 0.45 * roots)
    ligament = p.soft(1.6 - abs(canal)) * (k >= S1)
    return [
        (p.soft(canal), {"fat": 0.92, "root": 0.08}),
        (0.7 * ligament, {"ligament": 1.0}),
        (p.soft(sac), {"csf": 1.0}),
        (dorsal, {"root": 1.0}),
        (p.soft(cord), {"cord": 1.0}),
    ]


def _spine(patient: Patient, p: Points, rough: list[np.ndarray]) -> list[Layer]:
    """Discs, then vertebral bodies over them, then lesions in the marrow."""
    k = p.vertebra
    half, width = patient.depth[k] / 2, patient.width[k] / 2
    up, down = patient.high[k] - p.s, p.s - patient.low[k]
    across = np.clip(1 - (p.a / half) ** 2, 0, 1) * np.clip(1 - (p.x / width) ** 2, 0, 1)
    dent = patient.concavity * across * (k >= S1)
    ends = np.minimum(up - dent * (k > S1 - 1), down - dent * (k > S1))
    waist = 1.6 * np.clip(np.minimum(up, down) / 9, 0, 1)
    wall = np.minimum(half - waist - abs(p.a), width - 2 * waist - abs(p.x))
    corner = 2.5 - np.hypot(np.maximum(2.5 - ends, 0), np.maximum(2.5 - wall, 0))
    body = np.minimum(np.minimum(ends, wall), corner) + 0.25 * rough[0]
    marrow = p.soft(body - 1.1)
    fat = np.clip(patient.marrow_fat + 0.07 * rough[1] + 0.08 * rough[2] + 0.05 * rough[0], 0.08, 0.9)
    vein = p.soft(
        np.minimum(2.2 - abs(p.s - (patient.low[k] + patient.high[k]) / 2 + 1), np.minimum(p.a - 3, 5 - abs(p.x)))
    )
    painted = _discs(patient, p, rough, half, width, ends)
    painted += [
        (p.soft(body), {"cortex": 1.0}),
        (marrow, {"fat": fat, "marrow_water": 1 - fat}),
        (0.45 * marrow * vein * (k > S1), {"vein": 0.8, "fat": 0.2}),
    ]
    for lesion in patient.lesions:
        painted += _lesion(patient, p, rough, lesion, marrow)
    return painted


def _discs(
    patient: Patient, p: Points, rough: list[np.ndarray], half: np.ndarray, width: np.ndarray, ends: np.ndarray
) -> list[Layer]:
    above = p.s > (patient.low[p.vertebra] + patient.high[p.vertebra]) / 2
    index = np.clip(np.where(above, p.vertebra, p.vertebra - 1), 0, len(patient.disc) - 1)
    dry = patient.degeneration[index]
    reach = half + np.where(p.a > 0, patient.bulge[index], 0.4 * patient.bulge[index]) - 0.5
    disc = np.minimum(np.minimum(reach - abs(p.a), width - abs(p.x)), 0.8 - ends)
    radius = np.hypot((p.a + 1.5) / half, p.x / width) * (1 + 0.06 * rough[0])
    nucleus = p.soft((0.66 - radius) * half) * p.soft(-ends - 0.6)
    middle = (patient.high[index] + patient.low[index + 1]) / 2
    cleft = np.exp(-(((p.s - middle) / 1.1) ** 2)) * 0.35
    wet = np.clip(1 - 1.15 * dry - cleft * (dry < 0.8), 0, 1)
    return [
        (p.soft(disc), {"annulus": 1.0}),
        (p.soft(disc) * nucleus, {"nucleus": wet, "nucleus_dry": 1 - wet}),
    ]


_REPLACED: dict[str, Mixture] = {
    "mc1": {"oedema": 0.9, "fat": 0.1},
    "mc2": {"fat": 0.92, "marrow_water": 0.08},
    "haemangioma": {"fat": 0.55, "vein": 0.45},
    "sclerosis": {"sclerosis": 0.8, "marrow_water": 0.2},
    "schmorl": {"nucleus_dry": 0.6, "annulus": 0.4},
}


def _lesion(patient: Patient, p: Points, rough: list[np.ndarray], lesion: Lesion, marrow: np.ndarray) -> list[Layer]:
    """Layers of one lesion. Borders are irregular and soft; a Schmorl's node has a dark rim."""
    v = lesion.vertebra
    depth, width = patient.depth[v], patient.width[v]
    from_plate = patient.high[v] - p.s if lesion.upper else p.s - patient.low[v]
    along = np.minimum(p.a - lesion.ap[0] * depth, lesion.ap[1] * depth - p.a)
    sideways = np.minimum(p.x - lesion.lateral[0] * width, lesion.lateral[1] * width - p.x)
    here = marrow * (p.vertebra == v)
    mixture = _REPLACED[lesion.kind]
    if lesion.kind in ("haemangioma", "schmorl"):
        centre = np.mean(lesion.ap) * depth * 0.6
        offset = 0.0 if lesion.kind == "schmorl" else (patient.high[v] - patient.low[v]) / 2
        ball = lesion.depth_mm + 0.5 * rough[0] - np.sqrt((p.a - centre) ** 2 + (from_plate - offset) ** 2 + p.x**2)
        rim = (
            [(p.soft(ball + 1.2) * (p.vertebra == v) * p.soft(from_plate), {"cortex": 1.0})]
            if lesion.kind == "schmorl"
            else []
        )
        return [*rim, (p.soft(ball) * (here if lesion.kind == "haemangioma" else (p.vertebra == v)), mixture)]
    shape = lesion.depth_mm * np.clip(along / 5, 0, 1) ** 0.5 * np.clip(sideways / 5, 0, 1) ** 0.5 - from_plate
    blur = np.clip((shape + 1.3 * rough[1] + 0.6 * rough[0]) / (p.edge + 2.0) + 0.5, 0, 1)
    inside = (along > 0) & (sideways > 0)
    return [(lesion.strength * blur * here * inside, mixture)]


def compose(
    painted: list[Layer], signals: dict[str, float], fat_signals: dict[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Images of water and of fat from layers and the signal of each tissue (0 for tissues of the other image)."""
    water = np.zeros_like(painted[0][0])
    fat = np.zeros_like(water)
    for mask, mixture in painted:
        keep = 1 - mask
        water = water * keep + mask * sum(fraction * signals[name] for name, fraction in mixture.items())
        fat = fat * keep + mask * sum(fraction * fat_signals[name] for name, fraction in mixture.items())
    return water, fat
