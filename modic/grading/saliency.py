"""Saliency: which places of a region raised the score of its grade, one map for each slice and contrast.

The maps are Grad-CAM (Selvaraju 2017) without the step that averages the gradient over the map, that is HiResCAM
(Draelos & Carin 2020): gradient times activation, place by place, summed over channels, negatives dropped. The average
would lose what matters here, for the shipped network reads what is above and below the disc apart: measured with
earlier weights, on synthetic MC1 lesions of one endplate 83 % of the map lies on that side (84 % with those before
them, 60 % after averaging); on synthetic MC2 half.

A map shows what raised the network's score of the most probable type, not that there is a lesion; the contribution of
the measured marrow is not shown. It is as coarse as the network's own maps (about 5 mm).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.grading.classify import encode_regions
from modic.models.card import contrasts
from modic.models.weights import Model
from modic.records import Grade, Region

if TYPE_CHECKING:
    import torch

    from modic.models.network import Network


@dataclass(frozen=True, eq=False)
class Saliency:
    """Of one grade. `maps`: for each contrast float32 (slices, size, size) >= 0, on the region's grid."""

    grade: Grade
    maps: dict[str, np.ndarray]


def explain(
    regions: list[Region], grades: list[Grade], *, classifier: "Model[Network]", encoding: Any = None
) -> list[Saliency]:
    """The saliency of the grades that `modic.grading.classify.grade_regions` gave these normalized regions.

    `encoding`: that of the grading, so that the network need not run again; made here if there is none.
    """
    import torch

    if not regions:
        return []
    if encoding is None:
        encoding = encode_regions(regions, classifier=classifier)
    shown = torch.tensor([grade.shown for grade in grades], device=classifier.device)
    with torch.no_grad():
        coarse = classifier.net.saliency(encoding, shown)
    names = contrasts(classifier.card)
    shape = regions[0].contrasts[names[0]].shape
    return [
        Saliency(grade, dict(zip(names, maps, strict=True)))
        for grade, maps in zip(grades, _on_grid(coarse, shape), strict=True)
    ]


def _on_grid(maps: "torch.Tensor", shape: tuple[int, ...]) -> np.ndarray:
    """(n, contrasts, d, h, w) → float32 (n, contrasts, *shape), trilinear; `shape`: slices, size, size."""
    from torch.nn.functional import interpolate

    larger = interpolate(maps.flatten(0, 1)[:, None], size=shape, mode="trilinear", align_corners=False)
    return larger.reshape(*maps.shape[:2], *shape).float().cpu().numpy()
