"""The detector, built from the `architecture` of a model card and from nothing else.

The card decides size and backbone, so that weights trained on a GPU (`resnet50`, the paper's) and lighter ones
trained on a CPU are the same code. Unknown keys are refused: a card from a newer version must not be half read.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from modic.models.card import Width, parse_architecture
from modic.models.quick_import import import_torchvision

if TYPE_CHECKING:
    from torch import nn


RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")


@dataclass(frozen=True, slots=True)
class DetectorArchitecture:
    """Faster R-CNN with a feature pyramid (Ren 2015, Lin 2017), as torchvision builds it.

    The paper's detector is `DetectorArchitecture(backbone="resnet50", fpn_channels=256, head_features=1024)`, that
    is `fasterrcnn_resnet50_fpn` with seven classes.
    """

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"] = "resnet50"
    fpn_channels: Width = 256
    head_features: Width = 1024
    classes: Literal[7] = 7  # background, then modic.records.LEVELS
    anchor_sizes: Annotated[tuple[Width, ...], Field(min_length=5, max_length=5)] = (24, 32, 48, 64, 96)
    # px, square root of the area, finest pyramid level first
    anchor_ratios: tuple[Annotated[float, Field(ge=0.01, le=100)], ...] = (0.3, 0.5, 0.8)
    # height / width: discs are flat
    proposals: Annotated[int, Field(ge=6, le=2000)] = 100  # per image; six discs need few, and few make a CPU fast


def build_detector(architecture: dict[str, Any]) -> "nn.Module":
    """Faster R-CNN with random weights, in training mode.

    Takes a list of float (3, H, W) images in 0..1 that are already at the card's image size, and returns boxes in
    their pixels. Batch normalization is trained (not frozen), since the shipped weights start from scratch.
    """
    import_torchvision()
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

    arch = parse_architecture(DetectorArchitecture, architecture)
    trunk, widths = _trunk(arch.backbone)
    layers = {f"layer{i}": str(i - 1) for i in range(1, 5)}
    backbone = BackboneWithFPN(trunk, layers, widths, arch.fpn_channels, extra_blocks=LastLevelMaxPool())
    sizes = tuple((size,) for size in arch.anchor_sizes)

    class KeepSize(GeneralizedRCNNTransform):  # type: ignore[misc]
        """Images arrive at the card's size (modic.levels.detect.detector_image); torchvision must not resize again."""

        def resize(self, image: Any, target: Any = None) -> Any:
            return image, target

    net = FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(sizes, (arch.anchor_ratios,) * len(sizes)),
        box_head=TwoMLPHead(arch.fpn_channels * 7 * 7, arch.head_features),
        box_predictor=FastRCNNPredictor(arch.head_features, arch.classes),
        rpn_pre_nms_top_n_train=1000, rpn_post_nms_top_n_train=3 * arch.proposals,
        rpn_pre_nms_top_n_test=5 * arch.proposals, rpn_post_nms_top_n_test=arch.proposals,
        rpn_batch_size_per_image=128, box_batch_size_per_image=64, box_positive_fraction=0.5,
        box_score_thresh=0.02, box_nms_thresh=0.4, box_detections_per_img=40,
    )  # fmt: skip
    net.transform = KeepSize(0, 0, image_mean=[0.3] * 3, image_std=[0.25] * 3)
    return net


def _trunk(backbone: str) -> tuple["nn.Module", list[int]]:
    """A network with children `layer1` … `layer4`, and their channels."""
    from torch import nn
    from torchvision.models import get_model

    from modic.models import efficientnet

    if backbone == "efficientnet_lite0":
        return efficientnet.trunk(), list(efficientnet.WIDTHS)
    trunk = get_model(backbone, weights=None, norm_layer=nn.BatchNorm2d)
    return trunk, [trunk.inplanes // 2**i for i in (3, 2, 1, 0)]
