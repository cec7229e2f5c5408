"""Box edges on which training sources disagree: shift them to where the boxes that people gave have theirs.

Phantom boxes and boxes made by an earlier detector may leave another margin around the disc than given ones, and a
detector trained on all of them ends in between (SPIDER's training patients: 7 % of the height too high and too low).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from modic.levels.detect import detect, iou
from modic.records import LEVELS
from modic.train.data.spider_slices import Sample

if TYPE_CHECKING:
    import torch

    from modic.models.weights import Model

SAME_DISC = 0.5  # IoU
FEWEST = 10  # boxes of a level; with fewer its edges stay


def settle_boxes(model: "Model", samples: list[Sample]) -> dict[str, list[float]]:
    """Shift each level's predicted boxes, in the network's last layer, by their median offset from given boxes.

    Args:
        model: the detector, in evaluation mode; changed in place.
        samples: of training patients; those whose boxes were not given by people (`Sample.given`) are passed over.

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
    boxes, scores, names = detect(sample.image[None], model)[0]
    found = []
    for name, truth in zip(sample.names, sample.boxes, strict=True):
        of_name = np.flatnonzero(names == name)
        if len(of_name) and iou(best := boxes[of_name[scores[of_name].argmax()]], truth) >= SAME_DISC:
            found.append((int(name), (best - truth) / np.tile(truth[2:] - truth[:2], 2)))
    return found


def _shift(net: Any, label: int, offset: np.ndarray) -> None:
    """Undo `offset` (4,) in the bias of the box regression: a centre in proposal sizes, the logarithm of a size, each
    times the weights of torchvision's box coder (Girshick 2014, appendix C)."""
    size = 1 / (1 + offset[2:] - offset[:2])  # given / predicted
    centre = -(offset[:2] + offset[2:]) / 2 * size
    weights = np.array(net.roi_heads.box_coder.weights)
    bias: torch.Tensor = net.roi_heads.box_predictor.bbox_pred.bias.data
    step = weights * np.concatenate([centre, np.log(size)])
    bias[4 * label : 4 * label + 4] += bias.new_tensor(step)
