"""The trunk in ONNX Runtime gives torch's maps."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_fold import random_statistics
from torch import nn

from modic.models import efficientnet, weights
from modic.models.detector import build_detector
from modic.models.fold import fold
from modic.models.onnx_trunk import fast_trunk, onnx_graph

NETWORKS: dict[str, Any] = {
    "detector": lambda: build_detector({"backbone": "efficientnet_lite0"}).backbone.body,
    "classifier": lambda: efficientnet.trunk(3),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(5, 3, 64, 64), (1, 3, 101, 90)], ids=["two batches", "odd sizes"])
def test_maps_are_the_same(name: str, shape: tuple[int, ...]) -> None:
    trunk = fold(random_statistics(NETWORKS[name]()))
    fast, x = fast_trunk(copy.deepcopy(trunk)), torch.randn(shape)
    assert not list(fast.parameters()), "torch keeps no second copy of the weights"
    with torch.inference_mode():
        wanted, found = trunk(x), fast(x)
    pairs = [(wanted[key], found[key]) for key in wanted] if isinstance(wanted, dict) else [(wanted, found)]
    assert len(pairs) == (4 if name == "detector" else 1)
    for a, b in pairs:
        assert b.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


def test_the_shipped_networks_run_in_it_on_a_cpu() -> None:
    detector, classifier = weights.load_detector(), weights.load_classifier()
    for trunk in (detector.net.backbone.body, classifier.net.trunk):  # type: ignore[union-attr]
        assert type(trunk).__name__ == "OnnxTrunk"


def test_a_layer_without_a_node_is_refused() -> None:
    with pytest.raises(TypeError, match="GELU"):
        onnx_graph(nn.Sequential(nn.Sequential(nn.GELU())), ["0"])


def test_it_writes_no_telemetry(tmp_path: Path) -> None:
    """In a process of its own, because what ONNX Runtime does on import it does once."""
    code = "from modic.models import efficientnet as e, fold, onnx_trunk as o; o.fast_trunk(fold.fold(e.trunk(3)))"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env=environment | {"HOME": str(tmp_path)}, check=True, timeout=120)
    assert not list(tmp_path.rglob("*onnxruntime*"))
