"""Which device a process grades on, and what it says of a GPU that it cannot use."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from modic.errors import UsageError
from modic.models import device
from modic.models.device import resolve_device, working_device
from pretended_cuda import pretended_cuda

TOO_OLD = "CUDA initialization: The NVIDIA driver on your system is too old (found version 12040)."


@pytest.fixture(autouse=True)
def a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "version").touch()
    monkeypatch.setattr(device, "DRIVER", tmp_path / "version")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for kept in (device._say, device._trouble):
        kept.cache_clear()
    yield
    device._trouble.cache_clear()


def unseen() -> bool:
    warnings.warn(TOO_OLD, UserWarning, stacklevel=1)
    return False


@pytest.mark.parametrize(
    ("built", "visible", "why"),
    [
        (None, None, "is built without CUDA; install one"),
        ("13.2", None, "driver on your system is too old (found version 12040)"),
        ("13.2", "", "CUDA_VISIBLE_DEVICES is ''"),
        ("13.2", "-1", "CUDA_VISIBLE_DEVICES is '-1'"),
    ],
    ids=["build", "driver", "hidden", "hidden by -1"],
)
def test_a_gpu_that_cannot_be_used_is_not_left_out_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, built: str | None, visible: str | None, why: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", unseen)
    monkeypatch.setattr("torch.version.cuda", built)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with caplog.at_level(logging.WARNING):
        assert [resolve_device("auto"), working_device("auto")] == ["cpu", "cpu"]
    told = [True] if visible is None else []  # once a process; not if somebody has hidden it
    assert [why in text and "graded on CPUs" in text for text in caplog.messages] == told
    with pytest.raises(UsageError) as refused:
        resolve_device("cuda")
    assert why in str(refused.value) and "--device auto or cpu" in str(refused.value)


def test_a_machine_without_a_gpu_has_nothing_to_say(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(device, "DRIVER", tmp_path / "absent")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (resolve_device("auto"), caplog.messages) == ("cpu", [])
    with pytest.raises(UsageError, match=r"no CUDA GPU is visible here; use"):
        resolve_device("cuda")


def test_a_gpu_for_which_pytorch_has_no_kernels_is_told_of_before_a_study_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is seen, and memory can be had; the first kernel fails, of every study."""

    def no_kernel(*_: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with …")

    with pretended_cuda():
        assert [resolve_device("auto"), working_device("auto"), working_device("cuda")] == ["cuda"] * 3
        device._trouble.cache_clear()
        monkeypatch.setattr(torch.nn.functional, "conv2d", no_kernel)
        assert resolve_device("cuda") == "cuda", "asked of no kernel"
        assert working_device("auto") == "cpu"
        assert "no kernel image is available" in caplog.messages[0] and "Compile" not in caplog.messages[0]
        with pytest.raises(UsageError, match="the GPU does not compute"):
            working_device("cuda")
