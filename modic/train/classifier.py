"""Training of the classifier: `modic train classifier --data spider=DIR --data phantom=N --out DIR`.

The recipe is the paper's: Adam at 1e-3, early stopping with patience 5, rotations of 10°, shifts, 20 % of the patients
kept for the test. Three things are added: a running average of the weights is kept, intensities are varied as scanners
vary them, and the types are drawn equally often. Of the other patients some decide when training stops and some fit the
calibration (modic/train/data/discs.py, `part_of`). There are too few real discs of type 1 to learn from, so type 1
comes from the phantom and from lesions painted into real regions (modic/train/augment/lesions.py).

The loop is modic/train/loop.py: the same command resumes a training that was interrupted.
"""

import argparse
import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import UsageError
from modic.statistics.calibration import balanced_log_loss
from modic.train.augment.regions import Example, training_view
from modic.train.batches import workers_for
from modic.train.checkpoint import finish, is_finished, read
from modic.train.command_line import add_options, options_of
from modic.train.data import KINDS, KNOWN
from modic.train.data.discs import Disc, load_discs, save_discs
from modic.train.data.phantom_discs import phantom_discs
from modic.train.data.spider_discs import spider_discs
from modic.train.data.split import fold_of
from modic.train.inference import network_batch, predict
from modic.train.loop import Loop, prepare, settings_of, train
from modic.train.options import ClassifierTraining
from modic.train.pretrained import Start, find, load
from modic.train.sampling import draw, examples_by_part, training_pools

if TYPE_CHECKING:
    import torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `modic train classifier`."""
    add_options(parser, ClassifierTraining)


def run(args: argparse.Namespace) -> int:
    """`modic train classifier`."""
    path = train_classifier(options_of(ClassifierTraining, args))
    print(f"weights and cards: {path}, {path.with_suffix('.json').name}, {path.with_suffix('.md').name}")
    return 0


def train_classifier(options: ClassifierTraining) -> Path:
    """Train, calibrate, measure on the test patients, write weights and cards to `options.out`.

    Resumes an earlier call with the same options that was interrupted, and does nothing if that one is finished.

    Returns:
        The path of the weights.

    Raises:
        UsageError: data are missing or lack a Modic type, or `options.out` holds a training with other options.
    """
    from modic.train.classifier_card import write_classifier
    from modic.train.data.load import check_discs

    options = replace(options, device=prepare(options.device, seed=options.seed, threads=options.threads))
    start = find(options.init, model="classifier", architecture=options.architecture)
    settings = settings_of(options, started_from=start.record)
    if is_finished(options.out, settings):
        print(f"this training is finished; to train another one, give another --out than {options.out}")
        return options.out / "classifier.safetensors"
    if options.views:
        check_frozen(options)
    discs = read_sources(options)
    if {source.split("=")[0] for source in options.data} & set(KINDS):
        check_discs(discs)
    parts = examples_by_part(discs)
    if options.views:
        return train_frozen(parts, options, start, settings)
    out_of_fold = None
    if options.folds:
        parts["train"] += parts.pop("calibrate")
        out_of_fold = cross_validate(parts, options, start, settings)
    net = new_network(options, start)
    history = fit(net, parts, options, settings, options.out)
    _refit(net, parts["train"] + parts["stop"], options)
    path = write_classifier(net, parts, history, options, start.record or None, out_of_fold)
    finish(options.out, history, settings)
    return path


def check_frozen(options: ClassifierTraining) -> None:
    """Raises UsageError for options that do not go with --views."""
    if not (options.freeze_trunk and options.backbone == "efficientnet_lite0" and options.folds and options.init):
        raise UsageError("--views needs --backbone efficientnet_lite0, --freeze-trunk, --folds and --init imagenet")


def train_frozen(
    parts: dict[str, list[Example]], options: ClassifierTraining, start: Start, settings: dict[str, Any]
) -> Path:
    """Train what follows a frozen trunk (modic/train/frozen.py), calibrate, measure, write weights and cards."""
    from modic.train.classifier_card import write_classifier
    from modic.train.frozen import TrunkMaps, fit_heads, record, views_of, with_marrow

    parts["train"] += parts.pop("calibrate") + parts.pop("stop")
    net = new_network(options, start).eval()
    maps = TrunkMaps(net, options, options.out / "cache" / "maps")
    everything = views_of(parts["train"], maps, options.views)
    text = json.dumps(settings, sort_keys=True, default=str)
    heads = options.out / "heads" / hashlib.sha256(text.encode()).hexdigest()[:12]
    held, logits = [], []
    phantoms_alone = all(e.source == "phantom" for e in parts["train"])
    for fold in range(options.folds):
        print(f"fold {fold + 1} of {options.folds}", flush=True)
        inside = np.array([fold_of(e.disc.patient, options.folds) == fold for e in parts["train"]])
        measured = fit_heads(net, everything.only(~inside), options, heads / f"fold{fold}.safetensors")
        rows = [int(i) for i in np.flatnonzero(inside) if phantoms_alone or parts["train"][i].source != "phantom"]
        held += [parts["train"][i] for i in rows]
        logits.append(with_marrow(everything.logits(net, rows), [parts["train"][i] for i in rows], measured))
    measured = fit_heads(net, everything, options, heads / "all.safetensors")
    history = [{"epoch": 1, "steps": len(everything.maps), "best": True}]
    path = write_classifier(
        net, parts, history, options, start.record or None, (held, np.concatenate(logits)), record(measured)
    )
    finish(options.out, history, settings)
    return path


def new_network(options: ClassifierTraining, start: Start) -> "torch.nn.Module":
    """The untrained network on its device, with the weights of `start` if there are any."""
    import torch

    from modic.models.classifier import build_classifier

    torch.manual_seed(options.seed)
    net = build_classifier(options.architecture, options.contrasts)
    load(net, start)
    if options.freeze_trunk:
        net.get_submodule("trunk").requires_grad_(False)
    layout = torch.channels_last_3d if options.backbone == "resnet3d" else torch.channels_last
    return net.to(options.device).to(memory_format=layout)  # twice as fast on a CPU


def cross_validate(
    parts: dict[str, list[Example]], options: ClassifierTraining, start: Start, settings: dict[str, Any]
) -> tuple[list[Example], np.ndarray]:
    """Grade each patient of `train` by a network that was trained on the other folds.

    Patients fall into `options.folds` folds by a hash of their name, so all discs of a patient are in one fold. A fold
    that an earlier call finished is not trained again.

    Returns:
        The graded examples, without phantoms, and their logits, float64 (n, 3).
    """
    examples, logits = [], []
    for fold in range(options.folds):
        in_fold = [fold_of(example.disc.patient, options.folds) == fold for example in parts["train"]]
        held_out = [e for e, held in zip(parts["train"], in_fold, strict=True) if held and e.source != "phantom"]
        others = [e for e, held in zip(parts["train"], in_fold, strict=True) if not held]
        examples += held_out
        logits.append(_grade_fold(fold, parts | {"train": others}, held_out, options, start, settings))
    return examples, np.concatenate(logits)


def _grade_fold(
    fold: int, parts: dict[str, list[Example]], held_out: list[Example], options: ClassifierTraining, start: Start,
    settings: dict[str, Any],
) -> np.ndarray:  # fmt: skip
    """Logits (n, 3) of `held_out` by a network trained on `parts`, kept in OUT/folds/FOLD/logits.npy."""
    out, settings = options.out / "folds" / str(fold), settings | {"fold": fold}
    path = out / "logits.npy"
    read(out, settings)  # refuses a fold of a training with other options
    if not path.is_file():
        print(f"fold {fold + 1} of {options.folds}", flush=True)
        net = new_network(options, start)
        fit(net, parts, options, settings, out)
        _refit(net, parts["train"] + parts["stop"], options)
        np.save(path, predict(net, held_out, options, seed=1))
    logits: np.ndarray = np.load(path)
    return logits


def read_sources(options: ClassifierTraining) -> list[Disc]:
    """The discs of all sources of `--data`.

    Discs of SPIDER's slices and of the phantom come from the cache in `options.out`, if an earlier training with the
    same data and regions left one. A user's own data are read anew each time: labels change, and a cache would hold
    images of patients. Raises UsageError for a source that is unknown or cannot be read.
    """
    from modic.train.data.load import check_labels_used

    check_labels_used(options.data, options.labels)
    return [disc for source in options.data for disc in _discs_of(source, options)]


def _discs_of(source: str, options: ClassifierTraining) -> list[Disc]:
    from modic.train.data.load import classifier_discs

    kind, _, value = source.partition("=")
    if options.stir and kind != "phantom":
        raise UsageError(f"--data {source}: only phantom=N has a STIR")
    if kind in KINDS and value:
        return classifier_discs(
            kind,
            value,
            options.labels,
            options.preprocessing,
            detector=options.detector,
            device=options.device,
            segmenter=options.segmenter,
        )
    if not (kind == "spider" and value) and not (kind == "phantom" and value.isdigit()):
        raise UsageError(f"--data {source}: give {KNOWN}")
    variant = value if kind == "phantom" else "boxed" if options.detector else "slices"
    variant += "-stir" if options.stir else ""
    variant += "-marrow" if kind == "spider" and options.segmenter else ""
    cache = options.out / "cache" / f"{kind}-{variant}-{options.region_scale}-{options.region_size}.npz"
    if not cache.is_file():
        spider = kind == "spider"
        save_discs(
            cache,
            spider_discs(Path(value), options.preprocessing, detector=options.detector, segmenter=options.segmenter)
            if spider
            else phantom_discs(int(value), options.preprocessing),
        )
    return load_discs(cache)


def fit(
    net: "torch.nn.Module", parts: dict[str, list[Example]], options: ClassifierTraining, settings: dict[str, Any],
    out: Path,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train `net` in place with Adam and early stopping; it ends with the averaged weights of the best epoch.

    Returns one row an epoch (modic.train.loop.HISTORY).
    """
    import torch

    pools = training_pools(parts["train"], options.classes)
    return train(
        net,
        torch.optim.Adam([p for p in net.parameters() if p.requires_grad], options.learning_rate),
        batch=lambda rng: _batch(draw(pools, rng, options.batch), rng, options),
        loss=lambda net, batch: _loss(net, batch[0], batch[1], options),
        validation=lambda net: _stopping_loss(net, parts["stop"], options),
        loop=Loop(
            out, settings, options.epochs * options.epoch_steps, options.epoch_steps, options.patience,
            options.minutes, average=options.average, seed=options.seed,
            workers=workers_for(options.device, options.workers), rest=options.rest,
        ),
    )  # fmt: skip


def _refit(net: "torch.nn.Module", examples: list[Example], options: ClassifierTraining) -> None:
    """Fit types 0 and 2 again if the trunk is frozen: its features are then the same as before training."""
    from modic.train.refit_head import refit_head

    if options.freeze_trunk and refit_head(net, examples, options):
        print("types 0 and 2 are told apart by a logistic regression on features", flush=True)


def _batch(
    examples: list[Example], rng: np.random.Generator, options: ClassifierTraining
) -> tuple[list[np.ndarray], list[int]]:
    """Random views, each float32 (2, slices, size, size), and their labels."""
    view = partial(
        training_view, size=options.region_size, method=options.normalization, repeats=options.repeats,
        intensities=options.vary_intensities,
    )  # fmt: skip
    return [view(example, rng) for example in examples], [example.label for example in examples]


def _loss(
    net: "torch.nn.Module", views: list[np.ndarray], labels: list[int], options: ClassifierTraining
) -> "torch.Tensor":
    """Cross entropy with label smoothing, and half the squared weights of the last layer times `head_penalty`."""
    import torch

    y = torch.tensor(labels, device=options.device)
    loss = torch.nn.functional.cross_entropy(net(network_batch(views, options.device)), y, label_smoothing=0.05)
    head = net.get_submodule("head").get_parameter("weight")
    return loss + options.head_penalty / 2 * (head**2).sum()


def _stopping_loss(net: "torch.nn.Module", examples: list[Example], options: ClassifierTraining) -> float:
    """Log loss with all types weighted equally: the mean of that of patients (with painted discs) and of phantoms."""
    if not examples:
        raise UsageError("too few patients to keep some apart for stopping; add phantom=N")
    logits, labels = predict(net, examples, options), np.array([example.label for example in examples])
    phantom = np.array([example.source == "phantom" for example in examples])
    groups = [mask for mask in (phantom, ~phantom) if mask.any()]
    return float(np.mean([balanced_log_loss(logits[mask], labels[mask]) for mask in groups]))
