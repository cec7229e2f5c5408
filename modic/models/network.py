"""What grading asks of a classifier network, whatever is inside it.

Another network is one new module with a function `build(architecture, contrasts)` and one line in `BACKBONES` of
modic/models/classifier.py. The module holds a subclass of `torch.nn.Module` with the methods of `Network`.
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Network(Protocol):
    """A classifier network in evaluation mode.

    `encode` does the expensive part once; grading, grading each slice alone and saliency all start from what it
    returns. An encoding belongs to the network that made it, and nobody else looks inside.
    """

    def encode(self, x: "torch.Tensor") -> Any:
        """The encoding of n regions.

        Args:
            x: float32 (n, contrasts, slices, rows, columns), normalized; contrasts in the order of the model card.
        """

    def logits(self, encoding: Any) -> "torch.Tensor":
        """Logits of the n regions, (n, classes)."""

    def slice_logits(self, encoding: Any) -> "torch.Tensor":
        """Logits of each slice graded alone, (n, slices, classes)."""

    def saliency(self, encoding: Any, classes: "torch.Tensor") -> "torch.Tensor":
        """Which places raised the score of one class of each region, on the network's own grid.

        Args:
            encoding: of `encode`.
            classes: int64 (n,), the class that each region is explained for.

        Returns:
            (n, contrasts, slices, rows, columns), >= 0; a grid as coarse as the network's maps.
        """


@runtime_checkable
class FeatureNetwork(Network, Protocol):
    """A network of whose regions something small can be kept, from which a site's own head is fitted (modic/adapt)."""

    def level_features(self, encoding: Any) -> "torch.Tensor":
        """Float (n, features), of about unit variance: what the last layer reads."""


def gradient_times_activation(
    logits: "torch.Tensor", classes: "torch.Tensor", activations: "list[torch.Tensor]"
) -> "list[torch.Tensor]":
    """HiResCAM (Draelos & Carin 2020): the gradient of each row's own class times the activation, negatives dropped.

    Args:
        logits: (m, classes), computed from `activations`.
        classes: int64 (m,).
        activations: tensors (m', channels, …) that require a gradient.

    Returns:
        One tensor (m', …) for each activation, summed over channels.
    """
    import torch

    gradients = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), activations)
    return [(g * a).detach().sum(1).relu() for g, a in zip(gradients, activations, strict=True)]
