"""Fatty changes (type 2) taken away from real regions: marrow beside the endplates becomes like the core of its body.

In labelled data the degenerate discs carry the lesions, so a network that learns from them may read the disc instead of
the marrow. A disc whose lesion is taken away stays as degenerate as it was; it is shown as type 0, and with a painted
lesion as any type. What is darker on T1 than marrow ever is (type 1 and 3) is not seen as marrow, and stays.
"""

import cv2
import numpy as np

from modic.train.augment.lesions import Images, disc_frame, marrow_mask
from modic.train.data.disc_geometry import DiscGeometry

BAND, FADE = 0.24, 0.34  # disc widths from the endplate: evened out up to the first, untouched beyond the second
CORE = (0.26, 0.42)  # disc widths from the endplate: the marrow in the middle of a body of 0.6-0.7 widths
SMOOTH = 0.022  # disc widths, standard deviation: finer texture stays
MOST = 2.5  # how much brighter or darker than the core marrow may be to be evened out


def take_away(images: Images, disc: DiscGeometry) -> None:
    """Even out the marrow beside both endplates on all contrasts, in place."""
    u, v = disc_frame(images["t1"].shape[-1], disc)
    marrow = marrow_mask(images["t1"], u, v, disc)
    for side in (-1, 1):
        depth = side * v - disc.thickness / 2
        near = np.clip((FADE - depth) / (FADE - BAND), 0, 1) * (depth > -0.04)
        core = (depth > CORE[0]) & (depth < CORE[1]) & (np.abs(u) < 0.4)
        for image in images.values():
            for slice_, mask in zip(image, marrow, strict=True):
                _even_out(slice_, mask, near, core, SMOOTH * disc.width)


def _even_out(image: np.ndarray, marrow: np.ndarray, near: np.ndarray, core: np.ndarray, sigma: float) -> None:
    inside = core & (marrow > 0.5)
    if inside.sum() < 20:
        return
    weight = cv2.GaussianBlur(marrow, (0, 0), sigma)
    smooth = cv2.GaussianBlur(image * marrow, (0, 0), sigma) / np.maximum(weight, 1e-3)
    ratio = np.clip(smooth / max(float(np.median(image[inside])), 1e-6), 1 / MOST, MOST)
    image *= (ratio ** (-near * marrow)).astype(np.float32)
