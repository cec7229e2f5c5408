"""Training of the level detector: `modic train detector --data spider=DIR --data phantom=N --out DIR`.

The paper's recipe is the default: Adam at 1e-3, early stopping with patience 5, rotations of 10°, 20 % of the patients
kept for the test. Slices of patients and of the phantom are drawn by their shares and augmented
(modic/train/augment/slices.py). Patients are split: 70 % train, 10 % decide which epoch is kept and when training ends,
20 % are the test, whose results the card reports and which training never sees.

The loop is modic/train/loop.py: the same command resumes a training that was interrupted.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import UsageError
from modic.train.batches import workers_for
from modic.train.checkpoint import finish, is_finished
from modic.train.command_line import add_options, command, options_of
from modic.train.data import KINDS, KNOWN
from modic.train.data.samples import Sample
from modic.train.data.spider_slices import load_spider
from modic.train.data.split import split_of
from modic.train.loop import Loop, prepare, settings_of, short, train
from modic.train.options import PERCENTILES, DetectorTraining
from modic.train.pretrained import find, load
from modic.train.teacher import Teacher

if TYPE_CHECKING:
    import torch

PHANTOM = 0.35  # share of the slices that come from the phantom if there are slices of patients too
BENT = 0.35  # share of the slices shown with a steeper or flatter sacrum
TRANSITIONAL = 0.15  # share of the slices shown with a vertebra too many (or, less often, too few)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `modic train detector`."""
    add_options(parser, DetectorTraining)


def run(args: argparse.Namespace) -> int:
    """`modic train detector`."""
    path = train_detector(options_of(DetectorTraining, args))
    print(f"weights and card: {path} and {path.with_suffix('.json').name}")
    return 0


def load_samples(
    sources: tuple[str, ...], seed: int, cache: Path, *, detector: str = "", labels: Path | None = None
) -> dict[str, list[Sample]]:
    """The labelled slices of all sources, by kind of source; rendered phantoms are kept in the folder `cache`.

    Raises UsageError for a source that is unknown or cannot be read.
    """
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
    """The labelled slices that the options name; rendered phantoms are kept in OUT/cache."""
    cache = options.out / "cache"
    return load_samples(options.data, options.seed, cache, detector=options.detector, labels=options.labels)


def train_detector(options: DetectorTraining) -> Path:
    """Train, measure on the test patients, write weights and cards to `options.out`.

    Resumes an earlier call with the same options that was interrupted, and does nothing if that one is finished.

    Returns:
        The path of the weights.

    Raises:
        UsageError: data are missing, or `options.out` holds a training with other options.
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
    teacher = Teacher(options.teacher, net, options.device) if options.teacher else None
    net = net.to(options.device).to(memory_format=torch.channels_last)
    history = _fit(net, samples, options, settings, teacher)
    learnt_from = {"learnt_from": teacher.record} if teacher else {}
    recipe = {"started_from": start.record or None, "stopped_after": short(history[-1])} | learnt_from
    path = _save(net, samples, options, recipe)
    finish(options.out, history, settings)
    return path


def _fit(
    net: "torch.nn.Module", samples: dict[str, list[Sample]], options: DetectorTraining, settings: dict[str, Any],
    teacher: Teacher | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train `net` in place; it ends with the weights of the lowest validation loss. Returns one row an epoch.

    Raises UsageError if no patient is left to train on, or none to decide when to stop.
    """
    training = {name: [s for s in group if split_of(s.patient) == "train"] for name, group in samples.items()}
    validation = [s for group in samples.values() for s in group if split_of(s.patient) == "validation"]
    if not validation or not any(training.values()):
        raise UsageError("too few patients to train on some and keep others apart for stopping; add phantom=N")
    optimizer, schedule = make_optimizer(net, options)
    return train(
        net,
        optimizer,
        batch=lambda rng: [_example(sample, rng, options) for sample in _draw(training, rng, options.batch)],
        loss=lambda net, batch: _loss(net, batch, options.device) + (teacher.distance() if teacher else 0),
        validation=lambda net: _validation_loss(net, validation, options),
        loop=Loop(
            options.out, settings, options.steps, options.epoch_steps, options.patience, options.minutes,
            seed=options.seed, workers=workers_for(options.device, options.workers),
        ),
        schedule=schedule,
        half=net.get_submodule("backbone"),
    )  # fmt: skip


def make_optimizer(net: "torch.nn.Module", options: DetectorTraining) -> tuple["torch.optim.Optimizer", Any]:
    """The optimizer, and the schedule of its learning rate or None."""
    import torch

    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if options.optimizer == "adam":
        return torch.optim.Adam(trained, options.learning_rate), None
    optimizer = torch.optim.AdamW(trained, options.learning_rate, weight_decay=1e-3)
    rising = 0.1 if options.steps > 10 else 0.45  # of all steps; torch divides by 0 if it is one step
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, options.steps, pct_start=rising
    )


def _draw(groups: dict[str, list[Sample]], rng: np.random.Generator, n: int) -> list[Sample]:
    """Draw `n` samples: `PHANTOM` of them from the phantom if there are patients too, the others equally by source."""
    names = [name for name, group in groups.items() if group]
    real = [name for name in names if name != "phantom"]
    share = {name: (1 - PHANTOM * ("phantom" in names)) / len(real) for name in real}
    p = np.array([share.get(name, PHANTOM) for name in names])
    chosen = [groups[names[i]] for i in rng.choice(len(names), n, p=p / p.sum())]
    return [group[rng.integers(len(group))] for group in chosen]


Example = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A slice, its boxes and their labels, as `_example` returns them."""


def _loss(net: "torch.nn.Module", batch: list[Example], device: str) -> "torch.Tensor":
    """The sum of torchvision's four losses of a Faster R-CNN."""
    import torch

    images = [torch.from_numpy(image).to(device).expand(3, -1, -1) for image, _, _ in batch]
    targets = [
        {"boxes": torch.from_numpy(boxes).to(device), "labels": torch.from_numpy(labels).to(device)}
        for _, boxes, labels in batch
    ]
    return sum(net(images, targets).values())


def _example(sample: Sample, rng: np.random.Generator, options: DetectorTraining) -> Example:
    """An augmented slice float32 (size, size), boxes float32 (n, 4) px and labels int64 (n,), 1 for T12/L1.

    Discs above T12/L1 are unlabelled background, as in grading.
    """
    from modic.train.augment.curvature import bend
    from modic.train.augment.slices import augment
    from modic.train.augment.transitional import change_count, rename

    lo, hi = np.percentile(sample.image, PERCENTILES)
    unit = np.clip((sample.image.astype(np.float32) - lo) / max(hi - lo, 1e-6), 0, 1)
    boxes, names, other = sample.boxes, sample.names, sample.other
    if not other and len(boxes) >= 4 and rng.random() < TRANSITIONAL:
        unit, boxes, names, other = change_count(unit, boxes, names, rng, added=rng.random() < 0.7)
    if other and rng.random() < 0.5:
        names = rename(names, other)
    if len(boxes) >= 4 and rng.random() < BENT:
        unit, boxes = bend(unit, boxes, rng)
    for _ in range(10):
        image, in_view, kept = augment(unit, boxes, rng, size=options.image_size)
        kept &= names >= 0
        if kept.sum() >= 3:
            break
    return image, in_view[kept].astype(np.float32).reshape(-1, 4), (names[kept] + 1).astype(np.int64)


def _validation_loss(net: "torch.nn.Module", samples: list[Sample], options: DetectorTraining, most: int = 48) -> float:
    """Mean loss over at most `most` slices of the validation patients; the same augmentations and proposals each time.

    Batch statistics are not updated.
    """
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
    net: "torch.nn.Module", samples: dict[str, list[Sample]], options: DetectorTraining, recipe: dict[str, Any]
) -> Path:
    """Correct the box edges, measure on the test patients, write weights and cards; returns the weights' path.

    `recipe`: what the training adds to the card's recipe.
    """
    from modic.models.weights import Model
    from modic.train.box_bias import correct_box_edges
    from modic.train.detector_card import write_detector
    from modic.train.detector_results import evaluate

    model = Model(net.eval(), {"preprocessing": options.preprocessing}, "", options.device)
    training = [s for group in samples.values() for s in group if split_of(s.patient) == "train"]
    recipe = recipe | {"boxes_settled_by": correct_box_edges(model, training)}
    results = {
        f"{kind}, test patients": evaluate(
            [s for s in group if split_of(s.patient) == "test" and not s.other][:300], model
        )
        for kind, group in samples.items()
    }
    patients = {kind: len({s.patient for s in group}) for kind, group in samples.items()}
    recipe = _recipe(options) | recipe
    return write_detector(net.state_dict(), results, patients, recipe, options, options.out / "detector.safetensors")


def _recipe(options: DetectorTraining) -> dict[str, Any]:
    """The options for the card's recipe, without folders and machines, and the command line that repeats them."""
    left_out = ("out", "data", "init", "teacher", "device", "threads", "workers", "labels")
    recipe = {name: value for name, value in asdict(options).items() if name not in left_out}
    data = [source if source.startswith("phantom") else source.split("=")[0] for source in options.data]
    detector = Path(options.detector).name
    return {"command": command("detector", options)} | recipe | {"data": data, "detector": detector}
