"""The segmentation network: a small U-Net (Ronneberger 2015) that finds vertebral bodies, discs and the canal.

It sees one spine strip of one contrast (modic/imaging/spine_strip.py): the image, where the detector's boxes put the
discs, and how far a column lies from the discs' centres. What a class index means is `CLASSES`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from modic.errors import WeightsError
from modic.models.card import Width, parse_architecture
from modic.models.fold import layout_of

if TYPE_CHECKING:
    import torch
    from torch import nn

CLASSES = ("background", "vertebra", "disc", "canal")
CHANNELS = 3  # image, disc rhythm, column
STRIP = {"columns": 96, "width_px": 56.0}
"""Columns of a strip, and how many of them the median disc box is wide: 0.8 mm each, as boxes are 47 mm wide."""
PERCENTILES = (1.0, 99.0)  # between which grey values are scaled


@dataclass(frozen=True, slots=True)
class SegmenterArchitecture:
    """Channels of each resolution, finest first; each is half as fine as the one before."""

    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (8, 16, 32, 48, 64)
    classes: Literal[4] = 4  # CLASSES

    @property
    def multiple(self) -> int:
        """Rows and columns of an input must be a multiple of this."""
        return int(2 ** (len(self.widths) - 1))


def build(architecture: SegmenterArchitecture) -> "nn.Module":
    """The network with random weights, in training mode: float (n, 3, rows, columns) → logits (n, classes, …)."""
    import torch
    from torch import nn

    def block(inputs: int, outputs: int) -> nn.Module:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        """Down by mean pooling, up by interpolation, each resolution joined to its own."""

        def __init__(self) -> None:
            super().__init__()
            widths = architecture.widths
            self.down = nn.ModuleList(block(a, b) for a, b in zip((CHANNELS, *widths[:-1]), widths, strict=True))
            self.up = nn.ModuleList(block(a + b, a) for a, b in pairwise(widths))
            self.head = nn.Conv2d(widths[0], architecture.classes, 1)

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            kept: list[torch.Tensor] = []
            for level, down in enumerate(self.down):
                x = down(nn.functional.avg_pool2d(x, 2) if level else x)
                kept.append(x)
            for up, finer in zip(reversed(self.up), reversed(kept[:-1]), strict=True):
                x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
                x = up(torch.cat([finer, x], dim=1))
            return self.head(x)

    return UNet()


def build_segmenter(architecture: dict[str, Any]) -> "nn.Module":
    """`build`, from the `architecture` of a card. Raises WeightsError for one that this version cannot build."""
    return build(parse_architecture(SegmenterArchitecture, architecture))


def strip_input(images: np.ndarray, rhythm: np.ndarray, percentiles: Sequence[float]) -> np.ndarray:
    """What the network sees of strips (n, rows, columns) of one spine: float32 (n, CHANNELS, rows, columns).

    Each image is clipped at two percentiles of its pixels that are not 0 (outside the slice) and scaled to 0..1;
    then the rhythm of the discs, 1 at their centres and -1 within vertebrae, and the column, -1 in front to 1 behind.
    """
    n, rows, columns = images.shape
    out = np.empty((n, CHANNELS, rows, columns), np.float32)
    for channel, image in zip(out[:, 0], images, strict=True):
        low, high = np.percentile(image[image != 0], percentiles) if image.any() else (0.0, 1.0)
        channel[:] = ((image - low) / max(high - low, 1e-6)).clip(0, 1)
    out[:, 1] = np.cos(2 * np.pi * rhythm)[:, None]
    out[:, 2] = np.linspace(-1, 1, columns)
    return out


@dataclass(frozen=True, eq=False)
class Segmenter:
    """The network in evaluation mode on its device, with the percentiles and the identity of its card."""

    net: "nn.Module"
    percentiles: tuple[float, float] = PERCENTILES
    device: str = "cpu"
    id: str = ""  # first 12 hex digits of the weights' SHA-256

    def probabilities(self, images: np.ndarray, rhythm: np.ndarray) -> np.ndarray:
        """Of each class at each pixel of strips (n, rows, columns): float32 (n, classes, rows, columns), sum 1."""
        import torch

        inputs = torch.from_numpy(strip_input(images, rhythm, self.percentiles)).to(self.device)
        with torch.inference_mode():
            logits = self.net(inputs.contiguous(memory_format=layout_of(self.device)))
            return logits.softmax(1).float().cpu().numpy()


def check_segmenter(card: dict[str, Any]) -> None:
    """Raises WeightsError for a network that this version cannot build, or other strips than it lays."""
    parse_architecture(SegmenterArchitecture, card["architecture"])
    asked = {key: card["preprocessing"][key] for key in STRIP}
    if asked != STRIP:
        raise WeightsError(f"segmenter weights: the card's strips are {asked}, this version's {STRIP}")


def segmenter_of(net: "nn.Module", card: dict[str, Any], weights_id: str, device: str) -> Segmenter:
    """A loaded network for service. Raises WeightsError as `check_segmenter`."""
    check_segmenter(card)
    low, high = card["preprocessing"]["percentiles"]
    return Segmenter(net, (float(low), float(high)), device, weights_id)
