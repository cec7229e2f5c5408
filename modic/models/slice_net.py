"""The classifier that reads slices one by one: it can learn from single slices and serve any number of them.

Both contrasts of a slice go through the first three layers of one EfficientNet-Lite0 that may start from ImageNet; what
is kept of each are means over a grid: above the disc, the disc, below it, each in front, in the middle and behind. Type
1 is dark on T1 *and* bright on T2 at the same place, which means over a region cannot tell; so a small layer sees both
contrasts' maps laid on each other, and what it finds speaks for type 1 only. Features are averaged over slices, the
middle one weighs most (1, 2, 3, 2, 1 of five).
"""

from typing import TYPE_CHECKING

from modic.models import efficientnet

if TYPE_CHECKING:
    import torch
    from torch import nn

GRID = 3  # rows and columns
JOINT = 96  # channels of the layer that sees both contrasts
LAYERS = (
    3  # of the trunk; with the fourth as well grades of new patients were a little worse (modic/train/refit_head.py)
)
WIDTH = efficientnet.WIDTHS[LAYERS - 1]  # channels of the trunk's map, stride 16
POOLED = 2 * GRID**2 * WIDTH  # features of a slice, of both contrasts
SCALE = 0.5  # of standardized intensities, to about the spread of ImageNet's


def build(*, dropout: float, classes: int) -> "nn.Module":
    """Random weights, training mode: float (n, 2, slices, size, size), T1 then T2 → logits (n, classes).

    A list of n tensors (2, slices, size, size) with different numbers of slices will do as well.
    """
    import torch
    from torch import nn
    from torch.nn.functional import adaptive_avg_pool2d

    class SliceNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = efficientnet.trunk(LAYERS)
            self.joint = nn.Sequential(
                nn.Conv2d(2 * WIDTH, JOINT, 1, bias=False), nn.BatchNorm2d(JOINT), nn.ReLU6(),
                nn.Conv2d(JOINT, JOINT, 3, padding=1, bias=False), nn.BatchNorm2d(JOINT), nn.ReLU6(),
            )  # fmt: skip
            self.norm = nn.BatchNorm1d(POOLED, affine=False, momentum=0.05)
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(POOLED, classes)
            self.oedema = nn.Linear(2 * JOINT, 1)
            nn.init.zeros_(self.head.weight)

        def train(self, mode: bool = True) -> "SliceNet":
            """The trunk's batch statistics stay what they are: batches are small, and ImageNet's fit."""
            super().train(mode)
            self.trunk.eval()
            return self

        def forward(self, x: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
            return self.decide(self.look(x), [one.shape[1] for one in x])

        def look(self, x: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
            """Maps of the trunk (2 * m, WIDTH, h, w): T1 and T2 of the m slices of all discs in turn."""
            slices = torch.cat([one.transpose(0, 1) for one in x])  # (m, 2, H, W)
            images = SCALE * slices.reshape(-1, 1, *slices.shape[2:]).expand(-1, 3, -1, -1)
            return self.trunk(images.contiguous(memory_format=torch.channels_last))

        def features(self, maps: torch.Tensor, depths: list[int]) -> torch.Tensor:
            """(n, POOLED), of about unit variance: what `head` decides by, from what `look` saw of n discs."""
            return self.norm(self.pooled(maps, depths))

        def pooled(self, maps: torch.Tensor, depths: list[int]) -> torch.Tensor:
            """(n, POOLED): means over the grid, averaged over slices, not yet of unit variance."""
            return _over_slices(adaptive_avg_pool2d(maps, GRID).reshape(-1, POOLED), depths)

        def oedema_of(self, maps: torch.Tensor, depths: list[int]) -> torch.Tensor:
            """(n, 1): what both contrasts' maps, laid on each other, add to the logit of type 1."""
            both = self.joint(maps.reshape(-1, 2 * WIDTH, *maps.shape[2:]))
            joint = torch.cat([both.mean((2, 3)), both.amax((2, 3))], dim=1)  # (m, 2 * JOINT)
            return self.oedema(self.dropout(_over_slices(joint, depths)))

        def decide(self, maps: torch.Tensor, depths: list[int]) -> torch.Tensor:
            """Logits (n, classes) of discs of so many slices each, from what `look` saw of them."""
            logits = self.head(self.dropout(self.features(maps, depths)))
            return logits + nn.functional.pad(self.oedema_of(maps, depths), (1, classes - 2))

    return SliceNet()


def _over_slices(features: "torch.Tensor", depths: list[int]) -> "torch.Tensor":
    """(m, f) → (n, f): the slices of each disc averaged, the middle one with most weight."""
    import torch

    means = []
    for of_disc in features.split(depths):  # type: ignore[no-untyped-call]
        place = torch.arange(len(of_disc), device=features.device)
        weights = (1 + torch.minimum(place, place.flip(0))).to(features.dtype)
        means.append((weights / weights.sum()) @ of_disc)
    return torch.stack(means)
