"""The configuration of a run: `cohort.toml`, one frozen class a section, unknown keys refused.

Every field carries its meaning and unit in its `help`. What changes a grade (`GRADING_SECTIONS`) enters the
configuration hash, and so decides what must be graded again; the rest (shards, time limits) does not.
"""

import hashlib
import json
import tomllib
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from modic.errors import UsageError


def _option(default: Any, help: str, least: float = 0, most: float = 1, *, later: bool = False) -> Any:
    """An option of a section.

    Args:
        default: its value if `cohort.toml` does not give it.
        help: what it means, with its unit.
        least, most: what a number must lie between.
        later: the option was a constant of the code until it became one; at its default it is no part of the
            configuration hash, so that studies graded before need not be graded again.
    """
    return field(default=default, metadata={"help": help, "least": least, "most": most, "later": later})


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
    apart_low_warn_mm: float = _option(
        23.0, "median distance between neighbouring discs: warn below; at the limit of refusal it never does", 0, 200,
        later=True,
    )  # fmt: skip
    apart_low_reject_mm: float = _option(
        23.0, "as above: refuse below; cervical discs lie 15-20 mm apart, thoracic 20-25, lumbar 28-45", 0, 200,
        later=True,
    )  # fmt: skip
    apart_high_warn_mm: float = _option(52.0, "as above: warn above", 0, 200, later=True)
    apart_high_reject_mm: float = _option(
        52.0, "as above: refuse above; a PixelSpacing that is wrong by a factor of two shows here", 0, 200, later=True
    )
    lumbar_score_warn: float = _option(0.5, "mean detector score of the named discs: warn below", later=True)
    lumbar_score_reject: float = _option(
        0.5, "as above: refuse below; 164 real lumbar images scored 0.62 and more", later=True
    )
    height_warn_mm: float = _option(550.0, "height of the T2 image without padding: warn above", 0, 5000, later=True)
    height_reject_mm: float = _option(
        550.0, "as above: refuse above; lumbar images are 250-450 mm high, whole spines 600 and more", 0, 5000,
        later=True,
    )  # fmt: skip
    width_warn_mm: float = _option(
        12.0, "width of a disc's box from front to back: warn below; adult lumbar discs have 30-45 mm", 0, 100,
        later=True,
    )  # fmt: skip
    width_reject_mm: float = _option(12.0, "as above: the level is unreadable below", 0, 100, later=True)
    width_warn_px: float = _option(8.0, "the same width in T2 pixels: warn below", 0, 1000, later=True)
    width_reject_px: float = _option(8.0, "as above: the level is unreadable below", 0, 1000, later=True)


@dataclass(frozen=True, slots=True)
class RegistrationOptions:
    """Comparison of T1 and T2 whose headers name no common frame of reference (modic/imaging/registration.py).

    A pair that passes is always graded with a warning.
    """

    shift_reject_mm: float = _option(
        3.0, "shift of T1 that agrees best with T2: refuse above; an endplate region is about 10 mm high", 0, 100,
        later=True,
    )  # fmt: skip
    clarity_reject: float = _option(
        0.10, "share of the agreement that a shift by 6 mm or more must cost: refuse below", later=True
    )


@dataclass(frozen=True, slots=True)
class GradingOptions:
    """When a grade is sure (modic/grading/classify.py). The classifier's card holds the thresholds for each risk."""

    alpha: float = _option(
        0.0, "how often a prediction set may miss the true type: 0.05 gives fewer and surer grades, 0.2 more; "
        "0: as the classifier's card says", 0, 0.5, later=True,
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
    registration: RegistrationOptions = RegistrationOptions()
    grading: GradingOptions = GradingOptions()
    run: RunOptions = RunOptions()
    detector: str = _option("detector", "shipped weights, or a path to NAME.safetensors with NAME.json beside it")
    classifier: str = _option("classifier", "as above")

    def grading_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of every option that can change a row."""
        sections = {name: _hashed(getattr(self, name)) for name in GRADING_SECTIONS}
        values = {name: options for name, options in sections.items() if options}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


GRADING_SECTIONS = ("identify", "pair", "levels", "registration", "grading")


def _hashed(section: Any) -> dict[str, Any]:
    """The options of a section that enter the configuration hash: all but `later` ones at their default."""
    values = {option: getattr(section, option.name) for option in fields(section)}
    return {o.name: value for o, value in values.items() if not o.metadata["later"] or value != o.default}


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
