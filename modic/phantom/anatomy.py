"""One synthetic patient: vertebrae, discs, lesions and distractors, and coordinates along the spine.

Lengths are in mm, angles in degrees. The axis of the spine is a curve in the sagittal plane. It leans by `phi` from the
vertical (positive: backwards going up), turns inside discs and is straight inside vertebrae: discs are wedges, and
endplates are flat but for their concavity. Sizes: lumbar bodies 26-30 mm high and 31-37 mm deep (Zhou 2000),
discs 7-12 mm (Frobin 1997), lordosis 40-70 degrees (Vialle 2005).
"""

from dataclasses import dataclass

import numpy as np

from modic.records import LEVELS

VERTEBRAE = ("S5", "S4", "S3", "S2", "S1", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9", "T8")
"""From foot to head. Disc i lies between vertebra i and vertebra i + 1."""
S1 = VERTEBRAE.index("S1")
DISC_OF_LEVEL = {level: S1 + i for i, level in enumerate(reversed(LEVELS))}
_HEIGHT = np.array([14, 16, 18, 21, 26, 27, 27, 27, 27, 26, 25, 23, 22, 21, 20], float)
_DEPTH = np.array([8, 10, 13, 18, 31, 35, 35, 34, 33, 32, 31, 30, 29, 28, 27], float)
_WIDTH = np.array([20, 26, 32, 40, 50, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32], float)
_DISC = np.array([1, 1, 1.5, 2.5, 10.5, 11, 10.5, 9.5, 8.5, 7.5, 6, 5.5, 5, 5], float)
_TURN = np.array([22, 20, 14, 4, 14, 11, 9, 7, 5, 3, 1, -1, -2, -3], float)  # change of phi going up a disc


@dataclass(frozen=True, slots=True)
class Lesion:
    """Altered marrow at one endplate, or a distractor: something else that a grader may take for it."""

    kind: str  # "mc1" | "mc2" | "haemangioma" | "schmorl" | "sclerosis"
    vertebra: int  # index in VERTEBRAE
    upper: bool  # at the vertebra's upper endplate
    ap: tuple[float, float]  # extent front to back, fraction of the depth, -0.5..0.5
    lateral: tuple[float, float]  # extent right to left, fraction of the width
    depth_mm: float
    strength: float  # share of the marrow that is replaced, 0-1


@dataclass(frozen=True, eq=False)
class Patient:
    """Geometry and tissue of one patient; the same seed gives the same patient."""

    seed: int
    age_years: int
    sex: str
    transitional: bool
    height: np.ndarray  # (15,) of vertebrae
    depth: np.ndarray
    width: np.ndarray
    disc: np.ndarray  # (14,) disc heights
    degeneration: np.ndarray  # (14,) 0 healthy .. 1 dry
    bulge: np.ndarray  # (14,) mm beyond the posterior wall
    low: np.ndarray  # (15,) arc length of the lower endplates along the axis
    high: np.ndarray  # (15,) of the upper endplates
    axis: np.ndarray  # (n, 4) of s, y, z, phi (rad)
    smooth: np.ndarray  # (n, 4) the same for a smoother axis, which canal and muscles follow
    scoliosis: tuple[float, float, float]  # amplitude mm, wavelength mm, phase
    concavity: float
    marrow_fat: float
    canal_mm: float
    conus_s: float
    back_mm: float  # distance from the axis to the skin of the back
    skin_fat_mm: float
    front_mm: float  # distance from the axis to the abdominal wall
    lesions: tuple[Lesion, ...]
    grades: dict[str, int]  # level → Modic type
    noise: np.ndarray  # (3, 24, 48, 48) smooth random fields, sampled at LPS mm

    @property
    def lumbar_centre_mm(self) -> tuple[float, float, float]:
        """Middle of L3, LPS."""
        l3 = VERTEBRAE.index("L3")
        y, z = self.point((self.low[l3] + self.high[l3]) / 2, 0.0)
        return 0.0, float(y), float(z)

    def point(self, s: np.ndarray | float, a: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """(y, z) in mm of arc length `s` and offset `a` towards the back (mm, scalars or arrays of one shape)."""
        y, z, phi = (np.interp(s, self.axis[:, 0], self.axis[:, i]) for i in (1, 2, 3))
        return y + a * np.cos(phi), z - a * np.sin(phi)

    def spine_coordinates(self, y: np.ndarray, z: np.ndarray, *, smooth: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Arc length s and offset a (towards the back), mm, of points (y, z) of the sagittal plane.

        All are arrays of one shape. `smooth` uses the smoother axis. Six steps approach the nearest point of the axis.
        """
        table = self.smooth if smooth else self.axis
        at, ys, zs, phis = table[:, 0], table[:, 1], table[:, 2], table[:, 3]
        s = np.interp(z, zs, at) if np.all(np.diff(zs) > 0) else np.full_like(y, at.mean())
        for _ in range(6):
            phi = np.interp(s, at, phis)
            along = (y - np.interp(s, at, ys)) * np.sin(phi) + (z - np.interp(s, at, zs)) * np.cos(phi)
            s = np.clip(s + 0.8 * along, at[0] - 60, at[-1] + 60)
        phi = np.interp(s, at, phis)
        beyond = s - np.clip(s, at[0], at[-1])
        y0, z0 = np.interp(s, at, ys) + beyond * np.sin(phi), np.interp(s, at, zs) + beyond * np.cos(phi)
        return s, (y - y0) * np.cos(phi) - (z - z0) * np.sin(phi)

    def lateral(self, z: np.ndarray | float) -> np.ndarray | float:
        """Displacement of the spine to the patient's left at height z, mm: a scoliosis."""
        amplitude, wavelength, phase = self.scoliosis
        return amplitude * np.sin(2 * np.pi * np.asarray(z) / wavelength + phase)


def make_patient(seed: int, *, p_mc1: float = 0.06, p_mc2: float = 0.16, p_transitional: float = 0.06) -> Patient:
    """A patient from a seed. `p_mc1` and `p_mc2` are mean probabilities of a level; lower levels have more lesions."""
    rng = np.random.default_rng([seed, 77])
    age, size = int(rng.integers(20, 86)), float(rng.normal(1, 0.07))
    transitional = bool(rng.random() < p_transitional)
    shape = {name: values * size * rng.normal(1, 0.03, len(values)) for name, values in _shapes(rng).items()}
    degeneration = _degeneration(rng, age)
    disc = np.maximum(
        _DISC * size * rng.normal(1, 0.12, 14) * rng.uniform(0.85, 1.1) * (1 - 0.55 * degeneration**1.5), 0.8
    )
    if transitional:
        _make_transitional(rng, disc, shape["depth"])
    low, high, axis, smooth = _chain(shape["height"], disc, _turns(rng))
    grades, lesions = _lesions(rng, degeneration, p_mc1, p_mc2)
    return Patient(
        seed=seed, age_years=age, sex="F" if rng.random() < 0.5 else "M", transitional=transitional,
        **shape, disc=disc, degeneration=degeneration,
        bulge=np.maximum(rng.normal(0.5, 1.5, 14), 0) * (0.4 + degeneration),
        low=low, high=high, axis=axis, smooth=smooth,
        scoliosis=(float(abs(rng.normal(0, 3.5))), float(rng.uniform(180, 400)), float(rng.uniform(0, 2 * np.pi))),
        concavity=float(rng.uniform(0.6, 2.6)),
        marrow_fat=float(np.clip(0.25 + 0.004 * age + rng.normal(0, 0.08), 0.2, 0.75)),
        canal_mm=float(rng.uniform(13, 19)), conus_s=float(low[S1 + 5] + rng.uniform(-15, 25)),
        back_mm=float(rng.uniform(72, 95)), skin_fat_mm=float(rng.uniform(8, 35)), front_mm=float(rng.uniform(80, 160)),
        lesions=lesions, grades=grades, noise=_noise(rng),
    )  # fmt: skip


def _make_transitional(rng: np.random.Generator, disc: np.ndarray, depth: np.ndarray) -> None:
    """Change disc and depth in place to a lumbarized S1 with a disc below it or, as often, a sacralized L5."""
    if rng.random() < 0.5:
        disc[S1 - 1] = rng.uniform(5, 8)
        depth[S1 - 1] *= 1.25
    else:
        disc[S1] = rng.uniform(2, 4)  # a rudimentary L5/S1: the lowest full disc is L4/L5


def _shapes(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"height": _HEIGHT * rng.normal(1, 0.05), "depth": _DEPTH * rng.normal(1, 0.06), "width": _WIDTH.copy()}


def _degeneration(rng: np.random.Generator, age: int) -> np.ndarray:
    """(14,) 0-1, increasing with age, and higher at L4/L5 and L5/S1."""
    lowest = np.zeros(14)
    lowest[S1 : S1 + 2] = 0.25
    return np.clip(rng.beta(1.2, 1.6, 14) * (0.35 + age / 80) + lowest * rng.random(14) * 1.5, 0, 1)


def _turns(rng: np.random.Generator) -> np.ndarray:
    turn = _TURN * np.where(_TURN > 0, rng.uniform(0.55, 1.35), 1) + rng.normal(0, 1.5, 14)
    turn[:S1] = _TURN[:S1] * rng.uniform(0.5, 1.3)
    return turn


def _chain(
    height: np.ndarray, disc: np.ndarray, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Arc lengths of lower and upper endplates (15,), and exact and smooth axis (n, 4), integrated with L3 upright.

    The spine turns over the height of each disc (at least 8 mm) on the exact axis, over 70 mm on the smooth one.
    """
    low = np.concatenate([[0], np.cumsum(height[:-1] + disc)])
    high = low + height
    s = np.arange(-40, high[-1] + 40, 0.5)
    middle = (high[:-1] + low[1:]) / 2
    l3 = VERTEBRAE.index("L3")

    def integrate(widths: np.ndarray) -> np.ndarray:
        ramps = [np.deg2rad(t) * np.clip((s - m) / w + 0.5, 0, 1) for t, m, w in zip(turn, middle, widths, strict=True)]
        # below S1 the sacrum turns the other way: going up it leans forward more and more
        signs = np.where(np.arange(14) < S1, -1, 1)
        phi = np.sum([sign * ramp for sign, ramp in zip(signs, ramps, strict=True)], axis=0)
        phi -= np.interp((low[l3] + high[l3]) / 2, s, phi) - np.deg2rad(-3)
        y, z = np.cumsum(np.sin(phi)) * 0.5, np.cumsum(np.cos(phi)) * 0.5
        zero = np.argmin(abs(s - (low[l3] + high[l3]) / 2))
        return np.stack([s, y - y[zero], z - z[zero], phi], axis=1)

    return low, high, integrate(np.maximum(disc, 8)), integrate(np.full(14, 70.0))


def _lesions(
    rng: np.random.Generator, degeneration: np.ndarray, p_mc1: float, p_mc2: float
) -> tuple[dict[str, int], tuple[Lesion, ...]]:
    grades, lesions = {}, []
    for level, index in DISC_OF_LEVEL.items():
        weight = (0.35 + 1.3 * degeneration[index]) * (1.4 if index <= S1 + 1 else 0.8)
        draw = rng.random()
        grade = 1 if draw < p_mc1 * weight else 2 if draw < (p_mc1 + p_mc2) * weight else 0
        grades[level] = grade
        if grade:
            lesions += _modic(rng, grade, index)
        elif rng.random() < 0.06:
            lesions.append(_lesion(rng, "sclerosis", index, upper=True, depth=(1.5, 4)))
        if rng.random() < 0.08:
            lesions.append(
                _lesion(rng, "schmorl", index + int(rng.random() < 0.5), upper=rng.random() < 0.5, depth=(3, 6))
            )
    for vertebra in range(S1, S1 + 7):
        if rng.random() < 0.05:
            lesions.append(_lesion(rng, "haemangioma", vertebra, upper=True, depth=(4, 9)))
    return {level: grades[level] for level in LEVELS}, tuple(lesions)


def _modic(rng: np.random.Generator, grade: int, disc: int) -> list[Lesion]:
    """Lesions at one or both endplates of a disc; most lie in front or span the endplate (Kuisma et al. 2007)."""
    both = rng.random()
    sides = [(disc, True)] if both < 0.2 else [(disc + 1, False)] if both < 0.4 else [(disc, True), (disc + 1, False)]
    return [_lesion(rng, f"mc{grade}", vertebra, upper=upper, depth=(4, 14)) for vertebra, upper in sides]


def _lesion(rng: np.random.Generator, kind: str, vertebra: int, *, upper: bool, depth: tuple[float, float]) -> Lesion:
    start = rng.choice([-0.55, rng.uniform(-0.3, 0.05)], p=[0.65, 0.35])
    length = rng.uniform(0.35, 1.1)
    side = rng.uniform(-0.35, 0.1)
    return Lesion(
        kind, vertebra, bool(upper), (float(start), float(start + length)),
        (float(side - 0.2), float(side + rng.uniform(0.4, 0.8))),
        float(rng.uniform(*depth)), float(rng.uniform(0.6, 1.0)),
    )  # fmt: skip


def _noise(rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    fields = rng.standard_normal((3, 24, 48, 48)).astype(np.float32)
    fields = np.stack(
        [gaussian_filter(f, sigma, mode="wrap") for f, sigma in zip(fields, (0.7, 1.2, 2.5), strict=True)]
    )
    return fields / fields.std(axis=(1, 2, 3), keepdims=True)
