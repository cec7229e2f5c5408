"""The paper's classifier: one 3D ResNet for each contrast, pooled features joined, one linear layer on top."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from modic.errors import WeightsError
from modic.models.card import Share, Width, parse_architecture
from modic.models.network import gradient_times_activation

BLOCKS = {
    10: ("basic", (1, 1, 1, 1)), 18: ("basic", (2, 2, 2, 2)), 34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
}  # fmt: skip
"""Depth → type of block, and blocks in each stage (He 2016; 10 as in MONAI)."""


@dataclass(frozen=True, slots=True)
class ResNetArchitecture:
    """The paper's network (figure 1).

    The first layer keeps the five slices (stride 1 in depth) and there is no max-pool, so that depth runs 5, 3, 2, 1
    instead of vanishing at once.
    """

    backbone: str = "resnet3d"
    depth: int = 10  # a key of BLOCKS
    widths: tuple[Width, ...] = (64, 128, 256, 512)  # channels of the four stages
    dropout: Share = 0.2
    classes: Literal[3] = 3  # MC0, MC1, MC2


@dataclass(frozen=True, eq=False)
class Encoding:
    """Of n regions: the regions themselves, the third stage's maps of each branch, and the pooled features (n, f)."""

    regions: torch.Tensor
    maps: list[torch.Tensor]
    features: torch.Tensor


def build(architecture: dict[str, Any], contrasts: Sequence[str]) -> nn.Module:
    """Random weights, training mode: float (n, contrasts, slices, size, size) → logits (n, classes).

    The branch of a contrast bears its name: `t1`, `t2`. Raises WeightsError for an architecture it cannot build.
    """
    arch = parse_architecture(ResNetArchitecture, architecture)
    if arch.depth not in BLOCKS:
        raise WeightsError(f"the card's classifier has depth {arch.depth}; known: {', '.join(map(str, BLOCKS))}")
    return DualResNet(arch, contrasts)


class DualResNet(nn.Module):
    """The network; its methods for service are those of modic.models.network.FeatureNetwork."""

    def __init__(self, arch: ResNetArchitecture, contrasts: Sequence[str]) -> None:
        super().__init__()
        self.contrasts = tuple(contrasts)
        expansion = 4 if BLOCKS[arch.depth][0] == "bottleneck" else 1
        n_features = len(contrasts) * arch.widths[-1] * expansion
        for contrast in contrasts:
            self.add_module(contrast, _branch(arch))
        self.spread = nn.BatchNorm1d(n_features, affine=False, momentum=0.05)
        self.dropout = nn.Dropout(arch.dropout)
        self.head = nn.Linear(n_features, arch.classes)
        self.register_load_state_dict_pre_hook(_without_spread)  # type: ignore[no-untyped-call]

    @property
    def branches(self) -> list[nn.Module]:
        """The ResNets, in the order of the contrasts."""
        return [self.get_submodule(contrast) for contrast in self.contrasts]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.features(self.maps(x))
        if self.training:
            self.spread(features.detach())  # mean and variance alone; the head reads the features as they are
        return self.head(self.dropout(features))

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps of each branch's third stage."""
        return [_to_third_stage(branch, x[:, k : k + 1]) for k, branch in enumerate(self.branches)]

    def features(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """(n, f) of all branches, pooled."""
        return torch.cat([_from_third_stage(*each) for each in zip(self.branches, maps, strict=True)], dim=1)

    def encode(self, x: torch.Tensor) -> Encoding:
        maps = self.maps(x)
        return Encoding(x, maps, self.features(maps))

    def logits(self, encoding: Encoding) -> torch.Tensor:
        return self.head(encoding.features)

    def slice_logits(self, encoding: Encoding) -> torch.Tensor:
        """A slice alone is a volume of that slice repeated: in a 3D network it shares nothing with its stack."""
        x, depth = encoding.regions, encoding.regions.shape[2]
        return torch.stack([self(x[:, :, k : k + 1].expand_as(x)) for k in range(depth)], 1)

    def level_features(self, encoding: Encoding) -> torch.Tensor:
        return self.spread(encoding.features)

    def saliency(self, encoding: Encoding, classes: torch.Tensor) -> torch.Tensor:
        """On the grid of the third stage of each branch."""
        maps = [each.clone().requires_grad_() for each in encoding.maps]
        with torch.enable_grad():
            logits = self.head(self.features(maps))
            return torch.stack(gradient_times_activation(logits, classes, maps), 1)


def _without_spread(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights from before level features were kept say nothing of their spread: they stay as they are."""
    for name, value in module.get_submodule("spread").state_dict().items():
        state.setdefault(f"{prefix}spread.{name}", value)


def _to_third_stage(branch: Any, x: torch.Tensor) -> torch.Tensor:
    """What MONAI's ResNet does first (`feed_forward` and max-pool are off)."""
    return branch.layer3(branch.layer2(branch.layer1(branch.act(branch.bn1(branch.conv1(x))))))


def _from_third_stage(branch: Any, maps: torch.Tensor) -> torch.Tensor:
    """What it does then: (n, width)."""
    pooled: torch.Tensor = branch.avgpool(branch.layer4(maps)).flatten(1)
    return pooled


def _branch(arch: ResNetArchitecture) -> nn.Module:
    from monai.networks.nets.resnet import ResNet  # (6 s: only when a network is built)

    block, layers = BLOCKS[arch.depth]
    return ResNet(
        block, list(layers), list(arch.widths), spatial_dims=3, n_input_channels=1,
        conv1_t_size=(3, 7, 7),  # type: ignore[arg-type]
        conv1_t_stride=(1, 2, 2),  # type: ignore[arg-type]
        no_max_pool=True, feed_forward=False,
    )  # fmt: skip
