"""The GPUs of this machine: which a process sees, their memory, and how many workers one serves."""

import os
import subprocess

from modic.models.device import DRIVER
from modic.resources import cores

HOST_BYTES = 3 * 2**30  # of the machine's memory that a worker takes: with CUDA's libraries and what it keeps there
GPU_BYTES = 4 * 2**30  # of a GPU's: CUDA's own, the networks, a study's slices and regions (0.4 GB counted), with room
CUDA_BYTES = 2**30  # of these, CUDA's own and its libraries'
CUDA_MEMORY = 0.9  # of a GPU's memory, for workers


def memory_share(gpu: str, workers: int) -> dict[str, str]:
    """Environment of a worker that shares a GPU with others: how much of its memory tensors may take."""
    if workers == 1:
        return {}
    own = CUDA_BYTES / memory if (memory := gpu_bytes(gpu)) else 0.0
    share = CUDA_MEMORY / workers
    return {"PYTORCH_ALLOC_CONF": f"per_process_memory_fraction:{max(share - own, share / 2):.3f}"}


def fitting_workers(gpus: list[str]) -> int:
    """How many workers to give each of these GPUs: one a core, as far as the machine's memory and the GPU's go.

    One, if a GPU's memory is not known or its compute mode lets in one process only.
    """
    from distributed.system import MEMORY_LIMIT

    if any("Exclusive" in mode for gpu in gpus for mode in _nvidia_smi(f"--id={gpu}", *_query("compute_mode"))):
        return 1
    memory = min(map(gpu_bytes, gpus))
    of_machine = MEMORY_LIMIT // HOST_BYTES // len(gpus)
    return max(1, min(cores() // len(gpus), of_machine, memory // GPU_BYTES))


def gpu_bytes(gpu: str) -> int:
    """Memory of a GPU that `visible_gpus` named, bytes; 0 if it is not known.

    Of a part (MIG) as its profile says (`3g.71gb`). Without nvidia-smi torch is asked.
    """
    if gpu.startswith("MIG-"):
        profile = _listed().get(gpu, "").rpartition(".")[2].removesuffix("gb")
        return int(profile) * 2**30 if profile.isdecimal() else 0
    answer = _nvidia_smi(f"--id={gpu}", *_query("memory.total"))
    if answer and answer[0].isdecimal():
        return int(answer[0]) * 2**20
    return _torch_bytes(int(gpu)) if gpu.isdecimal() and not _listed() else 0


def visible_gpus() -> list[str]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` names, or else the UUIDs that nvidia-smi lists; empty if there is none.

    A GPU that is divided (MIG) is listed as its parts, of which a process sees one at a time. Where there is a driver
    and no nvidia-smi, as in some containers, torch is asked.
    """
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        named = [gpu.strip() for gpu in asked.split(",")]
        hidden = next((index for index, gpu in enumerate(named) if gpu in ("", "-1", "NoDevFiles")), len(named))
        return named[:hidden]  # as CUDA reads it
    return [*_listed()] or [str(index) for index in range(_torch_gpus())]


def _listed() -> dict[str, str]:
    """UUIDs of the GPUs that nvidia-smi lists, or of their parts if they are divided → a part's profile, or nothing."""
    gpus: dict[str, str] = {}
    whole = ""
    for line in _nvidia_smi("-L"):
        uuid = line.rpartition("UUID: ")[2].rstrip(") ")
        if line.lstrip().startswith("MIG"):
            gpus.pop(whole, None)  # which these are parts of
            gpus[uuid] = line.split()[1]
        elif "UUID: " in line:
            whole = uuid
            gpus[uuid] = ""
    return gpus


def _torch_gpus() -> int:
    """How many GPUs torch sees where there is a driver; torch is not imported otherwise."""
    if not DRIVER.exists():
        return 0
    import torch

    return int(torch.cuda.device_count())


def _torch_bytes(index: int) -> int:
    import torch

    try:
        return int(torch.cuda.get_device_properties(index).total_memory)
    except (AssertionError, RuntimeError):
        return 0


def _query(name: str) -> tuple[str, str]:
    return f"--query-gpu={name}", "--format=csv,noheader,nounits"


def _nvidia_smi(*asked: str) -> list[str]:
    """Lines of its answer; none if there is no nvidia-smi, or it knows nothing of what it is asked."""
    try:
        listed = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.splitlines()
