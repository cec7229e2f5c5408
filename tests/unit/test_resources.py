"""Which exceptions mean that memory ran out."""

import errno

import pytest

from modic.resources import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"),
    ],
)
def test_what_a_limit_on_memory_brings_about_is_called_so(error: Exception) -> None:
    assert is_out_of_memory(error)
    outer = ValueError("wrapped")
    outer.__cause__ = error
    assert is_out_of_memory(outer)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), ValueError("memory of a patient")])
def test_other_trouble_is_not(error: Exception) -> None:
    assert not is_out_of_memory(error)
