"""The training loop of both networks: epochs, early stopping, the best weights kept, and checkpoints.

Each epoch ends with a validation loss on patients kept apart for it and with one line in the terminal. Then
`history.parquet`, `learning_curve.png` and the checkpoint (modic/train/checkpoint.py) are written, unless the last
checkpoint is younger than `Loop.rest`. The same command with the same --out resumes from the checkpoint; on a CPU it
ends with the very weights of a training that was never interrupted.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import ModicError
from modic.text import counted
from modic.train import checkpoint
from modic.train.batches import batches_from
from modic.train.checkpoint import State

if TYPE_CHECKING:
    import torch
    from torch.optim.swa_utils import AveragedModel

HISTORY = {
    "epoch": ("int64", "number of the epoch, from 1"),
    "steps": ("int64", "batches trained on since the beginning"),
    "loss": ("float64", "mean training loss of the epoch's batches"),
    "validation_loss": ("float64", "loss of the averaged weights (or, without an average, of the network) on patients "
                        "kept apart for it"),
    "learning_rate": ("float64", "learning rate of the epoch's last batch"),
    "minutes": ("float64", "minutes of training so far; those lost in an interruption are not counted"),
    "best": ("bool", "whether no earlier epoch had as low a validation loss; the last such epoch's weights are kept"),
}  # fmt: skip
"""Columns of history.parquet; one row an epoch."""

MAY_CHANGE = frozenset({"out", "minutes", "workers", "rest"})
"""Options that may differ when a training is resumed."""


@dataclass(frozen=True, slots=True)
class Loop:
    """How long a training goes on, and where its files are."""

    out: Path
    settings: dict[str, Any]  # a checkpoint with other settings is refused (`settings_of`)
    steps: int  # batches, at most
    epoch_steps: int  # batches an epoch
    patience: int = 5  # epochs without a better validation loss before the training ends; the paper's
    minutes: float = 0.0  # end after this long, 0: never
    average: float = 0.0  # share of each batch's weights in their running average, 0: no average
    clip: float = 5.0  # largest norm of the gradient
    seed: int = 0
    workers: int = 0  # processes that make batches ahead
    rest: float = 0.0  # seconds between two checkpoints, at least; the last epoch is always kept


def settings_of(options: Any, **more: Any) -> dict[str, Any]:
    """What must be the same for a training to be resumed: a dataclass of options, and `more`."""
    return {key: value for key, value in asdict(options).items() if key not in MAY_CHANGE} | more


def prepare(device: str, *, seed: int, threads: int) -> str:
    """Seed torch, set its threads (0: its own choice), and resolve `auto`; returns `cpu` or `cuda`.

    The same seed gives the same network on a CPU of one kind with the same number of threads. On a GPU the detector is
    only nearly the same: torchvision sums the gradients of its regions in no fixed order.
    """
    import torch

    from modic.models.device import resolve_device

    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    return resolve_device(device)


def train(
    net: "torch.nn.Module",
    optimizer: "torch.optim.Optimizer",
    *,
    batch: Callable[[np.random.Generator], Any],
    loss: Callable[["torch.nn.Module", Any], "torch.Tensor"],
    validation: Callable[["torch.nn.Module"], float],
    loop: Loop,
    schedule: Any = None,
    half: "torch.nn.Module | None" = None,
) -> list[dict[str, Any]]:
    """Train `net` in place, or resume from the checkpoint in `loop.out`; `net` ends with the best weights.

    Args:
        batch: draws a batch with the generator, as arrays (modic/train/batches.py).
        loss: of a batch, to be differentiated.
        validation: the loss on patients kept apart; may leave the network in any mode.
        schedule: a torch learning-rate scheduler, stepped after every batch.
        half: the part of the network that computes in bfloat16 where that is faster; all of it if it is not given.

    Returns:
        The history, one row an epoch (`HISTORY`).

    Raises:
        ModicError: a loss is no number any more.
        UsageError: the checkpoint belongs to a training with other options.
    """
    average = running_average(net, loop.average) if loop.average else None
    state = State(net, optimizer, schedule, average)
    if checkpoint.restore(loop.out, state, loop.settings):
        print(f"going on after epoch {len(state.history)}, from {loop.out / checkpoint.NAME}", flush=True)
    began = time.monotonic() - 60 * (state.history[-1]["minutes"] if state.history else 0.0)
    batches = batches_from(batch, _done(state), loop.steps, seed=loop.seed, workers=loop.workers)
    kept = time.monotonic()
    while not (why := stop_reason(state.history, loop)):
        row = _epoch(state, batches, loss, validation, loop, half or net)
        row["minutes"] = (time.monotonic() - began) / 60
        _add(state, row)
        if time.monotonic() - kept >= loop.rest or stop_reason(state.history, loop):
            write_history(loop.out, state.history)
            checkpoint.save(loop.out, state, loop.settings)
            kept = time.monotonic()
        print(_line(row, loop), flush=True)
    print(f"training ends: {why}", flush=True)
    net.load_state_dict(state.best)
    return state.history


def stop_reason(history: list[dict[str, Any]], loop: Loop) -> str:
    """Why the training ends after this history; empty if it goes on."""
    if not history:
        return ""
    last = history[-1]
    if last["steps"] >= loop.steps:
        return f"all {loop.steps} steps are done"
    if last["epoch"] - max(row["epoch"] for row in history if row["best"]) >= loop.patience:
        return f"no better validation loss for {counted(loop.patience, 'epoch')}"
    if loop.minutes and last["minutes"] > loop.minutes:
        return f"{loop.minutes:g} minutes are over"
    return ""


def _done(state: State) -> int:
    """How many batches were trained on."""
    return int(state.history[-1]["steps"]) if state.history else 0


def _epoch(
    state: State, batches: Iterator[Any], loss: Any, validation: Any, loop: Loop, half: "torch.nn.Module"
) -> dict[str, Any]:
    done = _done(state)
    steps = min(loop.epoch_steps, loop.steps - done)
    faster = multiplies_bfloat16(half)
    losses = [_step(state, next(batches), loss, loop, half, faster) for _ in range(steps)]
    value = float(validation(state.measured))
    row = {
        "epoch": len(state.history) + 1, "steps": done + steps, "loss": float(np.mean(losses)),
        "validation_loss": value, "learning_rate": float(state.optimizer.param_groups[0]["lr"]),
    }  # fmt: skip
    if not np.isfinite([row["loss"], value]).all():
        raise ModicError(f"the loss is no number any more in epoch {row['epoch']}; a lower --learning-rate may help")
    return row


def _step(state: State, batch: Any, loss: Any, loop: Loop, half: "torch.nn.Module", faster: bool) -> float:
    """Train on one batch, with `half` in bfloat16 if that is `faster`; returns its loss."""
    import torch

    state.net.train()
    with bfloat16(half, on=faster):
        value = loss(state.net, batch)
    state.optimizer.zero_grad()
    value.backward()
    torch.nn.utils.clip_grad_norm_(state.net.parameters(), loop.clip)
    state.optimizer.step()
    if state.schedule is not None:
        state.schedule.step()
    if state.average is not None:
        state.average.update_parameters(state.net)
    return float(value.item())


def _add(state: State, row: dict[str, Any]) -> None:
    """Add the epoch to the history, and keep its weights if they are the best so far."""
    row["best"] = row["validation_loss"] < min((r["validation_loss"] for r in state.history), default=np.inf)
    state.history.append(row)
    if row["best"]:
        state.best = {key: tensor.detach().clone() for key, tensor in state.measured.state_dict().items()}


def write_history(out: Path, history: list[dict[str, Any]]) -> None:
    """OUT/history.parquet and OUT/learning_curve.png."""
    from modic.tables.described import write_rows
    from modic.train.plots import learning_curve, save_png

    write_rows(out / "history.parquet", history, HISTORY)
    save_png(out / "learning_curve.png", learning_curve(history))


def short(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the history, rounded for a card."""
    places = {"loss": 4, "validation_loss": 4, "minutes": 1}
    return {key: round(value, places[key]) if key in places else value for key, value in row.items()}


def _line(row: dict[str, Any], loop: Loop) -> str:
    """A row of the history for the terminal."""
    epochs = -(-loop.steps // loop.epoch_steps)
    return (
        f"epoch {row['epoch']:3}/{epochs}   steps {row['steps']:6}   loss {row['loss']:.4f}   "
        f"validation {row['validation_loss']:.4f}   {row['minutes']:6.1f} min{'   best' if row['best'] else ''}"
    )


def running_average(net: "torch.nn.Module", share: float) -> "AveragedModel":
    """The running average of a network's weights and batch statistics, in evaluation mode.

    Each update moves the average by `share` of the way to the network. At first, while that is more, it moves by
    1 / (number of updates): the average is then the mean of all so far.
    """
    from torch.optim.swa_utils import AveragedModel

    def update(averages: Any, values: Any, updates: "torch.Tensor | int") -> None:
        weight = max(share, 1 / (int(updates) + 1))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)  # how many batches a statistic was taken over

    return AveragedModel(net, multi_avg_fn=update, use_buffers=True).eval()


def multiplies_bfloat16(module: "torch.nn.Module") -> bool:
    """Whether the machine computes `module` faster in bfloat16: a GPU does, a CPU with AMX if all is dense and 2D.

    Measured on one core of a Xeon with AMX, forward and backward: ResNet50 x 0.41, EfficientNet-Lite0 x 1.9. 3D
    convolutions take x 0.31 to 0.48, but a network of two channels lost its numbers in them (oneDNN of torch 2.15).
    """
    import torch

    if next(module.parameters()).is_cuda:
        return True
    dense = not any(getattr(part, "groups", 1) > 1 or isinstance(part, torch.nn.Conv3d) for part in module.modules())
    return dense and bool(torch.cpu.get_capabilities().get("amx_bf16"))


@contextmanager
def bfloat16(module: "torch.nn.Module", *, on: bool) -> Iterator[None]:
    """A context in which `module` computes in bfloat16 wherever autocast finds it safe, and returns float32.

    Of the detector only the backbone may do so: torchvision keeps box coordinates in the type of the features, and
    bfloat16 cannot tell odd from even pixels beyond 256.
    """
    import torch

    if not on:
        yield
        return
    forward, kind = module.forward, next(module.parameters()).device.type

    def wrapped(*args: Any) -> Any:
        with torch.autocast(kind, torch.bfloat16):
            out = forward(*args)
        return {key: value.float() for key, value in out.items()} if isinstance(out, dict) else out.float()

    module.forward = wrapped
    try:
        yield
    finally:
        del module.forward
