"""Which device a process grades on, and how exactly a GPU computes."""

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


def compute_exactly() -> None:
    """From here on, convolutions and matrix products of this process use float32 on a GPU, not TF32.

    torch lets cuDNN round the input of convolutions to the ten bits of TF32. With these bits pretended on a CPU
    (tests/support/pretended_cuda.py), probabilities of three studies differ by up to 1.5e-3 from those of a CPU;
    without, by 6e-6.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
