"""torchvision without torch's compiler, which takes 3 s of CPU to import and is never used here.

`torchvision.ops.roi_align` imports `torch._dynamo` for one question, which it asks only on devices without a kernel of
its own. Here the question is asked when it is asked: the answer is the same, and every process that grades starts
sooner.
"""

import importlib
import sys
from types import ModuleType

_COMPILER = ("torch._dynamo", "torch._dynamo.utils")


def import_torchvision() -> None:
    """Import torchvision's detection models; nothing else of the process changes."""
    if "torchvision.ops.roi_align" in sys.modules or _COMPILER[0] in sys.modules:
        return
    package, utils = (ModuleType(name) for name in _COMPILER)
    package.__path__ = []
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    standing_in = dict(zip(_COMPILER, (package, utils), strict=True))
    sys.modules.update(standing_in)
    try:
        importlib.import_module("torchvision.models.detection")
    except (AttributeError, ImportError):  # another version of torch or torchvision asks for more: as usual, then
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    finally:
        for name, module in standing_in.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(_COMPILER[1]).is_compile_supported(device_type))
