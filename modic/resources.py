"""The cores of this process, a limit on its memory, whether an exception means that memory ran out; quicker imports."""

import errno
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OUT_OF_MEMORY_WORDS = (
    "DefaultCPUAllocator", "Insufficient memory", "std::bad_alloc", "Unable to allocate",
    "CUDA error: out of memory", "STATUS_ALLOC_FAILED", "failed to map segment", "annot allocate memory",
    "can't start new thread", "not enough memory",
)  # fmt: skip
"""Words of torch, OpenCV, C++, numpy, CUDA, cuDNN, cuBLAS, the loader of libraries and threads in exceptions that are
no MemoryError. The last ones come where the address space is limited (`ulimit -v`)."""


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def importing() -> Iterator[None]:
    """Inside, no garbage is collected: modules leave none, and looking for it takes a sixth of a long import."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def memory_limit(mebibytes: int) -> Iterator[None]:
    """Let this process allocate at most `mebibytes` more than it has now; an allocation beyond raises.

    Counts private writable memory, as Linux does for RLIMIT_DATA, but no GPU memory and no mapped files. Without Linux
    there is no limit.
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
    """Private writable memory of this process, bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, means that the memory of the CPU or of a GPU ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if any(words in str(error) for words in OUT_OF_MEMORY_WORDS):
        return True
    origin = error.__cause__ or error.__context__
    return origin is not None and is_out_of_memory(origin)
