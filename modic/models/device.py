"""Which device a process grades on."""

from modic.errors import UsageError


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`: `auto` is a GPU if this process sees one. Raises UsageError for `cuda` if it sees none."""
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UsageError("device cuda: no CUDA GPU is visible here; use --device auto or cpu")
    return "cpu"
