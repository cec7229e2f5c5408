"""The configuration of a run: `cohort.toml`, one frozen class a section, unknown keys refused.

Every field carries its meaning and unit in its `help`. What changes a grade (`GRADING_SECTIONS`) enters the
configuration hash, and so decides what must be graded again; the rest (shards, time limits) does not.
"""

import hashlib
import json
import tomllib
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from modic.errors import UsageError


def _option(default: Any, help: str, least: float = 0, most: float = 1) -> Any:
    """`least`, `most`: what a number must lie between."""
    return field(default=default, metadata={"help": help, "least": least, "most": most})


@dataclass(frozen=True, slots=True)
class IdentifyOptions:
    """Series identification (modic/series/identify.py) and the geometry it accepts."""

    min_slices: int = _option(5, "fewest slices of a usable sagittal series", 2, 1000)
    sagittal_warn_deg: float = _option(
        20.0, "angle between slice normal and the patient's left-right axis: warn above", 0, 90
    )
    sagittal_reject_deg: float = _option(45.0, "as above: not sagittal above", 0, 90)
    spacing_warn: float = _option(0.02, "largest relative deviation of slice spacing from its median: warn above")
    spacing_reject: float = _option(0.10, "as above: refuse above; a gap near a multiple is a missing slice")
    orientation_warn: float = _option(1e-4, "largest difference in ImageOrientationPatient within a stack: warn above")
    orientation_reject: float = _option(1e-2, "as above: refuse above")


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Pairing of T1 and T2 (modic/series/pair.py)."""

    overlap_warn: float = _option(0.98, "share of the T2 extent also covered by T1: warn below")
    overlap_reject: float = _option(0.90, "as above: refuse below")


@dataclass(frozen=True, slots=True)
class LevelOptions:
    """Detection and naming of levels (modic/levels/find.py). Preprocessing is in the detector's card, not here."""

    slices: int = _option(3, "central T2 slices shown to the detector", 1, 1000)
    score_min: float = _option(0.05, "candidate boxes below this detector score are ignored")
    numbering_min: float = _option(0.96, "probability that all names are right: `uncertain` below")


@dataclass(frozen=True, slots=True)
class GradingOptions:
    """When a grade is sure (modic/grading/classify.py). The classifier's card holds the thresholds for each risk."""

    alpha: float = _option(
        0.0, "how often a prediction set may miss the true type: 0.05 gives fewer and surer grades, 0.2 more; "
        "0: as the classifier's card says", 0, 0.5,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is cut up. None of this changes a grade."""

    shard_size: int = _option(32, "studies in a shard: what is lost and redone when a worker dies", 1, 100_000)
    study_time_limit_s: float = _option(300.0, "a study that takes longer is `failed` with study.time_limit", 0.1, 1e6)
    study_memory_limit_mb: int = _option(
        4096,
        "a study that asks for more memory (MiB, on top of the models') is `failed` with study.out_of_memory; Linux",
        1,
        2**30,
    )
    pictures: bool = _option(True, "keep pictures of every graded study for the report, at most 150 kB each")


@dataclass(frozen=True, slots=True)
class Config:
    """All sections of `cohort.toml`. `detector` and `classifier` name shipped weights or give a folder."""

    identify: IdentifyOptions = IdentifyOptions()
    pair: PairOptions = PairOptions()
    levels: LevelOptions = LevelOptions()
    grading: GradingOptions = GradingOptions()
    run: RunOptions = RunOptions()
    detector: str = _option("detector", "shipped weights, or a path to NAME.safetensors with NAME.json beside it")
    classifier: str = _option("classifier", "as above")

    def grading_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of every option that can change a row.

        `[grading]` came later: with its defaults it is not in it, so that studies graded before stay graded.
        """
        values = {k: v for k, v in asdict(self).items() if k in GRADING_SECTIONS}
        if self.grading == GradingOptions():
            del values["grading"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


GRADING_SECTIONS = ("identify", "pair", "levels", "grading")


def load_config(path: Path | None) -> Config:
    """Read `cohort.toml`; None gives the defaults.

    Raises UsageError naming the file and the key where it is missing, is not TOML, or holds an unknown key
    or a value of the wrong type or out of range.
    """
    if path is None:
        return Config()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"configuration {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return config_from(values, str(path))


def config_from(values: dict[str, Any], where: str) -> Config:
    """The configuration of a parsed TOML or of `dataclasses.asdict(config)`. Raises UsageError as `load_config`."""
    config: Config = _build(Config, values, where)
    return config


def _build(cls: type, values: dict[str, Any], where: str) -> Any:
    known = {f.name: f for f in fields(cls)}
    for key in values:
        if key not in known:
            raise UsageError(f"{where}: unknown key `{key}`; known here: {', '.join(sorted(known))}")
    return cls(**{key: _value(known[key], value, f"{where}: {key}") for key, value in values.items()})


def _value(spec: Field, value: Any, where: str) -> Any:
    if hasattr(spec.default, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise UsageError(f"{where} must be a section [{spec.name}]")
        return _build(type(spec.default), value, where)
    wanted = type(spec.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise UsageError(f"{where} must be {wanted.__name__}, not {type(value).__name__}")
    least, most = spec.metadata["least"], spec.metadata["most"]
    if wanted in (int, float) and not least <= value <= most:  # nan is neither
        raise UsageError(f"{where} must be from {least:g} to {most:g}, not {value:g}")
    return value
