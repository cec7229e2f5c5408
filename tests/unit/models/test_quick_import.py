"""torchvision without torch's compiler is torchvision."""

import subprocess
import sys

SCRIPT = """
import sys
from modic.models.quick_import import import_torchvision
import_torchvision()
import torch, torchvision
from torchvision.ops import roi_align
image, box = torch.arange(16.0).reshape(1, 1, 4, 4), [torch.tensor([[0.0, 0, 4, 4]])]
mean = roi_align(image, box, output_size=(1, 1), aligned=True).item()
print(mean, "torch._dynamo" in sys.modules)
asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
from torch._dynamo.utils import is_compile_supported
print(asked == is_compile_supported("cpu"), callable(torch._dynamo.optimize))
"""


def test_torchvision_is_whole_and_the_compiler_comes_when_it_is_asked_for():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7.5", "False", "True", "True"]
