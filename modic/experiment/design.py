"""The design of a study: normalizations × repeats × folds, and the recipe of each training.

The defaults are the full design: the paper's four normalizations, 10 repeats of 5 folds, Adam at 0.001, patience 5,
rotations and shifts, pairs of 3D ResNets on five slices. This project chose the depth, widths and pixels of the
networks, to draw the Modic types equally often, and to let a tenth of the patients, taken from the training part,
decide when to stop.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from modic.decode import decode
from modic.errors import UsageError
from modic.imaging.normalize import METHODS, Method
from modic.train.options import ClassifierTraining

STOP_SHARE = 8  # one in so many training patients of a fold decides when to stop: a tenth of all patients for 5 folds
CHECKPOINT_S = 60.0  # a fold that is killed loses a minute; writing the network after every epoch took longer


@dataclass(frozen=True, slots=True)
class Design:
    """The options of one study."""

    data: tuple[str, ...]  # synthetic=N, spider=DIR, or any other source of `modic train classifier`
    out: Path
    labels: Path | None = None
    detector: str = ""  # weights that box the discs that come without boxes
    normalizations: tuple[Method, ...] = tuple(METHODS)  # type: ignore[arg-type]
    repeats: int = 10
    folds: int = 5
    seed: int = 0
    region_scale: float = 1.35  # side of a region / width of the disc's box
    region_size: int = 64  # px
    slices: int = 5
    lesion_depth: float = 0.4  # of synthetic=N / the phantom's own depth (modic/experiment/synthetic.py)
    depth: int = 10  # of each 3D ResNet
    widths: tuple[int, ...] = (64, 128, 256, 512)
    epochs: int = 100  # at most; the paper's patience ends nearly all earlier
    epoch_steps: int = 0  # batches an epoch; 0: each training region once
    batch: int = 16
    learning_rate: float = 1e-3
    patience: int = 5
    device: str = "auto"

    @property
    def every_fold(self) -> tuple["Fold", ...]:
        """All trainings of the study, repeat by repeat, so that a study that is stopped early is a smaller one."""
        return tuple(
            Fold(normalization, repeat, fold)
            for repeat in range(self.repeats) for fold in range(self.folds) for normalization in self.normalizations
        )  # fmt: skip

    @property
    def synthetic(self) -> list[str]:
        """The sources in `data` that are synthetic spines."""
        return [source for source in self.data if source.startswith(("synthetic=", "phantom="))]

    def training(self, fold: "Fold", *, classes: tuple[int, ...], n_train: int, out: Path) -> ClassifierTraining:
        """The options of one training.

        Its seed depends on repeat and fold alone: all normalizations start from the same weights and are shown the same
        regions in the same order.

        Args:
            classes: Modic types that the data hold.
            n_train: number of training regions.
            out: folder for its checkpoints.
        """
        return ClassifierTraining(
            data=self.data, out=out, normalization=fold.normalization, region_scale=self.region_scale,
            region_size=self.region_size, slices=self.slices, depth=self.depth, widths=self.widths,
            epochs=self.epochs, epoch_steps=self.epoch_steps or -(-n_train // self.batch), batch=self.batch,
            learning_rate=self.learning_rate, patience=self.patience, vary_intensities=False, average=0.0,
            classes=classes, seed=self.seed + 1000 * fold.repeat + fold.fold, device=self.device, threads=1, workers=0,
            rest=CHECKPOINT_S,
        )  # fmt: skip

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How regions are cut (modic.imaging.regions)."""
        return {"region_scale": self.region_scale, "region_size": self.region_size, "slices": self.slices}

    def distance(self) -> list[str]:
        """The differences between this design and the full one, in words."""
        return [
            f"{label}: {_shown(getattr(self, name))} (full: {_shown(default)})"
            for name, (label, default) in _FULL.items()
            if getattr(self, name) != default
        ]


@dataclass(frozen=True, slots=True)
class Fold:
    """One training: on all patients but those of one fold of one repeat, whom it then predicts."""

    normalization: Method
    repeat: int
    fold: int

    @property
    def id(self) -> str:
        """The name of its file; names sort in the order of the work."""
        return f"r{self.repeat:02}-f{self.fold:02}-{self.normalization}"


_LABELS = {
    "normalizations": "normalizations", "repeats": "repeats", "folds": "folds", "region_scale": "region scale",
    "region_size": "region, px", "slices": "slices", "depth": "ResNet depth", "widths": "ResNet widths",
    "epochs": "epochs at most", "epoch_steps": "batches an epoch", "batch": "regions a batch",
    "learning_rate": "learning rate", "patience": "patience, epochs",
}  # fmt: skip
_FULL = {each.name: (_LABELS[each.name], each.default) for each in fields(Design) if each.name in _LABELS}
"""Option → its label and its value in the full design."""
PROFILES: dict[str, dict[str, Any]] = {
    "full": {},
    "quick": {
        "repeats": 2, "region_size": 24, "slices": 3, "widths": (8, 16, 32, 64), "epochs": 4, "epoch_steps": 45,
        "lesion_depth": 1.25,
    },
}  # fmt: skip
"""full: the paper's, for a GPU. quick: under ten minutes on two CPU cores, to see that one's own data work."""


def design_from(options: Mapping[str, Any]) -> Design:
    """Check plain values and make a design of them.

    Args:
        options: by the names of the fields; None means not given. `profile` names the profile whose values hold for
            the options that are not given.

    Raises:
        UsageError: an option is unknown, or its value makes no study.
    """
    given = {key: value for key, value in options.items() if value is not None}
    profile = given.pop("profile", "full")
    if profile not in PROFILES:
        raise UsageError(f"no profile of a study is called {profile}; known: {', '.join(PROFILES)}")
    design = decode(Design, PROFILES[profile] | given, "options of the study")
    labels = design.labels.resolve() if design.labels else None
    return _checked(replace(design, out=design.out.resolve(), labels=labels))


def _checked(design: Design) -> Design:
    """The design. Raises UsageError if it makes no study."""
    if design.folds < 2 or design.repeats < 1:
        raise UsageError(f"{design.repeats} repeats of {design.folds} folds: give at least 1 repeat and 2 folds")
    different = len(set(design.normalizations))
    if different < 2 or different < len(design.normalizations):
        raise UsageError(f"--normalizations: give at least two different ones of {', '.join(METHODS)}")
    if design.slices % 2 == 0 or design.slices < 1:
        raise UsageError(f"--slices {design.slices}: give an odd number, the middle one being the disc's")
    return design


def as_plain(design: Design) -> dict[str, Any]:
    """The design as values for JSON, which `design_from` reads."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(design).items()}
    return plain | {"out": str(design.out), "labels": str(design.labels) if design.labels else None}


def _shown(value: Any) -> str:
    """A value in words."""
    if value == 0:
        return "all regions"
    return ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
