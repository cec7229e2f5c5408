"""Which exceptions mean that memory ran out."""

import errno
import json
import subprocess
import sys

import pytest

from modic.resources import is_out_of_memory

MEANS_IT = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libscipy_openblas.so: failed to map segment from shared object"),
    ImportError("/usr/lib/libblas.so.3: cannot allocate memory in static TLS block"),
    RuntimeError("can't start new thread"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
]
MEANS_SOMETHING_ELSE = [ImportError("No module named 'scipy'"), OSError(errno.ENOSPC, "No space left"), ValueError("x")]


@pytest.mark.parametrize("error", MEANS_IT, ids=str)
def test_memory_ran_out(error: Exception) -> None:
    assert is_out_of_memory(error)
    wrapped = ValueError("while loading")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)


@pytest.mark.parametrize("error", MEANS_SOMETHING_ELSE, ids=str)
def test_something_else_happened(error: Exception) -> None:
    assert not is_out_of_memory(error)


LIMITED = """
import json, resource, threading
import numpy
from modic.resources import is_out_of_memory
size = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size + 2**20, size + 2**20))
answers = {}
for name, action in {
    "array": lambda: numpy.ones(2**24), "thread": lambda: threading.Thread(target=print).start(),
    "library": lambda: __import__("scipy.optimize"), "text": lambda: bytes(2**24),
}.items():
    try:
        action()
    except Exception as error:
        answers[name] = is_out_of_memory(error)
print(json.dumps(answers))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_limited_address_space_is_told_from_bugs() -> None:
    """As `ulimit -v` limits it: arrays, threads and libraries fail with exceptions of their own kinds."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == dict.fromkeys(("array", "thread", "library", "text"), True)
