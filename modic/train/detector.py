"""Training of the level detector: `modic train detector --data spider=DIR --data phantom=N --out DIR`.

The paper's recipe is the default: Adam at 1e-3, early stopping with patience 5, rotations of 10°, 20 % of patients for
the test. Slices of SPIDER (real) and of the phantom are drawn by their shares and augmented
(modic/train/augment/slices.py). Split by patient: 70 % training, 10 % validation (the best epoch is kept, early
stopping), 20 % test (reported in the card, never looked at during training). The loop is modic/train/loop.py: the
same command again goes on.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import UsageError
from modic.train.batches import workers_for
from modic.train.checkpoint import finish, is_finished
from modic.train.data import KINDS, KNOWN
from modic.train.data.spider_slices import Sample, load_spider, split_of
from modic.train.loop import Loop, prepare, settings_of, short, train
from modic.train.options import add_numbers, add_training_arguments
from modic.train.pretrained import find, load

if TYPE_CHECKING:
    import torch

PERCENTILES = (1.0, 99.5)
PHANTOM = 0.35  # share of the slices that come from the phantom where there are real ones too
BENT = 0.35  # share of the slices shown with a steeper or flatter sacrum
TRANSITIONAL = 0.15  # share of the slices shown with a vertebra too many (or, less often, too few)


@dataclass(frozen=True, slots=True)
class DetectorTraining:
    """Options of one training."""

    data: tuple[str, ...]
    out: Path
    backbone: str = "resnet50"
    fpn_channels: int = 256
    head_features: int = 1024
    image_size: int = 320
    steps: int = 4000
    batch: int = 4
    optimizer: str = "adam"  # the paper's; adamw comes with a one-cycle learning rate
    learning_rate: float = 1e-3  # the paper's; of adamw the highest
    patience: int = 5  # the paper's
    epoch_steps: int = 200
    minutes: float = 0.0  # stop after this long, 0: never
    seed: int = 0
    device: str = "auto"
    threads: int = 0  # torch's default
    workers: int | None = None  # processes that make batches (modic.train.batches.workers_for)
    init: str | None = None
    detector: str = ""  # weights that box the SPIDER slices without boxes
    labels: Path | None = None  # CSV of a user's own labels (modic.labels.table)

    @property
    def architecture(self) -> dict[str, Any]:
        """What the card will name."""
        return {"backbone": self.backbone, "fpn_channels": self.fpn_channels, "head_features": self.head_features}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What service must do again (modic.levels.detect.detector_image)."""
        return {"image_size": self.image_size, "percentiles": list(PERCENTILES)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `modic train detector`."""
    add_data_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for detector.safetensors, its card and metrics"
    )
    parser.add_argument(
        "--backbone", default="resnet50", help="resnet18|34|50 or efficientnet_lite0 (default: the paper's resnet50)"
    )
    numbers = (
        ("fpn-channels", 256, "channels of the feature pyramid"),
        ("head-features", 1024, "features of the head that judges a box"),
        ("image-size", 320, "side of the square the detector sees, px"),
        ("steps", 4000, "batches, at most"),
        ("epoch-steps", 200, "batches an epoch"),
        ("batch", 4, "slices a batch"),
    )
    add_numbers(parser, numbers)
    parser.add_argument(
        "--optimizer", default="adam", choices=("adam", "adamw"),
        help="adam (default, the paper's); adamw: with a rate that rises and falls once",
    )  # fmt: skip
    add_training_arguments(parser)
    parser.add_argument(
        "--init", help="where to start: imagenet, imagenet=FILE (the backbone), NAME.safetensors (default: random)"
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """What `load_samples` is told; of `modic evaluate detector` too."""
    parser.add_argument(
        "--data", action="append", required=True, metavar="KIND=WHERE", help="see below; may be repeated"
    )
    parser.add_argument("--labels", type=Path, metavar="FILE.csv", help="levels, grades and boxes of --data; see below")
    parser.add_argument(
        "--detector", default="", metavar="WEIGHTS",
        help="`detector` (the shipped one) or NAME.safetensors: boxes the slices of spider=DIR that have none",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """`modic train detector`."""
    values = {key: value for key, value in vars(args).items() if key in DetectorTraining.__dataclass_fields__}
    path = train_detector(DetectorTraining(**{**values, "data": tuple(args.data)}))
    print(f"weights and card: {path} and {path.with_suffix('.json').name}")
    return 0


def load_samples(
    sources: tuple[str, ...], seed: int, cache: Path, *, detector: str = "", labels: Path | None = None
) -> dict[str, list[Sample]]:
    """Samples by source name. Raises UsageError for a source that is none or cannot be used."""
    from modic.train.data.load import check_labels_used, detector_samples

    samples: dict[str, list[Sample]] = {}
    check_labels_used(sources, labels)
    for source in sources:
        name, _, value = source.partition("=")
        group = samples.setdefault(name, [])
        if name == "spider" and value:
            group += load_spider(Path(value), detector=detector)
        elif name == "phantom" and value.isdigit():
            from modic.train.data.phantom_slices import phantom_samples

            group += phantom_samples(int(value), seed=seed, cache=cache)
        elif name in KINDS and value:
            group += detector_samples(name, value, labels)
        else:
            raise UsageError(f"--data {source}: give coco=FILE.json, {KNOWN}")
    return samples


def samples_of(options: DetectorTraining) -> dict[str, list[Sample]]:
    """`load_samples` with what the options say of the data; rendered phantoms are kept in OUT/cache."""
    cache = options.out / "cache"
    return load_samples(options.data, options.seed, cache, detector=options.detector, labels=options.labels)


def train_detector(options: DetectorTraining) -> Path:
    """Train, measure on the test patients, and write weights and card to `options.out`; returns the weights' path.

    Goes on where an earlier call with the same options was interrupted; does nothing where it is finished. Raises
    UsageError for data that are missing, and where `options.out` holds a training with other options.
    """
    import torch

    from modic.models.detector import build_detector
    from modic.train.data.load import check_samples

    options = replace(options, device=prepare(options.device, seed=options.seed, threads=options.threads))
    start = find(options.init, model="detector", architecture=options.architecture)
    settings = settings_of(options, started_from=start.record)
    if is_finished(options.out, settings):
        print(f"this training is finished; to train another one, give another --out than {options.out}")
        return options.out / "detector.safetensors"
    samples = samples_of(options)
    if samples.keys() & set(KINDS):
        check_samples([sample for group in samples.values() for sample in group])
    net = build_detector(options.architecture)
    load(net, start, backbone=options.backbone)
    net = net.to(options.device).to(memory_format=torch.channels_last)
    history = _fit(net, samples, options, settings)
    more = {"started_from": start.record or None, "stopped_after": short(history[-1])}
    path = _save(net, samples, options, more)
    finish(options.out, history, settings)
    return path


def _fit(
    net: "torch.nn.Module", samples: dict[str, list[Sample]], options: DetectorTraining, settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """Train; leaves the weights of the best validation loss in `net`. Raises UsageError without such patients."""
    training = {name: [s for s in group if split_of(s.patient) == "train"] for name, group in samples.items()}
    validation = [s for group in samples.values() for s in group if split_of(s.patient) == "validation"]
    if not validation or not any(training.values()):
        raise UsageError("too few patients to train on some and keep others apart for stopping; add phantom=N")
    optimizer, schedule = _optimizer(net, options)
    return train(
        net,
        optimizer,
        batch=lambda rng: [_example(sample, rng, options) for sample in _draw(training, rng, options.batch)],
        loss=lambda net, batch: _loss(net, batch, options.device),
        validation=lambda net: _validation_loss(net, validation, options),
        loop=Loop(
            options.out, settings, options.steps, options.epoch_steps, options.patience, options.minutes,
            seed=options.seed, workers=workers_for(options.device, options.workers),
        ),
        schedule=schedule,
        half=net.backbone,
    )  # fmt: skip


def _optimizer(net: "torch.nn.Module", options: DetectorTraining) -> tuple["torch.optim.Optimizer", Any]:
    """The optimizer, and its learning rate's schedule or None."""
    import torch

    if options.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), options.learning_rate), None
    optimizer = torch.optim.AdamW(net.parameters(), options.learning_rate, weight_decay=1e-3)
    rising = 0.1 if options.steps > 10 else 0.45  # of all steps; torch divides by 0 where it is one step
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, options.steps, pct_start=rising
    )


def _draw(groups: dict[str, list[Sample]], rng: np.random.Generator, n: int) -> list[Sample]:
    """`n` samples: the phantom's share is `PHANTOM` where there are real ones too, other sources have equal weight."""
    names = [name for name, group in groups.items() if group]
    real = [name for name in names if name != "phantom"]
    share = {name: (1 - PHANTOM * ("phantom" in names)) / len(real) for name in real}
    p = np.array([share.get(name, PHANTOM) for name in names])
    chosen = [groups[names[i]] for i in rng.choice(len(names), n, p=p / p.sum())]
    return [group[rng.integers(len(group))] for group in chosen]


Example = tuple[np.ndarray, np.ndarray, np.ndarray]


def _loss(net: "torch.nn.Module", batch: list[Example], device: str) -> "torch.Tensor":
    import torch

    images = [torch.from_numpy(image).to(device).expand(3, -1, -1) for image, _, _ in batch]
    targets = [
        {"boxes": torch.from_numpy(boxes).to(device), "labels": torch.from_numpy(labels).to(device)}
        for _, boxes, labels in batch
    ]
    return sum(net(images, targets).values())


def _example(sample: Sample, rng: np.random.Generator, options: DetectorTraining) -> Example:
    """An augmented slice float32 (size, size), boxes float32 (n, 4) and labels int64 (n,), 1 for T12/L1.

    Discs above T12/L1 stay unlabelled background, as in service.
    """
    from modic.train.augment.curvature import bend
    from modic.train.augment.slices import augment
    from modic.train.augment.transitional import change_count, rename

    lo, hi = np.percentile(sample.image, PERCENTILES)
    unit = np.clip((sample.image.astype(np.float32) - lo) / max(hi - lo, 1e-6), 0, 1)
    where, names, other = sample.boxes, sample.names, sample.other
    if not other and len(where) >= 4 and rng.random() < TRANSITIONAL:
        unit, where, names, other = change_count(unit, where, names, rng, added=rng.random() < 0.7)
    if other and rng.random() < 0.5:
        names = rename(names, other)
    if len(where) >= 4 and rng.random() < BENT:
        unit, where = bend(unit, where, rng)
    for _ in range(10):
        image, boxes, kept = augment(unit, where, rng, size=options.image_size)
        kept &= names >= 0
        if kept.sum() >= 3:
            break
    return image, boxes[kept].astype(np.float32).reshape(-1, 4), (names[kept] + 1).astype(np.int64)


def _validation_loss(net: "torch.nn.Module", samples: list[Sample], options: DetectorTraining, most: int = 48) -> float:
    """Mean loss over held-out patients, the same augmentations and proposals each time; batch statistics stay."""
    import torch

    rng = np.random.default_rng(12345)
    chosen = [samples[i] for i in rng.permutation(len(samples))[:most]]
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    net.train()
    for norm in norms:
        norm.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(12345)
        examples = [_example(sample, rng, options) for sample in chosen]
        values = [_loss(net, examples[i : i + 4], options.device).item() for i in range(0, len(examples), 4)]
    return float(np.mean(values))


def _save(
    net: "torch.nn.Module", samples: dict[str, list[Sample]], options: DetectorTraining, more: dict[str, Any]
) -> Path:
    """Settle the boxes, measure on the test patients; write weights and card, `more` into its recipe."""
    from modic.models.weights import Model
    from modic.train.box_bias import settle_boxes
    from modic.train.detector_card import write_detector
    from modic.train.detector_results import evaluate

    model = Model(net.eval(), {"preprocessing": options.preprocessing}, "", options.device)
    training = [s for group in samples.values() for s in group if split_of(s.patient) == "train"]
    more = more | {"boxes_settled_by": settle_boxes(model, training)}
    results = {
        f"{name}, test patients": evaluate(
            [s for s in group if split_of(s.patient) == "test" and not s.other][:300], model
        )
        for name, group in samples.items()
    }
    places = ("out", "data", "init", "device", "threads", "workers", "labels")
    recipe = {k: v for k, v in asdict(options).items() if k not in places}
    recipe |= {"architecture": options.architecture, "preprocessing": options.preprocessing}
    recipe["data"] = [source if source.startswith("phantom") else source.split("=")[0] for source in options.data]
    recipe |= {"detector": Path(options.detector).name} | more
    patients = {name: len({s.patient for s in group}) for name, group in samples.items()}
    return write_detector(net.state_dict(), results, patients, recipe, options.out / "detector.safetensors")
