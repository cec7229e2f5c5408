"""The classifier that reads slices one by one: it can learn from single slices and grade any number of them.

All contrasts of a slice go through the first three layers of one EfficientNet-Lite0 that may start from ImageNet. What
is kept of each are means over a grid: above the disc, the disc, below it, each in front, in the middle and behind. Type
1 is dark on T1 *and* bright on T2 at the same place, which means over a region cannot show; so a small layer sees the
maps of all contrasts laid on each other, and what it finds speaks for type 1 only. Features are averaged over slices,
the middle one weighs most (1, 2, 3, 2, 1 of five).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from modic.models import efficientnet
from modic.models.card import Share, parse_architecture
from modic.models.fold import layout_of
from modic.models.network import gradient_times_activation

GRID = 3  # rows and columns
JOINT = 96  # channels of the layer that sees all contrasts
LAYERS = 3  # of the trunk; with the fourth, grades of new patients were a little worse (modic/train/refit_head.py)
WIDTH = efficientnet.WIDTHS[LAYERS - 1]  # channels of the trunk's map, stride 16
SCALE = 0.5  # of standardized intensities, to about the spread of ImageNet's


@dataclass(frozen=True, slots=True)
class SliceNetArchitecture:
    """What a card may say of this network."""

    backbone: str = "efficientnet_lite0"
    dropout: Share = 0.2
    classes: Literal[3] = 3  # MC0, MC1, MC2


@dataclass(frozen=True, eq=False)
class SliceMaps:
    """What the trunk made of n regions. `maps`: (n * slices * contrasts, WIDTH, h, w), slice by slice.

    `pooled` (n * slices, features) and `joint` (n * slices, 2 * JOINT): of each slice, from which all is graded.
    """

    maps: torch.Tensor
    pooled: torch.Tensor
    joint: torch.Tensor
    regions: int
    slices: int


def build(architecture: dict[str, Any], contrasts: Sequence[str]) -> nn.Module:
    """Random weights, training mode: float (n, contrasts, slices, size, size) → logits (n, classes).

    For training, a list of n tensors (contrasts, slices, size, size) with different numbers of slices will do as well.
    """
    return SliceNet(parse_architecture(SliceNetArchitecture, architecture), len(contrasts))


class SliceNet(nn.Module):
    """The network; its methods for service are those of modic.models.network.FeatureNetwork."""

    def __init__(self, arch: SliceNetArchitecture, n_contrasts: int) -> None:
        super().__init__()
        self.n_contrasts, self.classes = n_contrasts, arch.classes
        features = n_contrasts * GRID**2 * WIDTH  # of a slice, of all contrasts
        self.trunk = efficientnet.trunk(LAYERS)
        self.joint = nn.Sequential(
            nn.Conv2d(n_contrasts * WIDTH, JOINT, 1, bias=False), nn.BatchNorm2d(JOINT), nn.ReLU6(),
            nn.Conv2d(JOINT, JOINT, 3, padding=1, bias=False), nn.BatchNorm2d(JOINT), nn.ReLU6(),
        )  # fmt: skip
        self.norm = nn.BatchNorm1d(features, affine=False, momentum=0.05)
        self.dropout = nn.Dropout(arch.dropout)
        self.head = nn.Linear(features, arch.classes)
        self.oedema = nn.Linear(2 * JOINT, 1)
        nn.init.zeros_(self.head.weight)

    def train(self, mode: bool = True) -> "SliceNet":
        """The trunk's batch statistics stay what they are: batches are small, and ImageNet's fit."""
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, x: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        return self.classify(self.slice_maps(x), _depths(x))

    def slice_maps(self, x: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        """Maps of the trunk (m * contrasts, WIDTH, h, w): the contrasts of the m slices of all discs in turn."""
        slices = torch.cat([region.transpose(0, 1) for region in x])  # (m, contrasts, H, W)
        images = SCALE * slices.reshape(-1, 1, *slices.shape[2:]).expand(-1, 3, -1, -1)
        layout = torch.channels_last if self.training else layout_of(images.device.type)
        return self.trunk(images.contiguous(memory_format=layout))

    def features(self, maps: torch.Tensor, depths: list[int]) -> torch.Tensor:
        """(n, features), of about unit variance: the input of `head` for n discs with so many slices each."""
        return self.norm(self.pooled(maps, depths))

    def pooled(self, maps: torch.Tensor, depths: list[int]) -> torch.Tensor:
        """(n, features): means over the grid, averaged over slices, not yet of unit variance."""
        return _over_slices(self.pooled_slices(maps), depths)

    def pooled_slices(self, maps: torch.Tensor) -> torch.Tensor:
        """(m, features): means over the grid of each slice."""
        return adaptive_avg_pool2d(maps, GRID).reshape(-1, self.norm.num_features)

    def oedema_of(self, maps: torch.Tensor, depths: list[int]) -> torch.Tensor:
        """(n, 1): what all contrasts' maps, laid on each other, add to the logit of type 1."""
        return self._oedema(self.joint_slices(maps), depths)

    def joint_slices(self, maps: torch.Tensor) -> torch.Tensor:
        """(m, 2 * JOINT): mean and maximum of what all contrasts' maps of each slice show together."""
        joint = self.joint(maps.reshape(-1, self.n_contrasts * WIDTH, *maps.shape[2:]))
        return torch.cat([joint.mean((2, 3)), joint.amax((2, 3))], dim=1)

    def classify(self, maps: torch.Tensor, depths: list[int]) -> torch.Tensor:
        """Logits (n, classes) of n discs with so many slices each, from their `slice_maps`."""
        return self.classify_slices(self.pooled_slices(maps), self.joint_slices(maps), depths)

    def classify_slices(self, pooled: torch.Tensor, joint: torch.Tensor, depths: list[int]) -> torch.Tensor:
        """As `classify`, from `pooled_slices` and `joint_slices`."""
        logits = self.head(self.dropout(self.norm(_over_slices(pooled, depths))))
        return logits + nn.functional.pad(self._oedema(joint, depths), (1, self.classes - 2))

    def _oedema(self, joint: torch.Tensor, depths: list[int]) -> torch.Tensor:
        return self.oedema(self.dropout(_over_slices(joint, depths)))

    def encode(self, x: torch.Tensor) -> SliceMaps:
        maps = self.slice_maps(x)
        return SliceMaps(maps, self.pooled_slices(maps), self.joint_slices(maps), x.shape[0], x.shape[2])

    def logits(self, encoding: SliceMaps) -> torch.Tensor:
        depths = [encoding.slices] * encoding.regions
        return self.classify_slices(encoding.pooled, encoding.joint, depths)

    def slice_logits(self, encoding: SliceMaps) -> torch.Tensor:
        n, depth = encoding.regions, encoding.slices
        return self.classify_slices(encoding.pooled, encoding.joint, [1] * (n * depth)).reshape(n, depth, -1)

    def level_features(self, encoding: SliceMaps) -> torch.Tensor:
        depths = [encoding.slices] * encoding.regions
        pooled, joint = (_over_slices(one, depths) for one in (encoding.pooled, encoding.joint))
        return torch.cat([self.norm(pooled), joint], 1)

    def saliency(self, encoding: SliceMaps, classes: torch.Tensor) -> torch.Tensor:
        """Each slice by itself, since the head is linear in slices; on the grid of the trunk's maps."""
        n, depth = encoding.regions, encoding.slices
        maps = encoding.maps.clone().requires_grad_()
        with torch.enable_grad():
            logits = self.classify(maps, [1] * (n * depth))
            (salient,) = gradient_times_activation(logits, classes.repeat_interleave(depth), [maps])
        return salient.reshape(n, depth, self.n_contrasts, *maps.shape[2:]).transpose(1, 2)


def _depths(x: torch.Tensor | list[torch.Tensor]) -> list[int]:
    """The number of slices of each disc."""
    return [region.shape[1] for region in x]


def _over_slices(features: torch.Tensor, depths: list[int]) -> torch.Tensor:
    """(m, f) → (n, f): the slices of each disc averaged, the middle one with most weight."""
    if set(depths) == {1}:
        return features
    if len(set(depths)) == 1:
        weights = _weights(depths[0], features)
        return (features.reshape(len(depths), depths[0], -1) * weights[:, None]).sum(1)
    means = [_weights(len(disc), features) @ disc for disc in torch.split(features, depths)]
    return torch.stack(means)


def _weights(depth: int, like: torch.Tensor) -> torch.Tensor:
    """(depth,) of the slices of a disc, sum 1."""
    place = torch.arange(depth, device=like.device)
    weights = (1 + torch.minimum(place, place.flip(0))).to(like.dtype)
    return weights / weights.sum()
