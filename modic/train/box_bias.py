"""Correct the edges of the detector's boxes where sources of training data disagree about the margin around a disc.

Boxes of the phantom and boxes that an earlier detector made may have another margin than boxes that people drew. A
detector trained on all of them learns something in between: on SPIDER's training patients its boxes began 7 % of their
height too high and ended 7 % too low.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from modic.levels.detect import detect, iou
from modic.records import LEVELS
from modic.train.data.samples import Sample

if TYPE_CHECKING:
    import torch

    from modic.models.weights import Model

SAME_DISC = 0.5  # IoU of two boxes of one disc, at least
FEWEST = 10  # boxes of a level; the edges of a level with fewer are left as they are


def correct_box_edges(model: "Model", samples: list[Sample]) -> dict[str, list[float]]:
    """Shift each level's predicted boxes by their median offset from the boxes that people drew.

    The shift is made in the bias of the network's last layer.

    Args:
        model: the detector, in evaluation mode; changed in place.
        samples: slices of training patients; those with `Sample.given` false are ignored.

    Returns:
        For each level that was shifted the median of (predicted - given) left, upper, right and lower edge, in shares
        of the given box's width and height.
    """
    offsets: dict[int, list[np.ndarray]] = {}
    for sample in samples:
        if sample.given:
            for name, offset in _offsets(model, sample):
                offsets.setdefault(name, []).append(offset)
    medians = {name: np.median(rows, axis=0) for name, rows in sorted(offsets.items()) if len(rows) >= FEWEST}
    for name, median in medians.items():
        _shift(model.net, name + 1, median)
    return {LEVELS[name]: [round(float(v), 4) for v in median] for name, median in medians.items()}


def _offsets(model: "Model", sample: Sample) -> list[tuple[int, np.ndarray]]:
    """For each disc that is found: its index in LEVELS, and predicted - given edges (4,) in shares of the given box."""
    boxes, scores, names = detect(sample.image[None], model)[0]
    offsets = []
    for name, truth in zip(sample.names, sample.boxes, strict=True):
        of_name = np.flatnonzero(names == name)
        if len(of_name) and iou(best := boxes[of_name[scores[of_name].argmax()]], truth) >= SAME_DISC:
            offsets.append((int(name), (best - truth) / np.tile(truth[2:] - truth[:2], 2)))
    return offsets


def _shift(net: Any, label: int, offset: np.ndarray) -> None:
    """Undo `offset` (4,) for one class, in the bias of the box regression.

    The regression gives the centre in proposal sizes and the logarithm of the size, each times the weights of
    torchvision's box coder (Girshick 2014, appendix C).
    """
    size = 1 / (1 + offset[2:] - offset[:2])  # given / predicted
    centre = -(offset[:2] + offset[2:]) / 2 * size
    weights = np.array(net.roi_heads.box_coder.weights)
    bias: torch.Tensor = net.roi_heads.box_predictor.bbox_pred.bias.data
    step = weights * np.concatenate([centre, np.log(size)])
    bias[4 * label : 4 * label + 4] += bias.new_tensor(step)
