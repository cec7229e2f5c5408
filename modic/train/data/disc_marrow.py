"""The measured marrow of training discs, as service measures it."""

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from modic.grading.marrow_features import marrow_features
from modic.imaging.endplates import find_endplates
from modic.imaging.volume import CanonicalVolume, Grid
from modic.records import LevelBox, LevelSet

if TYPE_CHECKING:
    from modic.models.endplate_net import Segmenter

BOX_MM = 47.0  # width of a disc's box: 36 mm of disc and 5.5 mm in front of and behind it (modic/phantom/render.py)


def disc_marrow(
    t1: CanonicalVolume, t2: CanonicalVolume, boxes: list[LevelBox], segmenter: str, *, scaled: bool = False
) -> dict[str, np.ndarray]:
    """`marrow_features` by level.

    `segmenter`: weights, as `modic.models.weights.load_segmenter` takes them. `scaled`: the true size of pixels is not
    known; they are scaled so that the median box is `BOX_MM` wide.
    """
    if scaled:
        width = float(np.median([box.box[2] - box.box[0] for box in boxes])) * t2.spacing_mm[0]
        t1, t2 = (_scaled(volume, BOX_MM / width) for volume in (t1, t2))
    levels = LevelSet(tuple(boxes), "ok", 1.0)
    return marrow_features({"t1": t1, "t2": t2}, find_endplates(t2, t1, levels, segmenter=_segmenter(segmenter)))


def _scaled(volume: CanonicalVolume, factor: float) -> CanonicalVolume:
    """The same single slice with pixels `factor` times as large."""
    grids = [Grid(np.diag([1, factor, factor, 1]) @ grid.affine, grid.shape) for grid in (volume.grid, volume.native)]
    return replace(volume, affine=grids[0].affine, native=grids[1])


@cache
def _segmenter(name: str) -> "Segmenter":
    from modic.models.weights import load_segmenter

    return load_segmenter(name)
