"""The training loop: what it keeps, when it stops, and that an interruption changes nothing but the time it takes."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from made_discs import made_up
from modic.errors import ModicError, UsageError
from modic.train import checkpoint, loop
from modic.train.classifier import train_classifier
from modic.train.data.discs import save_discs
from modic.train.data.phantom_slices import phantom_samples
from modic.train.detector import make_optimizer, train_detector
from modic.train.loop import Loop, bfloat16, multiplies_bfloat16, stop_reason, train
from modic.train.options import ClassifierTraining, DetectorTraining
from modic.train.plots import learning_curve, ticks

SETTINGS = {"learning_rate": 0.01, "widths": (4, 8), "data": ("phantom=3",)}


class Interrupted(Exception):
    """What stops a training in these tests."""


def nothing(_: np.random.Generator) -> None:
    """A batch of nothing."""


def tiny() -> torch.nn.Module:
    """Convolution, batch statistics and dropout, laid out in memory as the trainings lay theirs out."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Flatten(),
        torch.nn.Linear(8 * 6 * 6, 2),
    )  # fmt: skip
    return net.to(memory_format=torch.channels_last)


def run(
    out: Path, *, interrupt_at: int = 0, optimizer: str = "adamw", average: float = 0.1, sign: int = 1, **more: Any
) -> Any:
    """Train a tiny net for 5 epochs of 4 batches; `interrupt_at`: the batch that is never finished; `sign` -1: the
    first epoch is the best."""
    net, batches = tiny(), 0
    options = DetectorTraining(data=(), out=out, steps=20, optimizer=optimizer, learning_rate=0.01)
    chosen, schedule = make_optimizer(net, options)

    def batch(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        y = rng.integers(0, 2, 6)
        x = rng.normal(0, 1, (6, 3, 8, 8)) + y[:, None, None, None]
        return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)

    def loss(net: torch.nn.Module, drawn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        nonlocal batches
        batches += 1
        if batches == interrupt_at:
            raise Interrupted
        x, y = drawn
        return torch.nn.functional.cross_entropy(net(x), y)

    def validation(net: torch.nn.Module) -> float:
        net.eval()
        x, y = batch(np.random.default_rng(1))
        with torch.no_grad():
            value = torch.nn.functional.cross_entropy(net(x), y).item()
        return sign * (value + torch.rand(1).item() * 0.01)

    how = Loop(out, SETTINGS, steps=20, epoch_steps=4, average=average, **more)
    return net, train(net, chosen, batch=batch, loss=loss, validation=validation, loop=how, schedule=schedule)


@pytest.mark.parametrize(("optimizer", "average", "sign"), [("adamw", 0.1, 1), ("adam", 0.0, -1)])
def test_an_interrupted_training_ends_as_an_undisturbed_one_bit_for_bit(
    tmp_path: Path, optimizer: str, average: float, sign: int, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {"optimizer": optimizer, "average": average, "sign": sign}
    whole, history = run(tmp_path / "whole", **how)
    assert (max(row["epoch"] for row in history if row["best"]) > 1) == (sign > 0)
    for batch in (7, 10):  # in the second epoch, and after going on in the fourth
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", interrupt_at=batch, **how)
    capsys.readouterr()
    cut, went_on = run(tmp_path / "cut", **how)
    assert "going on after epoch 3" in capsys.readouterr().out
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, cut.state_dict()[name]), name
    keep = ("epoch", "steps", "loss", "validation_loss", "learning_rate", "best")
    assert [[row[k] for k in keep] for row in history] == [[row[k] for k in keep] for row in went_on]
    minutes = [row["minutes"] for row in went_on]
    assert minutes == sorted(minutes)


def test_batches_made_ahead_by_processes_are_the_same(tmp_path: Path) -> None:
    alone, history = run(tmp_path / "alone")
    helped, same = run(tmp_path / "helped", workers=2)
    assert [row["loss"] for row in same] == [row["loss"] for row in history]
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, helped.state_dict()[name]), name


def test_checkpoints_may_rest_but_the_last_epoch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda out, state, settings: kept.append(len(state.history)) or save(out, state, settings)
    )
    run(tmp_path / "each")
    run(tmp_path / "rested", rest=1e6)
    assert kept == [1, 2, 3, 4, 5, 5]
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", rest=1e6, interrupt_at=9)
    assert not (tmp_path / "cut" / checkpoint.NAME).exists()


def test_another_seed_gives_another_network(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", seed=0)[0], run(tmp_path / "b", seed=1)[0]
    assert not torch.equal(a.state_dict()["0.weight"], b.state_dict()["0.weight"])


def test_a_checkpoint_appears_whole_and_holds_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, interrupt_at=6)
    path = tmp_path / checkpoint.NAME
    before = path.read_bytes()
    length = int.from_bytes(before[:8], "little")
    assert json.loads(json.loads(before[8 : 8 + length])["__metadata__"]["modic"])["history"][0]["epoch"] == 1

    def killed(*_: Any) -> None:
        raise Interrupted

    monkeypatch.setattr(loop, "write_history", lambda *_: None)
    monkeypatch.setattr(checkpoint.os, "fsync", killed)
    with pytest.raises(Interrupted):
        run(tmp_path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    run(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [checkpoint.NAME, "history.parquet", "learning_curve.png"]


def test_other_options_are_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, interrupt_at=6)
    assert not checkpoint.is_finished(tmp_path, SETTINGS)
    with pytest.raises(UsageError, match=re.escape("learning_rate was 0.01, now 0.02") + ".*another --out, or delete"):
        checkpoint.is_finished(tmp_path, {**SETTINGS, "learning_rate": 0.02})
    (tmp_path / checkpoint.NAME).write_bytes(b"something else")
    with pytest.raises(UsageError, match="not a checkpoint"):
        checkpoint.is_finished(tmp_path, SETTINGS)


def test_folder_and_time_limit_may_change_when_a_training_goes_on() -> None:
    @dataclass(frozen=True)
    class Options:
        out: Path
        minutes: float
        seed: int

    assert loop.settings_of(Options(Path("a"), 1, 3), init="x") == loop.settings_of(Options(Path("b"), 2, 3), init="x")
    assert loop.settings_of(Options(Path("a"), 1, 3)) != loop.settings_of(Options(Path("a"), 1, 4))


def test_a_finished_training_is_known_and_keeps_its_history_only(tmp_path: Path) -> None:
    _, history = run(tmp_path)
    assert not checkpoint.is_finished(tmp_path, SETTINGS)  # weights and card are not written yet
    large = (tmp_path / checkpoint.NAME).stat().st_size
    checkpoint.finish(tmp_path, history, SETTINGS)
    assert checkpoint.is_finished(tmp_path, SETTINGS)
    assert (tmp_path / checkpoint.NAME).stat().st_size < large / 2


def small_training(kind: str, out: Path) -> Path:
    """Four epochs of one batch."""
    if kind == "detector":
        phantom_samples(6, seed=0, cache=out / "cache")
        return train_detector(
            DetectorTraining(
                data=("phantom=6",), out=out, backbone="resnet18", fpn_channels=16, head_features=16, image_size=96,
                steps=4, epoch_steps=1, batch=2, device="cpu",
            )
        )  # fmt: skip
    save_discs(out / "cache" / "phantom-40-1.35-32.npz", made_up())
    return train_classifier(
        ClassifierTraining(
            data=("phantom=40",), out=out, region_size=32, widths=(4, 4, 8, 8), epochs=4, epoch_steps=1, batch=6,
            device="cpu",
        )
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_the_same_command_goes_on_and_writes_the_same_weights(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = small_training(kind, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "cache", tmp_path / "cut" / "cache")
    epochs, save = iter(range(4)), checkpoint.save

    def killed(*args: Any) -> None:
        if next(epochs) == 2:
            raise Interrupted
        save(*args)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(Interrupted):
        small_training(kind, tmp_path / "cut")
    monkeypatch.undo()
    capsys.readouterr()
    cut = small_training(kind, tmp_path / "cut")
    assert capsys.readouterr().out.startswith("going on after epoch 2")
    assert cut.read_bytes() == whole.read_bytes()
    small_training(kind, tmp_path / "cut")
    assert capsys.readouterr().out.startswith("this training is finished")


@pytest.mark.parametrize(
    ("losses", "minutes", "why"),
    [
        ([0.9, 0.8], 1, ""),
        ([0.5, 0.6, 0.7], 1, ""),
        ([0.5, 0.6, 0.7, 0.5], 1, "no better validation loss for 3 epochs"),  # as low is not better
        ([0.9, 0.8, 0.7, 0.6, 0.5], 1, "all 10 steps"),
        ([0.9], 20, "10 minutes"),
    ],
)
def test_when_a_training_ends(losses: list[float], minutes: float, why: str, tmp_path: Path) -> None:
    how = Loop(tmp_path, {}, steps=10, epoch_steps=2, patience=3, minutes=10)
    rows = [
        {"epoch": i + 1, "steps": 2 * (i + 1), "best": v < min([9, *losses[:i]]), "minutes": minutes}
        for i, v in enumerate(losses)
    ]
    assert stop_reason(rows, how).startswith(why) and bool(stop_reason(rows, how)) == bool(why)


def test_the_best_weights_stay_and_each_epoch_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    seen, values = [], iter([0.5, 0.3, 0.4])

    def validation(net: torch.nn.Module) -> float:
        seen.append(net.weight.item())
        return next(values)

    how = Loop(tmp_path, {}, steps=7, epoch_steps=3, patience=1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    history = train(
        net, optimizer, batch=nothing, loss=lambda net, _: net.weight.sum() ** 2, validation=validation, loop=how
    )
    assert net.weight.item() == seen[1]
    assert [row["steps"] for row in history] == [3, 6, 7]  # the last epoch is shorter
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"epoch   2/3   steps      6   loss \S+   validation 0\.3000 +\d+\.\d min   best", lines[1])
    assert "best" not in lines[2]
    table = pq.read_table(tmp_path / "history.parquet")
    assert table["best"].to_pylist() == [True, True, False]
    assert all(field.metadata[b"description"] for field in table.schema)


def test_the_average_is_what_is_measured_and_kept(tmp_path: Path) -> None:
    seen: list[float] = []

    def ends(average: float, out: Path) -> tuple[float, list[float]]:
        net = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(net.weight, 1.0)
        seen.clear()
        how = Loop(out, {}, steps=2, epoch_steps=1, average=average)
        train(
            net, torch.optim.SGD(net.parameters(), 0.5), batch=nothing, loss=lambda net, _: net.weight.sum(),
            validation=lambda net: seen.append(net.weight.item()) or -len(seen), loop=how,
        )  # fmt: skip
        return net.weight.item(), list(seen)

    assert ends(0.0, tmp_path / "a") == (0.0, [0.5, 0.0])
    weight, measured = ends(0.1, tmp_path / "b")  # the mean of all so far until that follows slower than a tenth
    assert measured == [0.5, 0.25] and weight == 0.25


def test_a_gradient_is_clipped(tmp_path: Path) -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, 0.0)
    how = Loop(tmp_path, {}, steps=1, epoch_steps=1, clip=2.0)
    optimizer = torch.optim.SGD(net.parameters(), 1.0)
    train(
        net, optimizer, batch=nothing, loss=lambda net, _: 100 * net.weight.sum(), validation=lambda net: 1.0, loop=how
    )
    assert net.weight.item() == pytest.approx(-2, abs=1e-4)


def test_a_loss_that_is_no_number_stops_the_training_before_it_is_kept(tmp_path: Path) -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    how = Loop(tmp_path, {}, steps=2, epoch_steps=1)
    optimizer = torch.optim.SGD(net.parameters(), 1.0)
    with pytest.raises(ModicError, match="no number"):
        train(
            net, optimizer, batch=nothing, loss=lambda n, _: n.weight.sum() * np.nan, validation=lambda n: 1.0, loop=how
        )
    assert not (tmp_path / checkpoint.NAME).exists()


def test_half_precision_gives_float32_and_leaves_the_network_as_it_was() -> None:
    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"0": self.net(x)}

    net, x = Named(), torch.rand(4, 64)
    exact = net(x)["0"]
    with bfloat16(net, on=True):
        half = net(x)["0"]
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.05
    assert torch.equal(net(x)["0"], exact) and "forward" not in vars(net)
    with bfloat16(net, on=False):
        assert torch.equal(net(x)["0"], exact)


@pytest.mark.parametrize("amx", [True, False])
def test_a_cpu_takes_bfloat16_for_dense_convolutions_and_only_with_amx(
    amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    assert multiplies_bfloat16(torch.nn.Conv2d(4, 4, 3)) is amx
    assert not multiplies_bfloat16(torch.nn.Conv2d(4, 4, 3, groups=4))
    assert not multiplies_bfloat16(torch.nn.Conv3d(4, 4, 3))


def test_a_learning_curve_shows_both_losses_and_ticks_are_round() -> None:
    rows = [{"epoch": i, "loss": 1 / i, "validation_loss": 1.2 / i, "best": i < 4} for i in range(1, 8)]
    image = learning_curve(rows).astype(int)
    blue, green, red = image[60:410, 80:730].reshape(-1, 3).T
    assert ((blue - red > 80) & (green < 200)).sum() > 300  # training
    assert ((red - blue > 80) & (green < 200)).sum() > 300  # validation
    assert learning_curve(rows[:1]).shape == (480, 760, 3)
    assert ticks(0.13, 0.88) == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert ticks(0.5, 1.5, whole=True) == [1.0]
