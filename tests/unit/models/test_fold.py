"""Folded networks give what the networks of the files give."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from modic.models import weights
from modic.models.classifier import build_classifier
from modic.models.detector import build_detector
from modic.models.endplate_net import SegmenterArchitecture, build
from modic.models.fold import fold

NORMALIZATIONS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.ZeroPad2d)


def random_statistics(net: nn.Module) -> nn.Module:
    """In evaluation mode, with normalizations that do something."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return net.eval()


def left(net: nn.Module) -> int:
    return sum(isinstance(module, NORMALIZATIONS) for module in net.modules())


CASES: list[tuple[str, Any, tuple[int, ...]]] = [
    (
        "shipped classifier",
        lambda: build_classifier({"backbone": "efficientnet_lite0"}, ("t1", "t2")),
        (2, 2, 3, 64, 64),
    ),
    ("dual resnet", lambda: build_classifier({"widths": [8, 8, 8, 8]}, ("t1", "t2")), (1, 2, 5, 32, 32)),
    ("segmenter", lambda: build(SegmenterArchitecture()), (1, 3, 64, 96)),
    ("lite trunk", lambda: build_detector({"backbone": "efficientnet_lite0"}).backbone, (1, 3, 101, 90)),
    ("resnet50 trunk", lambda: build_detector({"backbone": "resnet50"}).backbone, (1, 3, 64, 64)),
]


@pytest.mark.parametrize(("name", "make", "shape"), CASES, ids=[case[0] for case in CASES])
def test_output_is_the_same_and_fewer_layers_are_left(name: str, make: Any, shape: tuple[int, ...]) -> None:
    net = random_statistics(make())
    folded = fold(copy.deepcopy(net))
    assert left(net) > 5 and left(folded) <= left(net) / 4
    x = torch.randn(shape)
    with torch.inference_mode():
        one, other = (output.values() if isinstance(output := n(x), dict) else [output] for n in (net, folded))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))


def test_networks_for_service_are_folded() -> None:
    models = weights.load_models("detector", "classifier", "cpu")
    assert models.segmenter is not None and left(models.segmenter.net) == 0
    assert left(models.classifier.net) == 0 == left(models.detector.net)
    assert not any(parameter.requires_grad for parameter in models.classifier.net.parameters())
