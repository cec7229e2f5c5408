"""The options of both trainings and of both evaluations, each written once (modic/train/command_line.py)."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from modic.grades import TYPES
from modic.imaging.normalize import METHODS, Method
from modic.models.card import DEFAULT_CONTRASTS
from modic.train.command_line import Option, add_options

T1_AND_STIR = ("t1", "stir")
PERCENTILES = (1.0, 99.5)  # grey values of a slice that the detector sees as 0 and 1
AVERAGE = 0.01  # share of each batch in the running average of the weights: about the last hundred batches count
SOURCES = ("data", "labels", "detector")  # options that say where labelled patients come from
DATA = (*SOURCES, "segmenter")
MACHINE = ("device", "threads")  # options that say where networks run


def without_folder(source: str) -> str:
    """A `--data` source for a card: `spider=DIR`, but `phantom=300` as it is."""
    kind = source.split("=")[0]
    return source if kind == "phantom" else f"{kind}=FILE.json" if kind == "coco" else f"{kind}=DIR"


def without_path(init: str) -> str:
    """`--init` for a card: `imagenet`, `medicalnet=NAME.pth`, `FIRST.safetensors`."""
    form, _, file = init.partition("=")
    if form == "medicalnet":
        return f"{form}={Path(file).name}"
    return "FIRST.safetensors" if form.endswith(".safetensors") else form


def widths(text: str) -> tuple[int, ...]:
    """The value of `--widths`. Raises argparse.ArgumentTypeError."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or min(numbers) < 1:
        raise argparse.ArgumentTypeError("give four whole numbers, such as 16,32,96,192")
    return numbers


def _labels(contents: str) -> Option:
    """`--labels`: a CSV table of a user's own labels (modic.labels.table)."""
    return Option(f"{contents} of --data; see below", parse=Path, metavar="FILE.csv", recorded=lambda _: "FILE.csv")


def _detector(purpose: str) -> Option:
    """`--detector`: weights that box what comes without boxes."""
    text = f"`detector` (the shipped one) or NAME.safetensors: boxes {purpose}"
    return Option(text, metavar="WEIGHTS", recorded=lambda name: "NAME.safetensors" if "." in name else name)


def _out(contents: str) -> Option:
    return Option(f"folder for {contents}", parse=Path, metavar="DIR", recorded=lambda _: "DIR")


def _init(forms: str) -> Option:
    """`--init`: weights to start from (modic.train.pretrained)."""
    return Option(f"where to start: {forms} (default: random)", recorded=without_path)


Data = Annotated[
    tuple[str, ...],
    Option("see below; may be repeated", metavar="KIND=WHERE", repeated=True, recorded=without_folder),
]  # fmt: skip
Device = Annotated[str, Option("auto (default): a GPU if there is one", choices=("auto", "cpu", "cuda"), recorded=None)]
Workers = Annotated[
    int | None,
    Option(
        "processes that make batches ahead (default: one a core beside a GPU, none on a CPU)", parse=int, metavar="N",
        recorded=None,
    ),
]  # fmt: skip
Backbone = Annotated[
    str,
    Option(
        "resnet3d: the paper's (default); efficientnet_lite0: what is shipped",
        choices=("resnet3d", "efficientnet_lite0"),
    ),
]  # fmt: skip
Widths = Annotated[
    tuple[int, ...],
    Option("channels of its four stages", parse=widths, metavar="W,W,W,W", only_if=("backbone", "resnet3d")),
]  # fmt: skip
Segmenter = Annotated[
    str,
    Option(
        "`endplates` (the shipped ones) or NAME.safetensors: the marrow beside the endplates decides too",
        metavar="WEIGHTS", recorded=lambda name: "NAME.safetensors" if "." in name else name,
    ),
]  # fmt: skip
ClassifierInit = Annotated[
    str | None,
    _init(
        "imagenet or imagenet=FILE (efficientnet_lite0), medicalnet=FILE (Med3D's, needs --widths 64,128,256,512), or "
        "NAME.safetensors"
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The options of both trainings: how a training goes on and ends, and where it runs (modic/train/loop.py)."""

    learning_rate: Annotated[float, Option("of the optimizer")] = 1e-3
    patience: Annotated[int, Option("epochs without a better loss")] = 5
    minutes: Annotated[float, Option("stop after so many minutes (default: when it is done)")] = 0.0
    seed: Annotated[int, Option("another seed, another training")] = 0
    device: Device = "auto"
    threads: Annotated[int, Option("CPU threads (default: torch's choice)", recorded=None)] = 0
    workers: Workers = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierTraining(Training):
    """The options of `modic train classifier`. The defaults for the optimizer and for stopping are the paper's."""

    data: Data
    labels: Annotated[Path | None, _labels("grades (and boxes)")] = None
    detector: Annotated[str, _detector("the discs that come without boxes")] = ""
    segmenter: Segmenter = ""
    out: Annotated[Path, _out("classifier.safetensors, its cards and a cache")]
    normalization: Annotated[Method, Option("of grey levels", choices=METHODS)] = "standardize"
    backbone: Backbone = "resnet3d"
    freeze_trunk: Annotated[bool, Option("efficientnet_lite0: train only what follows it")] = False
    views: Annotated[
        int, Option("with --freeze-trunk: keep what the trunk sees of so many views of a disc, then train the rest")
    ] = 0
    overlap: Annotated[float, Option("with --views, 0-1: weigh discs so that type goes less with degeneration")] = 0.0
    stir: Annotated[bool, Option("phantom=N alone: read T1 and STIR, for studies without T2")] = False
    depth: Annotated[
        int, Option("of each 3D ResNet", choices=(10, 18, 34, 50), only_if=("backbone", "resnet3d"))
    ] = 10  # fmt: skip
    widths: Widths = (16, 32, 96, 192)
    region_scale: Annotated[float, Option("side of a region / width of the disc's box")] = 1.35
    region_size: Annotated[int, Option("side of a region, px")] = 64
    dropout: Annotated[float, Option("share of features left out at random in each step of training")] = 0.2
    head_penalty: Annotated[float, Option("L2 penalty of the last layer's weights")] = 0.0
    folds: Annotated[
        int, Option("cross-validate in so many parts first, and calibrate on the predictions out of fold; 0: do not")
    ] = 0
    alpha: Annotated[
        float, Option("how often a prediction set may miss the true type: 0.1 is one time in ten")
    ] = 0.1  # fmt: skip
    epochs: Annotated[int, Option("at most")] = 40
    epoch_steps: Annotated[int, Option("batches an epoch")] = 40
    batch: Annotated[int, Option("discs a batch")] = 16
    init: ClassifierInit = None

    # no options of the command
    slices: int = 5
    vary_intensities: bool = True  # in training, as scanners do; the paper varied place and angle only
    average: float = AVERAGE  # the averaged weights are measured and kept; 0: the weights as they are
    classes: tuple[int, ...] = TYPES  # Modic types that the data must hold
    rest: float = 0.0  # seconds between two checkpoints, at least

    @property
    def architecture(self) -> dict[str, Any]:
        """The card's `architecture` (modic.models.classifier)."""
        common = {"backbone": self.backbone, "dropout": self.dropout}
        return common | ({"depth": self.depth, "widths": list(self.widths)} if self.backbone == "resnet3d" else {})

    @property
    def contrasts(self) -> tuple[str, ...]:
        """In the order of the network's input."""
        return T1_AND_STIR if self.stir else DEFAULT_CONTRASTS

    @property
    def repeats(self) -> int:
        """How many times the only slice of a disc is shown at once: a 3D network needs a stack."""
        return self.slices if self.backbone == "resnet3d" else 1

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The card's `preprocessing`, which grading repeats (modic.imaging.regions, modic.imaging.normalize)."""
        return {
            "normalization": self.normalization, "region_scale": self.region_scale, "region_size": self.region_size,
            "slices": self.slices, "contrasts": list(self.contrasts),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTraining(Training):
    """The options of `modic train detector`. The defaults for backbone, optimizer and stopping are the paper's."""

    data: Data
    labels: Annotated[Path | None, _labels("levels, grades and boxes")] = None
    detector: Annotated[str, _detector("the slices of spider=DIR that have none")] = ""
    out: Annotated[Path, _out("detector.safetensors, its card and metrics")]
    backbone: Annotated[
        str, Option("resnet18|34|50 or efficientnet_lite0 (default: the paper's resnet50)")
    ] = "resnet50"  # fmt: skip
    fpn_channels: Annotated[int, Option("channels of the feature pyramid")] = 256
    head_features: Annotated[int, Option("features of the head that judges a box")] = 1024
    image_size: Annotated[int, Option("side of the square the detector sees, px")] = 320
    steps: Annotated[int, Option("batches, at most")] = 4000
    epoch_steps: Annotated[int, Option("batches an epoch")] = 200
    batch: Annotated[int, Option("slices a batch")] = 4
    optimizer: Annotated[
        str,
        Option("adam (default, the paper's); adamw: with a rate that rises and falls once", choices=("adam", "adamw")),
    ] = "adam"
    init: Annotated[str | None, _init("imagenet, imagenet=FILE (the backbone), NAME.safetensors")] = None
    teacher: Annotated[
        str,
        Option(
            "a detector (as --detector) whose maps are learnt below its heads: a start where ImageNet's cannot be had",
            metavar="WEIGHTS", recorded=lambda name: "NAME.safetensors" if "." in name else name,
        ),
    ] = ""  # fmt: skip

    @property
    def architecture(self) -> dict[str, Any]:
        """The card's `architecture` (modic.models.detector)."""
        return {"backbone": self.backbone, "fpn_channels": self.fpn_channels, "head_features": self.head_features}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The card's `preprocessing`, which grading repeats (modic.levels.detect.detector_image)."""
        return {"image_size": self.image_size, "percentiles": list(PERCENTILES)}


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Where labelled discs come from, for commands that train or evaluate no network of their own."""
    add_options(parser, ClassifierTraining, SOURCES)


def add_evaluation_arguments(parser: argparse.ArgumentParser, kind: type[Training], *, model: str) -> None:
    """The options that `modic evaluate detector` and `modic evaluate classifier` share; `kind`: of the training."""
    add_options(parser, kind, DATA)
    parser.add_argument(
        "--weights", default=model,
        help=f"`{model}`, the shipped one (default), or NAME.safetensors, its card beside it",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for tables, evaluation.md and pictures"
    )
    parser.add_argument(
        "--part", default="test", choices=("test", "all"),
        help="test: patients that training never saw, by a hash of their id (default); all: for another hospital",
    )  # fmt: skip
    add_options(parser, kind, MACHINE)
