"""Options that several commands of training and evaluation share."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modic.imaging.normalize import METHODS, Method

if TYPE_CHECKING:
    pass


def add_numbers(parser: argparse.ArgumentParser, numbers: Iterable[tuple[str, float, str]]) -> None:
    """One option for each (name, default, what it is); the default's type is the option's."""
    for name, default, said in numbers:
        parser.add_argument(
            f"--{name}", type=type(default), default=default, metavar="N", help=f"{said} (default: {default:g})"
        )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """How a training goes on and ends, and where it runs (modic/train/loop.py)."""
    add_numbers(parser, (("learning-rate", 1e-3, "of the optimizer"), ("patience", 5, "epochs without a better loss")))
    parser.add_argument(
        "--minutes", type=float, default=0.0, metavar="N", help="stop after so many minutes (default: when it is done)"
    )
    add_numbers(parser, [("seed", 0, "another seed, another training")])
    add_machine_arguments(parser)
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help="processes that make batches ahead (default: one a core beside a GPU, none on a CPU)",
    )  # fmt: skip


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Where networks run."""
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto (default): a GPU where there is one"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: torch's choice)")


AVERAGE = 0.01  # of the running average of weights that is measured and kept: about the last hundred batches


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
    views: int = 0  # with freeze_trunk: what the trunk sees of so many views is kept (modic.train.frozen); 0: no
    overlap: float = 0.0  # share of overlap weights within degeneration (modic.train.frozen.overlap_weights)
    segmenter: str = ""  # weights that find endplates: the marrow beside them is measured and decides too
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
    init: str | None = None  # what to start from (modic.train.pretrained)
    detector: str = ""  # weights that box the real slices that come without boxes
    labels: Path | None = None  # CSV of a user's own labels (modic.labels.table)

    @property
    def architecture(self) -> dict[str, Any]:
        """What the card will name (modic.models.detector)."""
        common = {"backbone": self.backbone, "dropout": self.dropout}
        return common | ({"depth": self.depth, "widths": list(self.widths)} if self.backbone == "resnet3d" else {})

    @property
    def repeats(self) -> int:
        """How often the only slice of a disc is shown at once: a 3D network needs a stack."""
        return self.slices if self.backbone == "resnet3d" else 1

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What service must do again (modic.imaging.regions, modic.imaging.normalize)."""
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
        (
            "views",
            0,
            "with --freeze-trunk: keep what the trunk sees of so many views of a disc, then train the rest",
        ),
        ("overlap", 0.0, "with --views, 0-1: weigh discs so that type goes less with degeneration"),
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
    parser.add_argument(
        "--segmenter", default="", metavar="WEIGHTS",
        help="`endplates` (the shipped ones) or NAME.safetensors: the marrow beside the endplates decides too",
    )  # fmt: skip


def widths(text: str) -> tuple[int, ...]:
    """What `--widths` was given. Raises argparse.ArgumentTypeError."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or min(numbers) < 1:
        raise argparse.ArgumentTypeError("give four whole numbers, such as 16,32,96,192")
    return numbers


def add_evaluation_arguments(parser: argparse.ArgumentParser, *, model: str) -> None:
    """The options of both `modic evaluate`s besides those of the data."""
    parser.add_argument(
        "--weights",
        default=model,
        help=f"`{model}`, the shipped one (default), or NAME.safetensors, its card beside it",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for tables, evaluation.md and pictures"
    )
    parser.add_argument(
        "--part", default="test", choices=("test", "all"),
        help="test: patients that training never saw, by a hash of their id (default); all: for another hospital",
    )  # fmt: skip
    add_machine_arguments(parser)
