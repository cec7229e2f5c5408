"""Which device a process grades on, and how exactly a GPU computes."""

import logging
import os
import warnings
from functools import cache
from pathlib import Path

from modic.errors import UsageError

LOG = logging.getLogger(__name__)
DRIVER = Path("/proc/driver/nvidia/version")


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`: `auto` is a GPU if this process sees one; why it does not, though there is one, is logged.

    No memory of the GPU is taken. Raises UsageError for `cuda` if no GPU is seen.
    """
    if device == "cpu" or (device == "auto" and _hidden()):
        return "cpu"
    seen, why = _seen()
    return "cuda" if seen else _without_gpu(device, "no CUDA GPU is visible here", why)


def working_device(device: str) -> str:
    """As `resolve_device`, of a process that is to compute: `cuda` if a GPU has computed something for it."""
    here = resolve_device(device)
    if here == "cpu":
        return here
    trouble = _trouble()
    return _without_gpu(device, "the GPU does not compute", trouble) if trouble else here


def compute_exactly() -> None:
    """From here on, convolutions and matrix products of this process use float32 on a GPU, not TF32.

    torch lets cuDNN round the input of convolutions to the ten bits of TF32. With these bits pretended on a CPU
    (tests/support/pretended_cuda.py), probabilities of seven studies differ by up to 2.5e-3 from those of a CPU;
    without, by 7e-6.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _without_gpu(device: str, trouble: str, why: str) -> str:
    """`cpu`, for `auto`."""
    if device == "cuda":
        raise UsageError(f"device cuda: {trouble}{f' ({why})' if why else ''}; use --device auto or cpu")
    if why:
        _say(f"{trouble}: {why}; studies are graded on CPUs")
    return "cpu"


@cache
def _say(text: str) -> None:
    """Once a process."""
    LOG.warning("%s", text)


def _hidden() -> bool:
    """Whether whoever started this process wanted it to see no GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "some").strip() in ("", "-1", "NoDevFiles")


def _seen() -> tuple[bool, str]:
    """Whether torch sees a GPU; if not, why, where somebody may expect one."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = torch.cuda.is_available()
    if seen or not DRIVER.exists():
        return seen, ""
    if torch.version.cuda is None:
        return False, f"PyTorch {torch.__version__} is built without CUDA; install one that is built with it"
    if _hidden():
        return False, f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}"
    said = [" ".join(str(one.message).split()) for one in caught]
    return False, said[0] if said else f"a driver is there, but no GPU for PyTorch {torch.__version__}"


@cache
def _trouble() -> str:
    """Why the GPU computes nothing for this process; empty if it does. Takes the memory that CUDA needs for itself."""
    import torch

    try:
        torch.nn.functional.conv2d(torch.ones(1, 1, 4, 4, device="cuda"), torch.ones(1, 1, 3, 3, device="cuda")).cpu()
    except RuntimeError as error:
        said = str(error).strip().partition("\n")[0]
        return f"PyTorch {torch.__version__}: {said}"
    return ""
