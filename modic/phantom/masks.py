"""What tissue of a synthetic patient each pixel shows: vertebral body, disc, canal; the truth of a segmentation."""

import numpy as np

from modic.phantom.anatomy import S1, Patient
from modic.phantom.render import Grid
from modic.phantom.tissue_map import layers, locate, spine_coordinates

BODY, DISC, CANAL, UNKNOWN = 1, 2, 3, 255


def tissue_masks(patient: Patient, grid: Grid) -> np.ndarray:
    """uint8 (slices, rows, columns) of a sagittal grid: BODY, DISC, CANAL, else 0; below S1 UNKNOWN.

    A body is its marrow, without the cortical bone around it, as people draw it. The layers of a disc are followed by
    its nucleus, the cortical bone of the bodies, and their marrow (modic/phantom/tissue_map.py).
    """
    affine = grid.affine
    columns, rows = np.meshgrid(np.arange(grid.columns), np.arange(grid.rows))
    masks = []
    for index in range(grid.slices):
        x, y, z = (affine[i, 0] * columns + affine[i, 1] * rows + affine[i, 2] * index + affine[i, 3] for i in range(3))
        points = locate(patient, x, y, z, max(grid.pixel_mm, 0.5), spine_coordinates(patient, y, z))
        painted = layers(patient, points)
        disc = next(i for i, (_, tissues) in enumerate(painted) if "annulus" in tissues)
        canal = next(mask for mask, tissues in painted if "csf" in tissues)
        masks.append(_labels(painted[disc + 3][0], painted[disc][0], canal, points.s < patient.low[S1] - 1))
    return np.stack(masks)


def _labels(marrow: np.ndarray, disc: np.ndarray, canal: np.ndarray, sacral: np.ndarray) -> np.ndarray:
    """Layers are painted over each other: bodies over discs over the canal."""
    labels = np.zeros(marrow.shape, np.uint8)
    for mask, label in ((canal, CANAL), (disc, DISC), (marrow, BODY)):
        labels[mask > 0.5] = label
    labels[sacral & np.isin(labels, (BODY, DISC))] = UNKNOWN
    return labels
