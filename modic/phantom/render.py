"""Volumes of a patient as a scanner would image it, and the boxes of its discs.

Images have coil fall-off, a bias field, partial volume across the slice, in-plane point spread, chemical shift and
Rician noise.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from modic.imaging.volume import Volume
from modic.phantom.anatomy import DISC_OF_LEVEL, S1, VERTEBRAE, Patient
from modic.phantom.physics import TISSUES, Sequence, signal
from modic.phantom.tissue_map import Coordinates, Layer, compose, layers, locate, spine_coordinates

_AXES = {  # column, row and slice directions, LPS
    "sagittal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "axial": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}
SCALE = 1000.0  # value of a voxel with signal 1
BOX_MARGIN_MM = (5.5, 5.0)
"""Margin of a box around its disc, across and along the spine. SPIDER's boxes have one, and synthetic and real training
boxes must mean the same; fitted to the ratio of height to width of SPIDER's boxes."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Geometry of a stack. `centre_mm` is its middle, LPS; `tilt_deg` turns it about the patient's x axis."""

    plane: str
    rows: int
    columns: int
    pixel_mm: float
    slices: int
    spacing_mm: float
    thickness_mm: float
    centre_mm: tuple[float, float, float]
    tilt_deg: float = 0.0

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) from (column, row, slice, 1) to LPS mm."""
        angle = np.deg2rad(self.tilt_deg)
        turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        steps = np.array([self.pixel_mm, self.pixel_mm, self.spacing_mm])
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.array(_AXES[self.plane], float).T * steps
        middle = np.array([self.columns - 1, self.rows - 1, self.slices - 1]) / 2
        affine[:3, 3] = np.array(self.centre_mm) - affine[:3, :3] @ middle
        return affine


def render(
    patient: Patient, grid: Grid, sequence: Sequence, *, seed: int, snr: float = 25.0, coil: float = 0.3
) -> Volume:
    """Image of one sequence.

    Args:
        seed: of noise and receive field.
        snr: signal to noise of fully relaxed water near the coil.
        coil: fall-off of the receive field, from 0 (none) to 1 (strong).
    """
    return render_many(patient, grid, [sequence], seed=seed, snr=snr, coil=coil)[0]


def render_many(
    patient: Patient, grid: Grid, sequences: list[Sequence], *, seed: int, snr: float = 25.0, coil: float = 0.3
) -> list[Volume]:
    """Images of several sequences on one grid, whose anatomy is computed once. Voxels are float32, 0 to about 1000."""
    affine = grid.affine
    stacks: list[list[np.ndarray]] = [[] for _ in sequences]
    shared = spine_coordinates(patient, *_positions(grid, affine, 0)[1:]) if grid.plane == "sagittal" else None
    for index in range(grid.slices):
        places = [_positions(grid, affine, index + offset / grid.spacing_mm) for offset in _offsets(grid)]
        parts = [_paint(patient, *place, max(grid.pixel_mm, 0.5), shared) for place in places]
        for stack, sequence in zip(stacks, sequences, strict=True):
            stack.append(np.mean([_image(painted, sequence) for painted in parts], axis=0))
    rng = np.random.default_rng([patient.seed, seed, 5])
    field = _receive_field(patient, grid, affine, rng, coil)
    return [Volume(_degrade(np.stack(stack), field, rng, snr), affine) for stack in stacks]


def _offsets(grid: Grid) -> np.ndarray:
    """Offsets across the slice at which it is sampled, mm: two for thick slices, one for thin ones."""
    return np.array([-0.25, 0.25]) * grid.thickness_mm if grid.thickness_mm > 2 else np.zeros(1)


def _positions(grid: Grid, affine: np.ndarray, slice_: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns, rows = np.meshgrid(np.arange(grid.columns), np.arange(grid.rows))
    x, y, z = (affine[i, 0] * columns + affine[i, 1] * rows + affine[i, 2] * slice_ + affine[i, 3] for i in range(3))
    return x, y, z


def _paint(
    patient: Patient, x: np.ndarray, y: np.ndarray, z: np.ndarray, edge: float, shared: Coordinates | None
) -> list[Layer]:
    on_spine = spine_coordinates(patient, y, z) if shared is None else shared
    return layers(patient, locate(patient, x, y, z, edge, on_spine))


def _image(painted: list[Layer], sequence: Sequence) -> np.ndarray:
    """Water plus fat (rows, columns); fat is shifted by half a pixel at 1.5 T, in proportion to the field."""
    values = {name: signal(name, sequence) for name in TISSUES}
    water = {name: 0.0 if tissue.fat else values[name] for name, tissue in TISSUES.items()}
    fat = {name: values[name] if tissue.fat else 0.0 for name, tissue in TISSUES.items()}
    water_image, fat_image = compose(painted, water, fat)
    return water_image + shift(fat_image, (0.5 * sequence.field_t / 1.5, 0), order=1)


def _receive_field(
    patient: Patient, grid: Grid, affine: np.ndarray, rng: np.random.Generator, coil: float
) -> np.ndarray:
    """Sensitivity (slices, rows, columns) of a surface coil behind the back, with a smooth random variation."""
    z0 = patient.lumbar_centre_mm[2] + rng.normal(0, 20)
    reach = rng.uniform(90, 150)
    slow = rng.normal(0, 0.12, 3)
    fields = []
    for index in range(grid.slices):
        x, y, z = _positions(grid, affine, index)
        distance = np.sqrt((np.minimum(y - patient.back_mm, 0) / reach) ** 2 + ((z - z0) / (2.2 * reach)) ** 2)
        even = np.exp(slow[0] * x / 100 + slow[1] * y / 100 + slow[2] * z / 150)
        fields.append(even * ((1 - coil) + coil * 2.2 * np.exp(-1.6 * distance**1.5)))
    return np.stack(fields)


def _degrade(images: np.ndarray, field: np.ndarray, rng: np.random.Generator, snr: float) -> np.ndarray:
    blurred = gaussian_filter(images * field, (0, 0.45, 0.45))
    noise = rng.standard_normal((2, *images.shape), dtype=np.float32) / snr
    return (np.hypot(blurred + noise[0], noise[1]) * SCALE).astype(np.float32)


def disc_boxes(patient: Patient, grid: Grid, slice_index: int) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Level (empty above T12/L1) and box (x0, y0, x1, y1), px, of each disc on a sagittal slice, from the top down.

    A box is tight around the disc between its two endplates, then enlarged by BOX_MARGIN_MM as real training boxes are.
    Discs whose centre is outside the image are left out.
    """
    names = {index: level for level, index in DISC_OF_LEVEL.items()}
    inverse = np.linalg.inv(grid.affine)
    boxes = []
    for index in range(len(VERTEBRAE) - 2, S1 - 1, -1):
        half = min(patient.depth[index], patient.depth[index + 1]) / 2
        a = np.linspace(-half, half + 0.6 * patient.bulge[index], 9)
        s = np.array([[patient.high[index]], [patient.low[index + 1]]]) + np.zeros(9)
        dent = patient.concavity * (1 - (a / (half + 2)) ** 2) * np.array([[-1], [1]])
        y, z = patient.point(s + np.clip(dent, -3, 3), np.broadcast_to(a, s.shape))
        mm = np.stack([np.zeros(y.size), y.ravel(), z.ravel(), np.ones(y.size)])
        u, v, _, _ = inverse @ mm
        across, along = (margin / grid.pixel_mm for margin in BOX_MARGIN_MM)
        box = (float(u.min() - across), float(v.min() - along), float(u.max() + across), float(v.max() + along))
        if 0 <= (box[0] + box[2]) / 2 < grid.columns and 0 <= (box[1] + box[3]) / 2 < grid.rows:
            boxes.append((names.get(index, ""), box))
    return boxes
