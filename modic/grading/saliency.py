"""Where the classifier saw the grade: one map a slice and contrast.

The maps are Grad-CAM (Selvaraju 2017) without the step that averages the gradient over the map, that is HiResCAM
(Draelos & Carin 2020): gradient times activation, place by place, summed over channels, negatives dropped. The average
would lose what matters here, for the shipped network reads what is above and below the disc apart: on synthetic MC1
lesions of one endplate 83 % of the map lies on that side (with the weights before these 84 %, after averaging 60 %); on
synthetic MC2 half.

A map says what spoke for the class that is shown, not that there is a lesion; it is as coarse as the network's own maps
(about 5 mm).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.grading.classify import network_input
from modic.models.weights import Model
from modic.records import Grade, Region

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, eq=False)
class Evidence:
    """Of one grade. `maps`: float32 (2, slices, size, size) >= 0, T1 and T2, on the region's grid."""

    grade: Grade
    maps: np.ndarray


@contextmanager
def seen_by(classifier: Model, *, wanted: bool = True) -> "Iterator[list[torch.Tensor]]":
    """Keeps what the shipped network saw while it graded inside, so that `explain` need not look again."""
    seen: list[torch.Tensor] = []
    if not wanted or not hasattr(classifier.net, "look"):
        yield seen
        return
    handle = classifier.net.get_submodule("trunk").register_forward_hook(
        lambda _module, _inputs, output: seen.append(output)
    )
    try:
        yield seen
    finally:
        handle.remove()


def explain(
    regions: list[Region], grades: list[Grade], *, classifier: Model, seen: "Sequence[torch.Tensor]" = ()
) -> list[Evidence]:
    """The evidence for the grades that `modic.grading.classify.grade_regions` gave these normalized regions.

    `seen`: of `seen_by`, if that was around the grading; else the network looks at the regions again.
    """
    if not regions:
        return []
    x, net = network_input(regions).to(classifier.device), classifier.net
    shown = [grade.shown for grade in grades]
    maps = _of_slices(net, x, shown, seen) if hasattr(net, "look") else _of_volumes(net, x, shown)
    return [Evidence(*one) for one in zip(grades, maps, strict=True)]


def _of_slices(net: Any, x: "torch.Tensor", shown: list[int], seen: "Sequence[torch.Tensor]") -> np.ndarray:
    """Of modic.models.slice_net: each slice by itself, since its head is linear in slices."""
    import torch

    n, _, depth, _, _ = x.shape
    with torch.no_grad():
        middle = (seen[0] if seen else net.look(x)).clone().requires_grad_()  # (n * depth * 2, channels, h, w)
    with torch.enable_grad():
        logits = net.decide(middle, [1] * (n * depth))
        classes = torch.tensor(shown, device=x.device).repeat_interleave(depth)
        maps = _times_gradient(logits, classes, [middle])[0].reshape(n, depth, 2, 1, *middle.shape[2:])
    return _on_grid(maps.transpose(1, 2).flatten(0, 2), x)


def _of_volumes(net: Any, x: "torch.Tensor", shown: list[int]) -> np.ndarray:
    """Of the dual 3D ResNet."""
    import torch

    with _watched([net.t1.layer3, net.t2.layer3]) as kept:
        logits = net(x)
        maps = torch.stack(_times_gradient(logits, torch.tensor(shown, device=x.device), kept), 1)  # (n, 2, d, h, w)
    return _on_grid(maps.flatten(0, 1)[:, None], x)


@contextmanager
def _watched(layers: "list[nn.Module]") -> "Iterator[list[torch.Tensor]]":
    """Collects what `layers` put out, and starts the gradient there: what comes before costs nothing."""
    import torch

    kept: list[torch.Tensor] = []

    def keep(_module: "nn.Module", _inputs: Any, output: "torch.Tensor") -> "torch.Tensor":
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.enable_grad():
            yield kept
    finally:
        for handle in handles:
            handle.remove()


def _times_gradient(
    logits: "torch.Tensor", classes: "torch.Tensor", kept: "list[torch.Tensor]"
) -> "list[torch.Tensor]":
    """Gradient of each row's own class times activation, summed over channels (axis 1), negatives dropped."""
    import torch

    gradients = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), kept)
    return [(g * a).detach().sum(1).relu() for g, a in zip(gradients, kept, strict=True)]


def _on_grid(maps: "torch.Tensor", x: "torch.Tensor") -> np.ndarray:
    """(any, 1, d, h, w) or (any, 1, h, w) → float32 (n, 2, slices, size, size), trilinear."""
    from torch.nn.functional import interpolate

    n, _, depth, height, width = x.shape
    if maps.ndim == 4:
        maps = maps.reshape(2 * n, 1, depth, *maps.shape[2:])
    larger = interpolate(maps, size=(depth, height, width), mode="trilinear", align_corners=False)
    return larger.reshape(n, 2, depth, height, width).float().cpu().numpy()
