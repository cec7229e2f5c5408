"""The file from which an interrupted training is resumed: written whole after an epoch, without a pickle.

`checkpoint.safetensors` holds the tensors (network, running average, best weights, optimizer, the state of torch's
random numbers) and, as JSON in its header, the settings, the history and the schedule. Once weights and card are
written, it keeps only settings and history, and says that the training is finished.
"""

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modic.errors import UsageError
from modic.files import sync_directory

if TYPE_CHECKING:
    import torch
    from torch.optim.swa_utils import AveragedModel

NAME = "checkpoint.safetensors"
FORMAT = 3


@dataclass(eq=False)
class State:
    """Everything that changes while a network is trained."""

    net: "torch.nn.Module"
    optimizer: "torch.optim.Optimizer"
    schedule: Any  # a torch learning-rate scheduler, stepped after every batch, or None
    average: "AveragedModel | None" = None  # of the weights
    best: dict[str, "torch.Tensor"] = field(default_factory=dict)  # state dict of the best epoch; empty at first
    history: list[dict[str, Any]] = field(default_factory=list)  # one row an epoch (modic.train.loop.HISTORY)

    @property
    def measured(self) -> "torch.nn.Module":
        """The network that validation measures and whose weights are kept: the average, if there is one."""
        return self.net if self.average is None else self.average.module


def read(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON part of the checkpoint in `out`, or None if there is no checkpoint.

    Raises UsageError if it belongs to a training with other settings, and names those that differ.
    """
    from safetensors import SafetensorError, safe_open

    path = out / NAME
    if not path.is_file():
        return None
    cure = f"give another --out, or delete {path} to begin anew"
    try:
        with safe_open(path, framework="pt") as file:
            stored: dict[str, Any] = json.loads(file.metadata()["modic"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is not a checkpoint of this version; {cure}") from error
    ours, theirs = _plain(settings), stored.get("settings", {})
    differ = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if differ or stored.get("format") != FORMAT:
        changes = "; ".join(f"{key} was {theirs.get(key)}, now {ours.get(key)}" for key in differ) or "another format"
        raise UsageError(f"{path} is of a training with other options ({changes}): repeat its options, {cure}")
    return stored


def is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether a training with these settings ended in `out` and wrote weights and card. Raises as `read` does."""
    return bool((read(out, settings) or {}).get("finished"))


def save(out: Path, state: State, settings: dict[str, Any]) -> None:
    """Replace the checkpoint in `out` by `state`."""
    import torch

    stored = state.optimizer.state_dict()
    tensors = _prefixed("net", state.net.state_dict()) | _prefixed("best", state.best)
    tensors |= _prefixed("average", state.average.state_dict() if state.average is not None else {})
    for index, values in stored["state"].items():
        tensors |= _prefixed(f"optimizer.{index}", values)
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    rest = {
        "optimizer": stored["param_groups"], "history": state.history,
        "schedule": state.schedule.state_dict() if state.schedule is not None else None,
    }  # fmt: skip
    _write(out, tensors, {**rest, "settings": _plain(settings), "finished": False})


def finish(out: Path, history: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Mark the training in `out` as finished."""
    _write(out, {}, {"settings": _plain(settings), "history": history, "finished": True})


def restore(out: Path, state: State, settings: dict[str, Any]) -> bool:
    """Bring `state`, made for the same options, to the state of the checkpoint in `out`; False if there is none.

    Tensors keep the memory layout of those that they are copied into, so that sums are taken in the same order.
    """
    import torch
    from safetensors.torch import load_file

    stored = read(out, settings)
    if stored is None:
        return False
    tensors = load_file(out / NAME)
    state.net.load_state_dict(_under("net", tensors))
    device = next(state.net.parameters()).device
    state.best = {key: value.to(device) for key, value in _under("best", tensors).items()}
    if state.average is not None:
        state.average.load_state_dict(_under("average", tensors))
    state.optimizer.load_state_dict({"state": _moments(state.optimizer, tensors), "param_groups": stored["optimizer"]})
    if state.schedule is not None:
        state.schedule.load_state_dict(stored["schedule"])
    state.history = stored["history"]
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return True


def _moments(optimizer: "torch.optim.Optimizer", tensors: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The optimizer's tensors of each parameter, laid out in memory as the parameter is."""
    import torch

    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Any]] = {}
    for index, parameter in enumerate(parameters):
        for name, value in _under(f"optimizer.{index}", tensors).items():
            alike = value.shape == parameter.shape
            copied = torch.empty_like(parameter, requires_grad=False).copy_(value) if alike else value
            moments.setdefault(index, {})[name] = copied
    return moments


def _prefixed(name: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """Tensors on the CPU as NAME.key."""
    return {f"{name}.{key}": value.detach().contiguous().cpu() for key, value in tensors.items()}


def _under(name: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors that `_prefixed` called NAME.key, by key."""
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back: tuples become lists, paths text."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def _write(out: Path, tensors: dict[str, Any], rest: dict[str, Any]) -> None:
    """Write the file so that it appears whole or not at all, also if the process is killed or power fails."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob(".checkpoint.*.tmp"):
        stale.unlink(missing_ok=True)
    temporary = out / f".checkpoint.{secrets.token_hex(4)}.tmp"
    save_file(tensors, temporary, {"modic": json.dumps({"format": FORMAT, **rest})})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(out / NAME)
    sync_directory(out)
