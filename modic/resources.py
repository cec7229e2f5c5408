"""Cores, and the memory one study may take. (Its time is watched from outside, where a hang cannot stop the watch.)"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SAID_BY_LIBRARIES = (
    "DefaultCPUAllocator", "Insufficient memory", "std::bad_alloc", "Unable to allocate",
    "CUDA error: out of memory", "STATUS_ALLOC_FAILED",
)  # fmt: skip
"""How torch, OpenCV, C++, numpy, CUDA, cuDNN and cuBLAS say it in exceptions that are no MemoryError."""


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def memory_limit(mebibytes: int) -> Iterator[None]:
    """Inside, this process can allocate no more than so much on top of what it has; more raises where it is asked for.

    Counts private writable memory, as Linux does for RLIMIT_DATA; GPU memory and mapped files are free. Elsewhere than
    on Linux there is no limit.
    """
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _data_bytes() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, says that memory was exhausted, on the CPU or a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if any(words in str(error) for words in SAID_BY_LIBRARIES):
        return True
    origin = error.__cause__ or error.__context__
    return origin is not None and is_out_of_memory(origin)
