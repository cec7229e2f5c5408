"""The classifier networks by name, built from the `architecture` of a model card.

A further network is one new module and one line in `BACKBONES` (modic/models/network.py says what it must offer).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from modic.errors import WeightsError
from modic.models import dual_resnet, slice_net
from modic.models.card import DEFAULT_CONTRASTS

if TYPE_CHECKING:
    from torch import nn

Builder = Callable[[dict[str, Any], Sequence[str]], "nn.Module"]

BACKBONES: dict[str, Builder] = {
    "resnet3d": dual_resnet.build,
    "efficientnet_lite0": slice_net.build,
}
"""The card's `backbone` → the function that builds the network from the card's `architecture` and `contrasts`."""

DEFAULT_BACKBONE = "resnet3d"
"""What a card without `backbone` means: the paper's."""


def build_classifier(architecture: dict[str, Any], contrasts: Sequence[str] = DEFAULT_CONTRASTS) -> "nn.Module":
    """A classifier network (modic.models.network.Network) with random weights, in training mode.

    It takes float (n, contrasts, slices, size, size) in the order of `contrasts` and returns logits (n, classes). Its
    last linear layer is `head`. Raises WeightsError for an architecture this version cannot build.
    """
    backbone = architecture.get("backbone", DEFAULT_BACKBONE)
    if not isinstance(backbone, str) or backbone not in BACKBONES:
        raise WeightsError(f"the card's classifier has backbone {backbone}; known: {', '.join(BACKBONES)}")
    return BACKBONES[backbone](architecture, contrasts)
