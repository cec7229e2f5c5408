"""The paper's classifier: one 3D ResNet for each contrast, pooled features joined, one linear layer on top."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modic.errors import WeightsError
from modic.models.card import Share, Width, parse_architecture
from modic.models.network import gradient_times_activation

if TYPE_CHECKING:
    import torch
    from torch import nn

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


def build(architecture: dict[str, Any], contrasts: Sequence[str]) -> "nn.Module":
    """Random weights, training mode: float (n, contrasts, slices, size, size) → logits (n, classes).

    The branch of a contrast bears its name: `t1`, `t2`. Raises WeightsError for an architecture it cannot build.
    """
    import torch
    from torch import nn

    arch = parse_architecture(ResNetArchitecture, architecture)
    if arch.depth not in BLOCKS:
        raise WeightsError(f"the card's classifier has depth {arch.depth}; known: {', '.join(map(str, BLOCKS))}")
    expansion = 4 if BLOCKS[arch.depth][0] == "bottleneck" else 1

    class DualResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for contrast in contrasts:
                self.add_module(contrast, _branch(arch))
            self.dropout = nn.Dropout(arch.dropout)
            self.head = nn.Linear(len(contrasts) * arch.widths[-1] * expansion, arch.classes)

        @property
        def branches(self) -> list[nn.Module]:
            """The ResNets, in the order of the contrasts."""
            return [self.get_submodule(contrast) for contrast in contrasts]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = [branch(x[:, k : k + 1]) for k, branch in enumerate(self.branches)]  # each (n, width)
            return self.head(self.dropout(torch.cat(features, dim=1)))

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            """The regions themselves: a slice alone shares nothing with its stack in a 3D network."""
            return x

        def logits(self, encoding: torch.Tensor) -> torch.Tensor:
            return self(encoding)

        def slice_logits(self, encoding: torch.Tensor) -> torch.Tensor:
            """A slice alone is a volume of that slice repeated."""
            depth = encoding.shape[2]
            return torch.stack([self(encoding[:, :, k : k + 1].expand_as(encoding)) for k in range(depth)], 1)

        def saliency(self, encoding: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
            """On the grid of the third stage of each branch."""
            with _watched([branch.get_submodule("layer3") for branch in self.branches]) as activations:
                logits = self(encoding)
                return torch.stack(gradient_times_activation(logits, classes, activations), 1)

    return DualResNet()


def _branch(arch: ResNetArchitecture) -> "nn.Module":
    from monai.networks.nets.resnet import ResNet  # (6 s: only when a network is built)

    block, layers = BLOCKS[arch.depth]
    return ResNet(
        block, list(layers), list(arch.widths), spatial_dims=3, n_input_channels=1,
        conv1_t_size=(3, 7, 7),  # type: ignore[arg-type]
        conv1_t_stride=(1, 2, 2),  # type: ignore[arg-type]
        no_max_pool=True, feed_forward=False,
    )  # fmt: skip


@contextmanager
def _watched(layers: "list[nn.Module]") -> "Iterator[list[torch.Tensor]]":
    """Collects the outputs of `layers`, and starts the gradient there: what comes before costs nothing."""
    import torch

    outputs: list[torch.Tensor] = []

    def keep(_module: "nn.Module", _inputs: Any, output: "torch.Tensor") -> "torch.Tensor":
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.enable_grad():
            yield outputs
    finally:
        for handle in handles:
            handle.remove()
