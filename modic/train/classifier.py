"""Training of the grader: `modic train classifier --data spider=DIR --data phantom=N --out DIR`.

The paper's recipe: Adam at 1e-3, early stopping with patience 5, rotations of 10°, shifts, 20 % of patients for the
test. Beyond it: a running average of the weights is kept, intensities are varied as scanners vary them, and classes
are drawn equally often. Of the other patients some decide when to stop, some fit the calibration (modic/train/discs.py,
`part_of`). Real discs of type 1 are too few to learn from, so type 1 comes from the phantom and from lesions painted
into real regions (modic/train/lesions.py). The loop is modic/train/loop.py: the same command again goes on.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import UsageError
from modic.normalize import METHODS, Method
from modic.train.arguments import add_numbers, add_training_arguments
from modic.train.batches import workers_for
from modic.train.calibrate import balanced_log_loss
from modic.train.checkpoint import finish, is_finished, read
from modic.train.discs import Disc, fold_of, load_discs, part_of, phantom_discs, save_discs, spider_discs
from modic.train.loop import Loop, prepare, settings_of, train
from modic.train.sources import KINDS, KNOWN
from modic.train.start import Start, find, load
from modic.train.views import Example, Stress, measuring_view, training_view

if TYPE_CHECKING:
    import torch

PAINTED_FAT = 0.15  # share of the type 2 examples that are painted
AVERAGE = 0.01  # of the running average of weights that is measured and kept: about the last hundred batches
PHANTOM = 0.2  # share of the examples that come from the phantom where there are real ones too


@dataclass(frozen=True, slots=True)
class ClassifierTraining:
    """Options of one training. The defaults for the optimizer and for stopping are the paper's."""

    data: tuple[str, ...]  # spider=DIR, phantom=N (patients)
    out: Path
    normalization: Method = "standardize"
    region_scale: float = 1.35  # side of a region / width of the disc's box
    region_size: int = 64  # px
    slices: int = 5
    backbone: str = "resnet3d"  # the paper's; or efficientnet_lite0
    depth: int = 10  # of resnet3d
    widths: tuple[int, ...] = (16, 32, 96, 192)  # of resnet3d; fits 16 MiB in half precision
    freeze_trunk: bool = False  # of efficientnet_lite0: what ImageNet taught stays as it is
    head_penalty: float = 0.0  # factor of half the squared weights of the last layer, added to the loss
    vary_intensities: bool = True  # in training, as scanners do; the paper varied place and angle only
    average: float = AVERAGE  # of the weights, measured and kept (AVERAGE); 0: the weights as they are
    classes: tuple[int, ...] = (0, 1, 2)  # that the data must hold
    folds: int = 0  # calibrate on predictions out of this many folds instead of on patients kept for it
    dropout: float = 0.2
    epochs: int = 40
    epoch_steps: int = 40
    batch: int = 16
    learning_rate: float = 1e-3
    patience: int = 5
    minutes: float = 0.0  # stop after this long, 0: never
    alpha: float = 0.1  # a prediction set misses the true class this often
    seed: int = 0
    device: str = "auto"
    threads: int = 0  # torch's choice
    workers: int | None = None  # processes that make batches (modic.train.batches.workers_for)
    rest: float = 0.0  # seconds between two checkpoints
    init: str | None = None  # what to start from (modic.train.start)
    detector: str = ""  # weights that box the real slices that come without boxes
    labels: Path | None = None  # CSV of a user's own labels (modic.train.sources.labels)

    @property
    def architecture(self) -> dict[str, Any]:
        """What the card will name (modic.nets)."""
        common = {"backbone": self.backbone, "dropout": self.dropout}
        return common | ({"depth": self.depth, "widths": list(self.widths)} if self.backbone == "resnet3d" else {})

    @property
    def repeats(self) -> int:
        """How often the only slice of a disc is shown at once: a 3D network needs a stack."""
        return self.slices if self.backbone == "resnet3d" else 1

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What service must do again (modic.regions, modic.normalize)."""
        return {
            "normalization": self.normalization, "region_scale": self.region_scale, "region_size": self.region_size,
            "slices": self.slices,
        }  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `modic train classifier`."""
    add_data_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for classifier.safetensors, its cards and a cache",
    )
    parser.add_argument(
        "--normalization", default="standardize", choices=tuple(METHODS), help="of grey levels (default: %(default)s)"
    )
    parser.add_argument(
        "--backbone", default="resnet3d", choices=("resnet3d", "efficientnet_lite0"),
        help="resnet3d: the paper's (default); efficientnet_lite0: what is shipped",
    )  # fmt: skip
    parser.add_argument("--freeze-trunk", action="store_true", help="efficientnet_lite0: train only what follows it")
    parser.add_argument(
        "--depth", type=int, default=10, choices=(10, 18, 34, 50), help="of each 3D ResNet (default: %(default)s)"
    )
    parser.add_argument(
        "--widths", type=widths, default=(16, 32, 96, 192), metavar="W,W,W,W",
        help="channels of its four stages (default: 16,32,96,192)",
    )  # fmt: skip
    numbers = (
        ("region-scale", 1.35, "side of a region / width of the disc's box"),
        ("region-size", 64, "side of a region, px"),
        ("dropout", 0.2, "share of features left out at random in each step of training"),
        ("head-penalty", 0.0, "L2 penalty of the last layer's weights"),
        ("folds", 0, "cross-validate in so many parts first, and calibrate on the predictions out of fold; 0: do not"),
        ("alpha", 0.1, "how often a prediction set may miss the true type: 0.1 is one time in ten"),
        ("epochs", 40, "at most"),
        ("epoch-steps", 40, "batches an epoch"),
        ("batch", 16, "discs a batch"),
    )
    add_numbers(parser, numbers)
    add_training_arguments(parser)
    parser.add_argument(
        "--init",
        help="where to start: imagenet or imagenet=FILE (efficientnet_lite0), medicalnet=FILE (Med3D's, needs --widths "
        "64,128,256,512), or NAME.safetensors (default: random)",
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """What `read_sources` is told; of `modic evaluate classifier` too."""
    parser.add_argument(
        "--data", action="append", required=True, metavar="KIND=WHERE", help="see below; may be repeated"
    )
    parser.add_argument("--labels", type=Path, metavar="FILE.csv", help="grades (and boxes) of --data; see below")
    parser.add_argument(
        "--detector", default="", metavar="WEIGHTS",
        help="`detector` (the shipped one) or NAME.safetensors: boxes the discs that come without boxes",
    )  # fmt: skip


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
    from modic.train.cards import write_classifier
    from modic.train.sources.load import check_discs

    options = replace(options, device=prepare(options.device, seed=options.seed, threads=options.threads))
    start = find(options.init, model="classifier", architecture=options.architecture)
    settings = settings_of(options, started_from=start.record)
    if is_finished(options.out, settings):
        print(f"this training is finished; to train another one, give another --out than {options.out}")
        return options.out / "classifier.safetensors"
    discs = read_sources(options)
    if {source.split("=")[0] for source in options.data} & set(KINDS):
        check_discs(discs)
    parts = examples_by_part(discs)
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


def new_network(options: ClassifierTraining, start: Start) -> "torch.nn.Module":
    """The network before its training, on its device."""
    import torch

    from modic.nets import build_classifier

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
    from modic.train.sources.load import check_labels_used, classifier_discs

    discs: list[Disc] = []
    check_labels_used(options.data, options.labels)
    for source in options.data:
        name, _, value = source.partition("=")
        if name in KINDS and value:
            discs += classifier_discs(
                name, value, options.labels, options.preprocessing, detector=options.detector, device=options.device
            )
            continue
        cut = f"{options.region_scale}-{options.region_size}"
        kind = value if name == "phantom" else "boxed" if options.detector else "slices"
        cache = options.out / "cache" / f"{name}-{kind}-{cut}.npz"
        if not (name == "spider" and value) and not (name == "phantom" and value.isdigit()):
            raise UsageError(f"--data {source}: give {KNOWN}")
        if not cache.is_file():
            spider = name == "spider"
            cut_now = (
                spider_discs(Path(value), options.preprocessing, detector=options.detector)
                if spider
                else phantom_discs(int(value), options.preprocessing)
            )
            save_discs(cache, cut_now)
        discs += load_discs(cache)
    return discs


def examples_by_part(discs: list[Disc]) -> dict[str, list[Example]]:
    """`train`, `stop`, `calibrate`, `test`: every disc as it is, and every healthy real disc also with a painted
    type 1 lesion."""
    parts: dict[str, list[Example]] = {"train": [], "stop": [], "calibrate": [], "test": []}
    for disc in discs:
        part = parts[part_of(disc.patient)]
        part.append(Example(disc))
        if disc.real and disc.label == 0:
            part.append(Example(disc, painted=1))
    return parts


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
    from modic.train.refit import refit_head

    if options.freeze_trunk and refit_head(net, examples, options):
        print("types 0 and 2 are told apart by a logistic regression on features", flush=True)


Pools = list[list[tuple[float, list[Example], np.ndarray]]]


def training_pools(examples: list[Example], classes: tuple[int, ...] = (0, 1, 2)) -> Pools:
    """For each of `classes` its groups: (share, examples, probability of each). Raises UsageError where one has none.

    Painted lesions go to degenerate discs more often, as real ones do, so that the disc does not give them away.
    """
    fat = [Example(e.disc, painted=2) for e in examples if e.painted]
    pools: Pools = []
    for label in classes:
        groups = [
            (1 - PHANTOM, [e for e in examples if e.label == label and e.real]),
            (PHANTOM, [e for e in examples if e.label == label and e.source == "phantom"]),
            (1 - PHANTOM, [e for e in examples if label == 1 and e.painted]),
            (PAINTED_FAT, fat if label == 2 else []),
        ]
        pools.append([(share, group, _weights(group)) for share, group in groups if group])
        if not pools[-1]:
            raise UsageError(f"the data hold no disc of Modic type {label} to train on; add phantom=N")
    return pools


def _weights(examples: list[Example]) -> np.ndarray:
    weights = np.array([max(e.disc.degeneration, 1) ** 2 if e.painted else 1 for e in examples], float)
    return weights / weights.sum()


def draw(pools: Pools, rng: np.random.Generator, n: int) -> list[Example]:
    """n examples: class by class in turn, then a group by its share."""
    drawn = []
    for i in rng.permutation(n):
        groups = pools[int(i) % len(pools)]
        shares = np.array([share for share, _, _ in groups])
        _, examples, weights = groups[rng.choice(len(groups), p=shares / shares.sum())]
        drawn.append(examples[rng.choice(len(examples), p=weights)])
    return drawn


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


def network_batch(views: list[np.ndarray], device: str) -> "torch.Tensor | list[torch.Tensor]":
    """Views (2, slices, size, size) as one tensor, or as a list where their numbers of slices differ."""
    import torch

    tensors = [torch.from_numpy(view).to(device) for view in views]
    return torch.stack(tensors) if len({view.shape for view in views}) == 1 else tensors


def predict(
    net: "torch.nn.Module", examples: list[Example], options: ClassifierTraining, *, seed: int = 0,
    stress: Stress | None = None,
) -> np.ndarray:  # fmt: skip
    """Logits (n, 3) of measuring views, made harder by `stress`; leaves the network in evaluation mode."""
    import torch

    net.eval()
    rows = []
    for batch in measuring_batches(examples, options, seed=seed, stress=stress):
        with torch.inference_mode():
            rows.append(net(batch).double().cpu().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, 3))


def measuring_batches(
    examples: list[Example], options: ClassifierTraining, *, seed: int, stress: Stress | None = None
) -> Iterator["torch.Tensor | list[torch.Tensor]"]:
    """Measuring views of all examples in their order, 32 at a time; the same for the same seed."""
    view = partial(
        measuring_view, size=options.region_size, method=options.normalization, repeats=options.repeats, stress=stress
    )
    for start in range(0, len(examples), 32):
        some = enumerate(examples[start : start + 32], 1000 * seed + start)
        yield network_batch([view(example, number) for number, example in some], options.device)


def _stopping_loss(net: "torch.nn.Module", examples: list[Example], options: ClassifierTraining) -> float:
    """Class-balanced log loss, the mean of real (with painted) and phantom patients."""
    if not examples:
        raise UsageError("too few patients to keep some apart for stopping; add phantom=N")
    logits, labels = predict(net, examples, options), np.array([e.label for e in examples])
    phantom = np.array([e.source == "phantom" for e in examples])
    return float(np.mean([balanced_log_loss(logits[m], labels[m]) for m in (phantom, ~phantom) if m.any()]))


def widths(text: str) -> tuple[int, ...]:
    """What `--widths` was given. Raises argparse.ArgumentTypeError."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or min(numbers) < 1:
        raise argparse.ArgumentTypeError("give four whole numbers, such as 16,32,96,192")
    return numbers
