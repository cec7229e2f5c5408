"""A detector's first training from another detector: `modic train detector --teacher WEIGHTS`.

A ResNet50 starts from ImageNet. Where those weights cannot be had, it learns the feature maps of a detector that is
already trained (hints, Romero 2015; of a feature pyramid, Chen 2017), with that detector's heads on top, which stay as
they are. Both need pyramids of the same width. The paper's recipe then goes on from there (`--init`).
"""

from typing import TYPE_CHECKING, Any

from modic.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

HEADS = ("rpn.", "roi_heads.")


class Teacher:
    """A trained detector; `net` gets its heads, in place.

    Raises UsageError if the heads do not fit, WeightsError for weights that cannot be read.
    """

    def __init__(self, weights: str, net: "nn.Module", device: str) -> None:
        from modic.models.card import read_card
        from modic.models.detector import build_detector
        from modic.train.pretrained import read_tensors

        card, path = read_card(weights, "detector")
        self.net = build_detector(card["architecture"])
        self.net.load_state_dict(read_tensors(path))
        self.net = self.net.eval().requires_grad_(False).to(device)
        self.record = {"teacher": path.name, "sha256": card["sha256"]}
        heads = {key: value for key, value in self.net.state_dict().items() if key.startswith(HEADS)}
        try:
            net.load_state_dict(heads, strict=False)
        except RuntimeError as error:
            raise UsageError(f"--teacher: {path.name} has a pyramid or head of another width; see its card") from error
        for name in HEADS:
            net.get_submodule(name.rstrip(".")).requires_grad_(False)
        net.get_submodule("backbone").register_forward_hook(self._see)

    def _see(self, _: Any, batch: "tuple[torch.Tensor]", maps: "dict[str, torch.Tensor]") -> None:
        self._batch, self._maps = batch[0], maps

    def distance(self) -> "torch.Tensor":
        """Of the batch that the network saw last: mean squared difference of its maps from the teacher's.

        In units of the variance of the teacher's maps, averaged over the resolutions.
        """
        import torch

        with torch.no_grad():
            wanted: dict[str, torch.Tensor] = self.net.get_submodule("backbone")(self._batch)
        each = [((self._maps[key] - maps) ** 2).mean() / maps.var() for key, maps in wanted.items()]
        return torch.stack(each).mean()
