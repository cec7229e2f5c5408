"""Where the classifier saw the grade: one map a slice and contrast, and what each slice alone would have been graded.

The maps are Grad-CAM (Selvaraju 2017) without the step that averages the gradient over the map, that is HiResCAM
(Draelos & Carin 2020): gradient times activation, place by place, summed over channels, negatives dropped. The average
would lose what matters here, for the shipped network reads what is above and below the disc apart: on synthetic MC1
lesions of one endplate 84 % of the map lies on that side, after averaging 60 %.

A map says what spoke for the class that is shown, not that there is a lesion; it is as coarse as the network's own maps
(about 5 mm).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.classify import network_input, softmax
from modic.records import Grade, Region
from modic.weights import Model

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, eq=False)
class Evidence:
    """Of one level. `maps`: float32 (2, slices, size, size) >= 0, T1 and T2, on the region's grid."""

    level: str
    shown: int  # the graded class; the most probable one where abstained
    maps: np.ndarray
    slice_p: np.ndarray  # (slices, 3): calibrated probabilities of each slice graded alone

    @property
    def spread(self) -> float:
        """Disagreement of slices: largest minus smallest P(shown) over slices graded alone; 0 where all are alike."""
        return float(np.ptp(self.slice_p[:, self.shown]))

    @property
    def n_agree(self) -> int:
        """Slices whose own most probable class is the one shown."""
        return int((self.slice_p.argmax(1) == self.shown).sum())


@contextmanager
def seen_by(classifier: Model, *, wanted: bool = True) -> "Iterator[list[torch.Tensor]]":
    """Keeps what the shipped network saw while it graded inside, so that `explain` need not look again."""
    seen: list[torch.Tensor] = []
    if not wanted or not hasattr(classifier.net, "look"):
        yield seen
        return
    trunk: Any = classifier.net.trunk
    handle = trunk[3].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def explain(
    regions: list[Region], grades: list[Grade], *, classifier: Model, seen: "Sequence[torch.Tensor]" = ()
) -> list[Evidence]:
    """The evidence for the grades that `modic.classify.grade_regions` gave these normalized regions.

    `seen`: of `seen_by`, if that was around the grading; else the network looks at the regions again.
    """
    if not regions:
        return []
    x, net = network_input(regions).to(classifier.device), classifier.net
    shown = [int(np.argmax(grade.p)) for grade in grades]
    maps, slices = _of_slices(net, x, shown, seen) if hasattr(net, "look") else _of_volumes(net, x, shown)
    p = softmax(slices / float(classifier.card["calibration"]["temperature"]))
    return [Evidence(*one) for one in zip([r.level for r in regions], shown, maps, p, strict=True)]


def _of_slices(
    net: Any, x: "torch.Tensor", shown: list[int], seen: "Sequence[torch.Tensor]"
) -> tuple[np.ndarray, np.ndarray]:
    """Of modic.slicenet: its head is linear in slices, so one pass over single slices gives both."""
    import torch

    n, _, depth, _, _ = x.shape
    with torch.no_grad():
        middle = (seen[0] if seen else net.look(x)).clone().requires_grad_()  # (n * depth * 2, channels, h, w)
    with torch.enable_grad():
        logits = net.decide(middle, [1] * (n * depth))
        classes = torch.tensor(shown, device=x.device).repeat_interleave(depth)
        maps = _times_gradient(logits, classes, [middle])[0].reshape(n, depth, 2, 1, *middle.shape[2:])
    return _on_grid(maps.transpose(1, 2).flatten(0, 2), x), _numpy(logits).reshape(n, depth, -1)


def _of_volumes(net: Any, x: "torch.Tensor", shown: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Of the dual 3D ResNet. A slice alone is a volume of that slice repeated."""
    import torch

    depth = x.shape[2]
    with _watched([net.t1.layer3, net.t2.layer3]) as kept:
        logits = net(x)
        maps = torch.stack(_times_gradient(logits, torch.tensor(shown, device=x.device), kept), 1)  # (n, 2, d, h, w)
    with torch.inference_mode():
        alone = [_numpy(net(x[:, :, k : k + 1].expand_as(x))) for k in range(depth)]
    return _on_grid(maps.flatten(0, 1)[:, None], x), np.stack(alone, 1)


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


def _numpy(values: "torch.Tensor") -> np.ndarray:
    return values.detach().double().cpu().numpy()
