"""Builds the network that a classifier's card describes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modic.errors import WeightsError

if TYPE_CHECKING:
    from torch import nn
from modic.models.card import parse_architecture


@dataclass(frozen=True, slots=True)
class ClassifierArchitecture:
    """Both contrasts through identical networks, features concatenated (the paper's figure 1).

    `resnet3d`, the paper's: two MONAI 3D ResNets of `depth` and `widths`. The first layer keeps the five slices
    (stride 1 in depth) and there is no max-pool, so that depth runs 5, 3, 2, 1 instead of vanishing at once.

    `efficientnet_lite0`: each slice through a 2D network that may start from ImageNet (modic/models/slice_net.py).
    """

    backbone: str = "resnet3d"  # resnet3d | efficientnet_lite0
    depth: int = 10  # of resnet3d: 10 | 18 | 34 | 50
    widths: tuple[int, ...] = (64, 128, 256, 512)  # of resnet3d
    dropout: float = 0.2
    classes: int = 3  # MC0, MC1, MC2


def build_classifier(architecture: dict[str, Any]) -> "nn.Module":
    """The two networks with random weights, in training mode.

    Takes float (n, 2, slices, size, size), T1 then T2, and returns logits (n, classes). Its last linear layer is
    `head`. Raises WeightsError for an architecture this version cannot build.
    """
    from modic.models import slice_net

    arch: ClassifierArchitecture = parse_architecture(ClassifierArchitecture, architecture)
    if arch.backbone == "efficientnet_lite0":
        return slice_net.build(dropout=arch.dropout, classes=arch.classes)
    if arch.backbone != "resnet3d":
        known = "resnet3d, efficientnet_lite0"
        raise WeightsError(f"the card's classifier has backbone {arch.backbone}; known: {known}")
    return _dual_resnet(arch)


def _dual_resnet(arch: ClassifierArchitecture) -> "nn.Module":
    import torch
    from monai.networks.nets.resnet import ResNet  # (6 s: only where a network is built)
    from torch import nn

    block, layers = _blocks(arch.depth)
    expansion = 4 if block == "bottleneck" else 1

    def branch() -> nn.Module:
        return ResNet(
            block, list(layers), list(arch.widths), spatial_dims=3, n_input_channels=1,
            conv1_t_size=(3, 7, 7),  # type: ignore[arg-type]
            conv1_t_stride=(1, 2, 2),  # type: ignore[arg-type]
            no_max_pool=True, feed_forward=False,
        )  # fmt: skip

    class DualResNet(nn.Module):
        """Each contrast through its own network, pooled features joined, one linear layer on top."""

        def __init__(self) -> None:
            super().__init__()
            self.t1, self.t2 = branch(), branch()
            self.dropout = nn.Dropout(arch.dropout)
            self.head = nn.Linear(2 * arch.widths[-1] * expansion, arch.classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = torch.cat([self.t1(x[:, :1]), self.t2(x[:, 1:])], dim=1)  # (n, 2 * width)
            return self.head(self.dropout(features))

    return DualResNet()


def _blocks(depth: int) -> tuple[str, tuple[int, ...]]:
    """Block type and blocks a stage of a ResNet (He 2016; resnet10 as in MONAI)."""
    known = {
        10: ("basic", (1, 1, 1, 1)), 18: ("basic", (2, 2, 2, 2)), 34: ("basic", (3, 4, 6, 3)),
        50: ("bottleneck", (3, 4, 6, 3)),
    }  # fmt: skip
    if depth not in known:
        raise WeightsError(f"the card's classifier has depth {depth}; known: {', '.join(map(str, known))}")
    return known[depth]
