"""Training of the segmenter: `modic train endplates --data space=DIR --data spider=DIR --data phantom=N --out DIR`.

A first network learns from T2 SPACE with masks by people and from phantoms of every contrast. It then labels SPIDER's
T2 slices, whose T1 gets the same labels, and a second network, which starts from the first, learns from all of them.
Split by patient as the detector's: 70 % train, 10 % validation (the best epoch is kept), 20 % test, reported in the
card and never looked at before. The loop is modic/train/loop.py: the same command again goes on.
"""

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modic.errors import UsageError
from modic.models.endplate_net import CLASSES, PERCENTILES, Segmenter, SegmenterArchitecture, build, strip_input
from modic.phantom.masks import UNKNOWN
from modic.train.augment.strips import view_of
from modic.train.checkpoint import finish, is_finished
from modic.train.data.endplate_strips import StripSample, paired_strips, phantom_strips, space_strips, spider_boxes
from modic.train.data.split import split_of
from modic.train.loop import Loop, prepare, settings_of, train

if TYPE_CHECKING:
    import torch

SHARES = {"space": 0.5, "phantom": 0.2, "spider": 0.3}  # of the strips of a batch, of the sources that there are
DICE = 0.5  # weight of the soft Dice loss beside the cross entropy


@dataclass(frozen=True, slots=True)
class EndplateTraining:
    """Options of one training."""

    data: tuple[str, ...]
    out: Path
    widths: tuple[int, ...] = SegmenterArchitecture().widths
    first_steps: int = 900  # of the network that labels the paired slices
    steps: int = 600
    batch: int = 8
    rows: int = 192  # of a training view; in service a strip has all rows
    learning_rate: float = 3e-3
    epoch_steps: int = 150
    seed: int = 0
    device: str = "cpu"
    threads: int = 0
    detector: str = "detector"  # weights that box the SPIDER slices without boxes

    @property
    def architecture(self) -> SegmenterArchitecture:
        """What the card will name."""
        return SegmenterArchitecture(self.widths)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `modic train endplates`."""
    parser.add_argument(
        "--data", action="append", required=True, metavar="KIND=WHERE",
        help="space=DIR (SPIDER's T2 SPACE with masks), spider=DIR (its slices), phantom=N; may be repeated",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for weights and card")
    numbers = (
        ("first-steps", 900, "batches of the network that labels the slices of `spider`"),
        ("steps", 600, "batches of the network that is kept, which starts from that one"),
        ("batch", 8, "strips a batch"), ("epoch-steps", 150, "batches an epoch"),
        ("learning-rate", 3e-3, "the highest of its schedule"), ("seed", 0, "of what is drawn at random"),
    )  # fmt: skip
    for name, default, text in numbers:
        parser.add_argument(
            f"--{name}", type=type(default), default=default, metavar="N", help=f"{text} (default: {default:g})"
        )
    parser.add_argument(
        "--detector",
        default="detector",
        metavar="WEIGHTS",
        help="network that boxes the slices of `spider` without boxes",
    )
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto (default): a GPU where there is one"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: torch's choice)")


def run(args: argparse.Namespace) -> int:
    """`modic train endplates`."""
    values = {key: value for key, value in vars(args).items() if key in EndplateTraining.__dataclass_fields__}
    path = train_endplates(EndplateTraining(**{**values, "data": tuple(args.data)}))
    print(f"weights and card: {path} and {path.with_suffix('.json').name}")
    return 0


def train_endplates(options: EndplateTraining) -> Path:
    """Train both networks, measure the second on the test patients, write weights and card; returns the weights' path.

    Raises UsageError for data that are missing, and where `options.out` holds a training with other options.
    """
    options = replace(options, device=prepare(options.device, seed=options.seed, threads=options.threads))
    path = options.out / "endplates.safetensors"
    settings = settings_of(options)
    if is_finished(options.out, settings):
        print(f"this training is finished; to train another one, give another --out than {options.out}")
        return path
    where, cache = sources(options.data), options.out / "cache"
    samples = space_strips(Path(where["space"])) if "space" in where else []
    samples += phantom_strips(int(where.get("phantom", 0)), seed=options.seed, cache=cache)
    apart = replace(options, out=options.out / "first", steps=options.first_steps)
    first = _fit(build(options.architecture), samples, apart)
    if "spider" in where:
        boxes = spider_boxes(Path(where["spider"]), options.detector, cache)
        samples += paired_strips(Path(where["spider"]), boxes, Segmenter(first.eval(), device=options.device))
    net = _fit(first, samples, options)
    from modic.train.endplates_card import write_endplates

    write_endplates(net, samples, {k: v for k, v in asdict(options).items() if k not in ("out", "data")}, path)
    finish(options.out, [], settings)
    return path


def sources(data: Iterable[str]) -> dict[str, str]:
    """`KIND=WHERE` by kind. Raises UsageError for a kind that is none, or where no slices have masks."""
    where = dict(source.partition("=")[::2] for source in data)
    if unknown := where.keys() - SHARES.keys():
        raise UsageError(f"--data {', '.join(sorted(unknown))}: give space=DIR, spider=DIR or phantom=N")
    if not where.get("space") and not where.get("phantom", "").isdigit():
        raise UsageError("--data: give space=DIR or phantom=N, which have masks")
    return where


def _fit(net: "torch.nn.Module", samples: list[StripSample], options: EndplateTraining) -> "torch.nn.Module":
    """Train on the training patients; leaves the weights of the best epoch on those for validation."""
    import torch

    net = net.to(options.device).to(memory_format=torch.channels_last)
    groups = {
        name: [s for s in samples if s.source == name and split_of(s.patient) == "train"]
        for name in dict.fromkeys(s.source for s in samples)
    }
    optimizer = torch.optim.AdamW(net.parameters(), options.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, options.steps, pct_start=0.15)
    kept = [s for s in samples if split_of(s.patient) == "validation"]
    if not kept or not any(groups.values()):
        raise UsageError("too few patients to train on some and keep others apart; add phantom=N")
    train(
        net, optimizer,
        batch=lambda rng: batch_of(groups, rng, options),
        loss=lambda net, batch: loss_of(net, batch, options.device),
        validation=lambda net: _validation_loss(net, kept, options),
        loop=Loop(
            options.out, settings_of(options), options.steps, options.epoch_steps, patience=options.steps,
            seed=options.seed,
        ),
        schedule=schedule,
    )  # fmt: skip
    return net


Batch = tuple[np.ndarray, np.ndarray]


def batch_of(groups: dict[str, list[StripSample]], rng: np.random.Generator, options: EndplateTraining) -> Batch:
    """Inputs float32 (batch, 3, rows, columns) and labels int64 (batch, rows, columns) of random views."""
    names = [name for name, group in groups.items() if group]
    p = np.array([SHARES[name] for name in names])
    chosen = [groups[names[i]] for i in rng.choice(len(names), options.batch, p=p / p.sum())]
    views = [view_of(group[rng.integers(len(group))], rng, rows=options.rows) for group in chosen]
    inputs = [strip_input(image[None], rhythm, PERCENTILES)[0] for image, _, rhythm in views]
    return np.stack(inputs), np.stack([labels for _, labels, _ in views]).astype(np.int64)


def loss_of(net: "torch.nn.Module", batch: Batch, device: str) -> "torch.Tensor":
    """Cross entropy and soft Dice over the pixels whose label is known."""
    import torch
    from torch.nn import functional

    inputs, labels = (torch.from_numpy(values).to(device) for values in batch)
    logits = net(inputs.contiguous(memory_format=torch.channels_last))
    known = labels != UNKNOWN
    truth = functional.one_hot(torch.where(known, labels, 0), len(CLASSES)).movedim(-1, 1) * known[:, None]
    p = logits.softmax(1) * known[:, None]
    overlap = (2 * (p * truth).sum((0, 2, 3)) + 1) / ((p + truth).sum((0, 2, 3)) + 1)
    entropy = functional.cross_entropy(logits, labels, ignore_index=UNKNOWN)
    return entropy + DICE * (1 - overlap[1:].mean())


def _validation_loss(net: "torch.nn.Module", samples: list[StripSample], options: EndplateTraining) -> float:
    """Mean loss over patients kept apart, the same views each time."""
    import torch

    rng = np.random.default_rng(12345)
    by_source = {name: [s for s in samples if s.source == name] for name in dict.fromkeys(s.source for s in samples)}
    net.eval()
    with torch.no_grad():
        return float(
            np.mean([loss_of(net, batch_of(by_source, rng, options), options.device).item() for _ in range(10)])
        )
