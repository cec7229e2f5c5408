"""Which device a process grades on."""

import logging

from modic.errors import UsageError

LOG = logging.getLogger(__name__)


def resolve_device(device: str) -> str:
    """`auto` is a GPU where this process sees one. Raises UsageError for `cuda` where it sees none."""
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UsageError("device cuda: no CUDA GPU is visible here; use --device auto or cpu")
    return "cpu"
