"""A CUDA device that is pretended: tensors that say they are on `cuda:0`, and whose values are computed on the CPU.

    with pretended_cuda() as device:
        models = load_models("detector", "classifier", "cuda")
        ...
    print(device.counts)

What mixes a tensor of the CPU and one of the device, or reads the device's memory from the host, is refused with
torch's own error, as on a GPU. Everything that a GPU would be asked is counted: kernels, points at which the host waits
for the device, bytes copied each way, floating point operations, and the largest memory of tensors. A kernel's own
rounding is not pretended, but the ten bits of TF32 are, if convolutions or matrix products are allowed to use it.

Of a program that calls torch in several threads, each thread needs a `pretended_cuda` of its own. It is for grading: in
the backward pass of a whole training torch's C++ makes some tensors on the CPU, which are then refused.
"""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
PARTS = torch._C.DispatchKey.CompositeImplicitAutograd
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
TOTAL_BYTES = 139 * 2**30
NAME = "Pretended H200"
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
INDICES = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
COPIES = {aten._to_copy.default, aten.copy_.default, aten.copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
WAITING = {
    "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
    "aten::repeat_interleave", "aten::equal", "aten::is_nonzero", "aten::bincount", "torchvision::nms",
}  # fmt: skip
"""Operators whose result has a size that the host must wait for."""
CONVOLUTIONS = {aten.convolution.default, aten.convolution_backward.default}
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


@dataclass
class Counts:
    """What a GPU would have been asked. `waits`: the host waited for it; `by_operator`: its kernels.

    `bytes_touched`: of what kernels read and write, if nothing stays in a cache.
    """

    kernels: int = 0
    waits: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_touched: int = 0
    flop: int = 0
    peak_bytes: int = 0
    by_operator: Counter[str] = field(default_factory=Counter)
    waited_at: Counter[str] = field(default_factory=Counter)

    def __sub__(self, before: "Counts") -> "Counts":
        """What came since `before`; the peak is that of all."""
        made = Counts(**{one.name: getattr(self, one.name) - getattr(before, one.name) for one in fields(self)})
        made.peak_bytes = self.peak_bytes
        return made

    def copy(self) -> "Counts":
        """As it is now."""
        return self - Counts()


class OnDevice(torch.Tensor):
    """A tensor of the device; `on_cpu` holds its values.

    To torch's C++ it is a tensor of the CPU, which would ask the driver otherwise, for streams in the backward pass
    above all. So what it says of itself, and where it goes, is said here.
    """

    on_cpu: torch.Tensor
    device = property(lambda _: CUDA)
    is_cuda = property(lambda _: True)
    is_cpu = property(lambda _: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, on_cpu: torch.Tensor, requires_grad: bool = False) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls, on_cpu.size(), strides=on_cpu.stride(), storage_offset=on_cpu.storage_offset(), dtype=on_cpu.dtype,
            layout=on_cpu.layout, device=CPU, requires_grad=requires_grad,
        )  # fmt: skip
        made.on_cpu = on_cpu
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if Device.current is None:
            raise RuntimeError("no pretended CUDA device")
        return Device.current.run(func, args, kwargs or {})

    def __repr__(self) -> str:
        return f"OnDevice({self.on_cpu!r})"

    def numpy(self, **_: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
            "first."
        )

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def cpu(self, *_: Any) -> torch.Tensor:
        return self.to(CPU)

    def cuda(self, *_: Any, **__: Any) -> torch.Tensor:
        return self

    def get_device(self) -> int:
        return 0

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return _to(self, *args, **kwargs)


class Factories(TorchFunctionMode):
    """Tensors made on the device, or sent there from the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.Tensor.to, torch.Tensor.cuda):
            return _to(*args, **kwargs) if func is torch.Tensor.to else _to(args[0], CUDA)
        if _on_cuda(kwargs.get("device")):
            if func in (torch.tensor, torch.as_tensor):
                return _to(func(*args, **kwargs | {"device": CPU}), CUDA)
            kwargs = kwargs | {"device": CUDA}  # torch would ask the driver which one `cuda` is
        return func(*args, **kwargs)


def _to(tensor: torch.Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> torch.Tensor:
    """`Tensor.to`."""
    if isinstance(kwargs.get("other", args[0] if args else None), torch.Tensor):
        other = kwargs.pop("other", None)
        other, *args = [other] if other is not None else args
        target, dtype, how = other.device, other.dtype, kwargs
    else:
        target, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        how = {"non_blocking": non_blocking, "memory_format": memory_format}
    target = tensor.device if target is None else CUDA if target.type == "cuda" else CPU
    laid = how.get("memory_format") is None or tensor.is_contiguous(memory_format=how["memory_format"])
    if target == tensor.device and dtype in (None, tensor.dtype) and laid and not copy:
        return tensor
    return aten._to_copy.default(tensor, device=target, dtype=dtype, **how)


class Device(TorchDispatchMode):
    """Runs what concerns the device, and counts it."""

    current: "Device | None" = None

    def __init__(self, limit_bytes: int = TOTAL_BYTES) -> None:
        super().__init__()
        self.counts = Counts()
        self.limit_bytes, self.used_bytes, self.lost = limit_bytes, 0, False
        self._storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        flat, _ = tree_flatten((args, kwargs))
        if any(isinstance(one, OnDevice) or (isinstance(one, torch.device) and one.type == "cuda") for one in flat):
            return self.run(func, args, kwargs)
        return func(*args, **kwargs)

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """One operator of which something is on the device."""
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if func not in COPIES and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), PARTS.name):
            with self:  # as on a GPU, which is asked for its parts
                return func._op_dk(PARTS, *args, **kwargs)
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        self._check(func, args, tensors)
        if func is aten._to_copy.default or (func in COPIES and not self._all_here(tensors)):
            return self._copy(func, args, kwargs)
        if func is aten._local_scalar_dense.default:
            self._wait(func, 0, args[0].on_cpu.element_size())
            return func(args[0].on_cpu)
        self._count(func, args, kwargs, tensors)
        inner_args, inner_kwargs = tree_map(_inner, (self._rounded(func, args), kwargs))
        if "device" in inner_kwargs:
            inner_kwargs["device"] = CPU
        made = func(*inner_args, **inner_kwargs)
        if not _is_only_a_view(func):
            ends = [one for one in tree_flatten((inner_args, made))[0] if isinstance(one, torch.Tensor)]
            self.counts.bytes_touched += sum(one.numel() * one.element_size() for one in ends)
        if _changes_its_first(func):
            if torch.Tag.inplace_view in func.tags:
                _with_new_shape(func, args, kwargs)
            return args[0]
        return tree_map(self._wrapped, made)

    def _check(self, func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
        """Raise torch's error if the operator is given tensors of both."""
        others = [one for one in tensors if not isinstance(one, OnDevice)]
        if not others or func in COPIES:
            return
        if func in INDEXING:  # indices of a tensor of the device may be on the CPU
            if not isinstance(args[0], OnDevice):
                raise RuntimeError(INDICES)
            others = [one for one in args[2:3] if isinstance(one, torch.Tensor) and not isinstance(one, OnDevice)]
        pointwise = torch.Tag.pointwise in func.tags or func in INDEXING
        if any(one.dim() > 0 or not pointwise for one in others):
            raise RuntimeError(f"{MIXED} ({func})")

    @staticmethod
    def _all_here(tensors: list[torch.Tensor]) -> bool:
        return all(isinstance(one, OnDevice) for one in tensors)

    def _copy(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A copy to, from or within the device."""
        if func is aten._to_copy.default:
            source = args[0]
            target = torch.device(kwargs.get("device") or source.device)
            inner = func(_inner(source), **kwargs | {"device": CPU})
            up, down = target.type == "cuda", isinstance(source, OnDevice)
            if up and down:
                self._kernel("aten::_to_copy")
            else:
                self._transfer(func, inner if up else _inner(source), up=up)
            return self._wrapped(inner) if up else inner
        into, source = args[:2]
        _inner(into).copy_(_inner(source))
        if isinstance(into, OnDevice) != isinstance(source, OnDevice):
            self._transfer(func, _inner(source), up=isinstance(into, OnDevice))
        return into

    def _transfer(self, func: Any, moved: torch.Tensor, *, up: bool) -> None:
        size = moved.numel() * moved.element_size()
        self._wait(func, size * up, size * (not up))

    def _wait(self, func: Any, up: int, down: int) -> None:
        self.counts.waits += 1
        self.counts.bytes_up += up
        self.counts.bytes_down += down
        self.counts.waited_at[f"{func.name()} at {_caller()}"] += 1

    def _kernel(self, name: str, number: int = 1) -> None:
        self.counts.kernels += number
        self.counts.by_operator[name] += number

    def _count(self, func: Any, args: Any, kwargs: dict[str, Any], tensors: list[torch.Tensor]) -> None:
        name = func.name().partition(".")[0]
        if func in INDEXING:
            for index in args[1]:
                if index is not None and not isinstance(index, OnDevice):
                    self._transfer(func, index, up=True)
                elif index is not None and index.dtype in (torch.bool, torch.uint8):
                    self._kernel("aten::nonzero")
                    self._wait(func, 0, 8)
        if name in WAITING:
            self._wait(func, 0, 8)
        if not _is_only_a_view(func):
            biased = func is aten.convolution.default and args[2] is not None and not _depthwise(args)
            self._kernel(name, 1 + biased)  # cuDNN's convolution, then the bias
        if (flop := flop_registry.get(func.overloadpacket)) is not None:
            inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
            made = func(*inner_args, **inner_kwargs) if func not in CONVOLUTIONS else None
            if made is None and func is aten.convolution.default:
                with torch.no_grad():
                    shape = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, inner_args)
                    made = func(*shape)
            if made is not None:
                self.counts.flop += flop(*inner_args, **inner_kwargs, out_val=made)

    def _rounded(self, func: Any, args: Any) -> Any:
        """The arguments as a kernel reads them that is allowed to use TF32."""
        allowed = (func in CONVOLUTIONS and torch.backends.cudnn.allow_tf32 and not _depthwise(args)) or (
            func in PRODUCTS and torch.backends.cuda.matmul.allow_tf32
        )
        return tree_map(_tf32, args) if allowed else args

    def _wrapped(self, made: Any) -> Any:
        if not isinstance(made, torch.Tensor) or isinstance(made, OnDevice):
            return made
        storage = made.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        with torch.inference_mode(made.is_inference()):  # a view of a normal tensor is one, too
            on_device = OnDevice(made)
        if key not in self._storages:
            self._allocate(key, size, storage)
        return on_device

    def _allocate(self, key: int, size: int, storage: torch.UntypedStorage) -> None:
        if self.used_bytes + size > self.limit_bytes:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB.")
        self._storages.add(key)
        self.used_bytes += size
        self.counts.peak_bytes = max(self.counts.peak_bytes, self.used_bytes)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.used_bytes -= size

    def wait(self) -> None:
        """`torch.cuda.synchronize`."""
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.counts.waits += 1
        self.counts.waited_at[f"synchronize at {_caller()}"] += 1


def _on_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _inner(one: Any) -> Any:
    return one.on_cpu if isinstance(one, OnDevice) else one


def _depthwise(args: Any) -> bool:
    """Whether torch's own kernel of depthwise convolutions is taken, which adds the bias itself, without TF32."""
    return bool(args[8] > 1 and args[8] == args[0].shape[1]) if len(args) == 9 else False


def _tf32(one: Any) -> Any:
    """float32 values to ten bits of mantissa, to the nearest."""
    if not isinstance(one, OnDevice) or one.dtype != torch.float32:
        return one
    bits = one.on_cpu.detach().view(torch.int32) if one.on_cpu.is_contiguous() else one.on_cpu.clone().view(torch.int32)
    return OnDevice(((bits + 0x1000) & ~0x1FFF).view(torch.float32))


def _is_only_a_view(func: Any) -> bool:
    """Whether no kernel runs: the result is another view of the same memory, or memory without values."""
    empty = func.overloadpacket in (aten.empty, aten.empty_strided, aten.new_empty, aten.empty_like)
    returns = func._schema.returns
    view = bool(returns) and all(one.alias_info is not None and not one.alias_info.is_write for one in returns)
    return empty or view or func in (aten.detach.default, aten.lift_fresh.default, aten._unsafe_view.default)


def _changes_its_first(func: Any) -> bool:
    """Whether the operator changes its first argument and returns it."""
    first = func._schema.arguments[0].alias_info if func._schema.arguments else None
    return first is not None and first.is_write


def _with_new_shape(func: Any, args: Any, kwargs: Any) -> None:
    """What an operator such as `squeeze_` does to a tensor's shape, without its values."""
    before = torch._C._meta_in_tls_dispatch_include()
    with no_dispatch():
        torch._C._set_meta_in_tls_dispatch_include(True)
        try:
            func(*args, **kwargs)
        finally:
            torch._C._set_meta_in_tls_dispatch_include(before)


def _caller() -> str:
    """The line of modic or torchvision that asked."""
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if ("/modic/" in path or "/torchvision/" in path) and "/tests/" not in path:
            return f"{path.rpartition('/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


@contextmanager
def pretended_cuda(limit_bytes: int = TOTAL_BYTES) -> Iterator[Device]:
    """In this thread, a GPU of `limit_bytes`; what torch.cuda says of it holds for the process."""
    torch._C._ensureCUDADeviceGuardSet()  # where there is no driver, C++ asks for none
    device, cudnn, matmul = Device(limit_bytes), torch.backends.cudnn, torch.backends.cuda.matmul
    stands_in: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda *_: None,
        "synchronize": lambda *_: device.wait(),
        "empty_cache": lambda: None,
        "get_device_name": lambda *_: NAME,
        "get_device_capability": lambda *_: (9, 0),
        "mem_get_info": lambda *_: (device.limit_bytes - device.used_bytes, device.limit_bytes),
        "set_per_process_memory_fraction": lambda share, *_: setattr(device, "limit_bytes", int(share * TOTAL_BYTES)),
        "max_memory_allocated": lambda *_: device.counts.peak_bytes,
        "manual_seed_all": lambda *_: None,
    }
    with ExitStack() as stack:
        for name, function in stands_in.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        overwrite = "get_overwrite_module_params_on_conversion"  # `module.to`: tensors of another kind, not other data
        stack.enter_context(mock.patch.object(torch.__future__, overwrite, lambda: True))
        for settings, name in ((cudnn, "enabled"), (cudnn, "allow_tf32"), (matmul, "allow_tf32")):
            stack.callback(setattr, settings, name, getattr(settings, name))
        cudnn.enabled = False  # operators of cuDNN alone have no values on a CPU
        before, Device.current = Device.current, device
        stack.callback(setattr, Device, "current", before)
        with Factories(), device:
            yield device
