"""Training of the grader: `modic train classifier --data spider=DIR --data phantom=N --out DIR`.

The paper's recipe: Adam at 1e-3, early stopping with patience 5, rotations of 10°, shifts, 20 % of patients for the
test. Beyond it: a running average of the weights is kept, intensities are varied as scanners vary them, and classes
are drawn equally often. Of the other patients some decide when to stop, some fit the calibration
(modic/train/data/discs.py, `part_of`). Real discs of type 1 are too few to learn from, so type 1 comes from the
phantom and from lesions painted into real regions (modic/train/augment/lesions.py). The loop is modic/train/loop.py:
the same command again goes on.
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
from modic.train.data import KINDS, KNOWN
from modic.train.data.discs import Disc, fold_of, load_discs, phantom_discs, save_discs, spider_discs
from modic.train.loop import Loop, prepare, settings_of, train
from modic.train.pretrained import Start, find, load

if TYPE_CHECKING:
    import torch
from modic.train.inference import network_batch, predict
from modic.train.options import ClassifierTraining
from modic.train.options import add_arguments as add_arguments
from modic.train.sampling import draw, examples_by_part, training_pools


def run(args: argparse.Namespace) -> int:
    """`modic train classifier`."""
    values = {key: value for key, value in vars(args).items() if key in ClassifierTraining.__dataclass_fields__}
    path = train_classifier(ClassifierTraining(**{**values, "data": tuple(args.data)}))
    print(f"weights and cards: {path}, {path.with_suffix('.json').name}, {path.with_suffix('.md').name}")
    return 0


def train_classifier(options: ClassifierTraining) -> Path:
    """Train, calibrate, measure on test patients, write weights and cards to `options.out`; returns the weights' path.

    Goes on where an earlier call with the same options was interrupted; does nothing where it is finished. Raises
    UsageError for data that are missing or lack a class, and where `options.out` holds a training with other options.
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
    unseen = None
    if options.folds:
        parts["train"] += parts.pop("calibrate")
        unseen = out_of_fold(parts, options, start, settings)
    net = new_network(options, start)
    history = fit(net, parts, options, settings, options.out)
    _refit(net, parts["train"] + parts["stop"], options)
    path = write_classifier(net, parts, history, options, start.record or None, unseen)
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
    read(options.out, settings)  # heads of a training with other options are refused
    text = json.dumps(settings, sort_keys=True, default=str)
    heads = options.out / "heads" / hashlib.sha256(text.encode()).hexdigest()[:12]
    held, logits = [], []
    for fold in range(options.folds):
        print(f"fold {fold + 1} of {options.folds}", flush=True)
        inside = np.array([fold_of(e.disc.patient, options.folds) == fold for e in parts["train"]])
        measured = fit_heads(net, everything.only(~inside), options, heads / f"fold{fold}.safetensors")
        rows = [i for i in np.flatnonzero(inside) if parts["train"][i].source != "phantom"]
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
    """The network before its training, on its device."""
    import torch

    from modic.models.classifier import build_classifier

    torch.manual_seed(options.seed)
    net = build_classifier(options.architecture)
    load(net, start)
    if options.freeze_trunk:
        net.get_submodule("trunk").requires_grad_(False)
    layout = torch.channels_last_3d if options.backbone == "resnet3d" else torch.channels_last
    return net.to(options.device).to(memory_format=layout)  # twice as fast on a CPU


def out_of_fold(
    parts: dict[str, list[Example]], options: ClassifierTraining, start: Start, settings: dict[str, Any]
) -> tuple[list[Example], np.ndarray]:
    """The patients of `train`, each graded by a network that was trained on the others; examples and logits (n, 3).

    Patients are dealt to `options.folds` folds by a hash, so all discs of one are together. A finished fold is not
    trained again.
    """
    examples, logits = [], []
    for fold in range(options.folds):
        out = options.out / "folds" / str(fold)
        inside = [fold_of(e.disc.patient, options.folds) == fold for e in parts["train"]]
        held_out = [e for e, it in zip(parts["train"], inside, strict=True) if it and e.source != "phantom"]
        kept = out / "logits.npy"
        read(out, settings | {"fold": fold})  # a fold of a training with other options is refused
        if not kept.is_file():
            print(f"fold {fold + 1} of {options.folds}", flush=True)
            others = [e for e, it in zip(parts["train"], inside, strict=True) if not it]
            net = new_network(options, start)
            fit(net, parts | {"train": others}, options, settings | {"fold": fold}, out)
            _refit(net, others + parts["stop"], options)
            np.save(kept, predict(net, held_out, options, seed=1))
        examples += held_out
        logits.append(np.load(kept))
    return examples, np.concatenate(logits)


def read_sources(options: ClassifierTraining) -> list[Disc]:
    """All discs; those of SPIDER and the phantom from the cache in `options.out` where an earlier training with the
    same data and cut left one. A user's own are read anew: their labels change, and a cache would hold patients."""
    from modic.train.data.load import check_labels_used, classifier_discs

    discs: list[Disc] = []
    check_labels_used(options.data, options.labels)
    for source in options.data:
        name, _, value = source.partition("=")
        if name in KINDS and value:
            discs += classifier_discs(
                name,
                value,
                options.labels,
                options.preprocessing,
                detector=options.detector,
                device=options.device,
                segmenter=options.segmenter,
            )
            continue
        cut = f"{options.region_scale}-{options.region_size}"
        kind = value if name == "phantom" else "boxed" if options.detector else "slices"
        kind += "-marrow" if name == "spider" and options.segmenter else ""
        cache = options.out / "cache" / f"{name}-{kind}-{cut}.npz"
        if not (name == "spider" and value) and not (name == "phantom" and value.isdigit()):
            raise UsageError(f"--data {source}: give {KNOWN}")
        if not cache.is_file():
            spider = name == "spider"
            cut_now = (
                spider_discs(Path(value), options.preprocessing, detector=options.detector, segmenter=options.segmenter)
                if spider
                else phantom_discs(int(value), options.preprocessing)
            )
            save_discs(cache, cut_now)
        discs += load_discs(cache)
    return discs


def fit(
    net: "torch.nn.Module", parts: dict[str, list[Example]], options: ClassifierTraining, settings: dict[str, Any],
    out: Path,
) -> list[dict[str, Any]]:  # fmt: skip
    """Adam, early stopping; leaves the averaged weights of the best epoch in `net`; returns each epoch's numbers."""
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
    """With a frozen trunk, whose features stay what they are."""
    from modic.train.refit_head import refit_head

    if options.freeze_trunk and refit_head(net, examples, options):
        print("types 0 and 2 are told apart by a logistic regression on features", flush=True)


def _batch(
    examples: list[Example], rng: np.random.Generator, options: ClassifierTraining
) -> tuple[list[np.ndarray], list[int]]:
    """Random views and their labels."""
    view = partial(
        training_view, size=options.region_size, method=options.normalization, repeats=options.repeats,
        intensities=options.vary_intensities,
    )  # fmt: skip
    return [view(example, rng) for example in examples], [example.label for example in examples]


def _loss(
    net: "torch.nn.Module", views: list[np.ndarray], labels: list[int], options: ClassifierTraining
) -> "torch.Tensor":
    import torch

    y = torch.tensor(labels, device=options.device)
    loss = torch.nn.functional.cross_entropy(net(network_batch(views, options.device)), y, label_smoothing=0.05)
    head = net.get_submodule("head").get_parameter("weight")
    return loss + options.head_penalty / 2 * (head**2).sum()


def _stopping_loss(net: "torch.nn.Module", examples: list[Example], options: ClassifierTraining) -> float:
    """Class-balanced log loss, the mean of real (with painted) and phantom patients."""
    if not examples:
        raise UsageError("too few patients to keep some apart for stopping; add phantom=N")
    logits, labels = predict(net, examples, options), np.array([e.label for e in examples])
    phantom = np.array([e.source == "phantom" for e in examples])
    return float(np.mean([balanced_log_loss(logits[m], labels[m]) for m in (phantom, ~phantom) if m.any()]))
