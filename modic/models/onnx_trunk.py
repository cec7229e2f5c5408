"""EfficientNet-Lite0 on a CPU: the same maps as torch's, by ONNX Runtime, in two thirds of the time.

torch runs the trunk's depthwise convolutions and small matrix products at half of what a core can do; ONNX Runtime
keeps maps in blocks of channels throughout and joins each convolution with its activation. Maps are the same but for
rounding (tests/unit/models/test_onnx_trunk.py). The graph is made here from the folded network (modic/models/fold.py),
so that no file lies beside the weights.

ONNX Runtime's wheels hold telemetry: on import they write a device id and a queue of events for Microsoft below
~/.cache. It is off unless the user sets ORT_DISABLE_TELEMETRY.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

BATCH = 4  # images at a time; more only take more memory
INPUT = "images"
IR_VERSION, OPSET = 8, 17  # old enough for each ONNX Runtime from 1.14 on


def fast_trunk(trunk: "nn.Module") -> "nn.Module":
    """The trunk in ONNX Runtime, which takes and gives what `trunk` does, on a CPU, without gradients.

    Args:
        trunk: folded, of `modic.models.efficientnet.trunk`; or of torchvision's IntermediateLayerGetter, made of it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    import numpy as np
    import onnxruntime
    import torch
    from torch import nn

    layers: dict[str, str] | None = getattr(trunk, "return_layers", None)  # name → key
    outputs = list(layers) if layers else [list(dict(trunk.named_children()))[-1]]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    graph = onnx_graph(trunk, outputs)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    class OnnxTrunk(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            parts = [session.run(outputs, {INPUT: part.contiguous().numpy()}) for part in torch.split(x, BATCH)]
            maps = [torch.from_numpy(np.concatenate(of)) for of in zip(*parts, strict=True)]
            last = [one.contiguous(memory_format=torch.channels_last) for one in maps]
            return dict(zip(layers.values(), last, strict=True)) if layers else last[0]

    return OnnxTrunk()


def onnx_graph(trunk: "nn.Module", outputs: list[str]) -> bytes:
    """An ONNX model of a folded trunk: float32 (n, 3, rows, columns) → the maps of the children named `outputs`."""
    from onnx import TensorProto, helper

    graph, x = _Graph(), INPUT
    for name, child in trunk.named_children():
        x = graph.add(child, x)
        if name in outputs:
            x = graph.node("Identity", [x], name)
    shapes = {INPUT: ("n", 3, "rows", "columns")} | {name: ("n", *(f"{name}{i}" for i in range(3))) for name in outputs}
    given, *made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    whole = helper.make_graph(graph.nodes, "trunk", [given], made, graph.weights)
    model = helper.make_model(whole, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    content: bytes = model.SerializeToString()
    return content


class _Graph:
    """Nodes and weights so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, module: "nn.Module", x: str) -> str:
        """Append a module that reads `x`; the name of what it gives. Raises TypeError for a module of another kind."""
        import numpy as np
        from torch import nn

        if isinstance(module, nn.Identity):
            return x
        if isinstance(module, nn.Sequential):
            y = x
            for child in module:
                y = self.add(child, y)
            return self.node("Add", [y, x]) if getattr(module, "residual", False) else y
        if isinstance(module, nn.ReLU6):
            return self.node("Clip", [x, self.weight(np.float32(0)), self.weight(np.float32(6))])
        if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str):
            raise TypeError(f"no ONNX node for {module}")
        tensors = [module.weight] + ([module.bias] if module.bias is not None else [])
        weights = [self.weight(tensor.detach().float().contiguous().numpy()) for tensor in tensors]
        sizes: dict[str, Any] = {
            "kernel_shape": module.kernel_size, "strides": module.stride, "dilations": module.dilation,
            "pads": (*module.padding, *module.padding), "group": module.groups,
        }  # fmt: skip
        return self.node("Conv", [x, *weights], **sizes)

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Append a node; the name of its output."""
        from onnx import helper

        output = output or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, values: Any) -> str:
        """Append an array; its name."""
        import numpy as np
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name
