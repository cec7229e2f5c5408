"""What one study asks: normalizations × repeats × folds, the recipe of each fold, and how far it is from the paper's.

The defaults are the full design: the paper's four normalizations, 10 repeats of 5 folds, Adam at 0.001, patience 5,
rotations and shifts, pairs of 3D ResNets on five slices. Depth, widths and pixels of these, class-balanced batches, and
that a tenth of the patients, taken from the training part, decide when to stop, are this project's choices.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from modic.errors import UsageError
from modic.imaging.normalize import METHODS, Method
from modic.train.options import ClassifierTraining

STOP_SHARE = 8  # of the training patients of a fold, one in so many decides when to stop: a tenth of all of 5 folds


CHECKPOINT_S = 60.0  # a fold that is killed loses a minute; writing its network after every epoch took longer


@dataclass(frozen=True, slots=True)
class Design:
    """One study. Unknown keys are refused (`design_from`)."""

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
    lesion_depth: float = 0.4  # of synthetic=N, in the phantom's own depths (modic/experiment/synthetic.py)
    depth: int = 10  # of each 3D ResNet
    widths: tuple[int, ...] = (64, 128, 256, 512)
    epochs: int = 100  # at most; the paper's patience ends nearly all earlier
    epoch_steps: int = 0  # batches an epoch; 0: as many as hold each training region once
    batch: int = 16
    learning_rate: float = 1e-3
    patience: int = 5
    device: str = "auto"

    @property
    def shards(self) -> tuple["Fold", ...]:
        """Every fold, whole repeats first, so that a study that is stopped early is a smaller whole one."""
        return tuple(
            Fold(normalization, repeat, fold)
            for repeat in range(self.repeats) for fold in range(self.folds) for normalization in self.normalizations
        )  # fmt: skip

    @property
    def made_up(self) -> list[str]:
        """Those of `data` that are synthetic spines."""
        return [source for source in self.data if source.startswith(("synthetic=", "phantom="))]

    def training(self, fold: "Fold", *, classes: tuple[int, ...], n_train: int, out: Path) -> ClassifierTraining:
        """The recipe of one fold. Its seed depends on repeat and fold alone: all normalizations start from the same
        weights and are shown the same regions in the same order."""
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
        """Where this design falls short of the full one, in words."""
        return [
            f"{said}: {_shown(getattr(self, name))} (full: {_shown(default)})"
            for name, (said, default) in _FULL.items()
            if getattr(self, name) != default
        ]


@dataclass(frozen=True, slots=True)
class Fold:
    """One piece of work: a training on all patients but a fold's, and its predictions of those."""

    normalization: Method
    repeat: int
    fold: int

    @property
    def id(self) -> str:
        """Name of its file, which sorts by time."""
        return f"r{self.repeat:02}-f{self.fold:02}-{self.normalization}"


_WORDS = {
    "normalizations": "normalizations", "repeats": "repeats", "folds": "folds", "region_scale": "region scale",
    "region_size": "region, px", "slices": "slices", "depth": "ResNet depth", "widths": "ResNet widths",
    "epochs": "epochs at most", "epoch_steps": "batches an epoch", "batch": "regions a batch",
    "learning_rate": "learning rate", "patience": "patience, epochs",
}  # fmt: skip
_FULL = {one.name: (_WORDS[one.name], one.default) for one in fields(Design) if one.name in _WORDS}
PROFILES: dict[str, dict[str, Any]] = {
    "full": {},
    "quick": {
        "repeats": 2, "region_size": 24, "slices": 3, "widths": (8, 16, 32, 64), "epochs": 4, "epoch_steps": 45,
        "lesion_depth": 1.25,
    },
}  # fmt: skip
"""full: the paper's, for a GPU. quick: under ten minutes on two CPU cores, to see that all works on one's own data."""


def design_from(options: Mapping[str, Any]) -> Design:
    """A checked design of plain values, `profile` naming what the others start from; None means not given.

    Raises UsageError for an unknown key or a value that makes no study.
    """
    given = {key: value for key, value in options.items() if value is not None}
    profile = given.pop("profile", "full")
    known = {one.name for one in fields(Design)}
    if profile not in PROFILES or (strange := given.keys() - known):
        what = f"profile {profile}" if profile not in PROFILES else f"option {min(strange)}"
        raise UsageError(f"a study knows no {what}; known: {', '.join((*PROFILES, *sorted(known)))}")
    values = PROFILES[profile] | given
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    paths = {key: Path(values[key]).resolve() for key in ("out", "labels") if values.get(key)}
    return _checked(Design(**{**values, **paths}))


def _checked(design: Design) -> Design:
    if design.folds < 2 or design.repeats < 1:
        raise UsageError(f"{design.repeats} repeats of {design.folds} folds: give at least 1 repeat and 2 folds")
    unknown = [name for name in design.normalizations if name not in METHODS]
    if unknown or len(set(design.normalizations)) < 2 or len(set(design.normalizations)) < len(design.normalizations):
        raise UsageError(f"--normalizations: give at least two different ones of {', '.join(METHODS)}")
    if design.slices % 2 == 0 or design.slices < 1:
        raise UsageError(f"--slices {design.slices}: give an odd number, the middle one being the disc's")
    return replace(design, normalizations=tuple(design.normalizations))


def as_plain(design: Design) -> dict[str, Any]:
    """For JSON, and for `design_from` again."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(design).items()}
    return plain | {"out": str(design.out), "labels": str(design.labels) if design.labels else None}


def _shown(value: Any) -> str:
    if value == 0:
        return "all regions"
    return ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
