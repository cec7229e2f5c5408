"""The configuration of a run: `cohort.toml`, one frozen class a section, unknown keys refused.

Every field carries its meaning and unit in its `help`. Options that can change a grade (`GRADING_SECTIONS`) enter the
configuration hash, and so decide what is graded again; the others (shards, time limits) do not.
"""

import hashlib
import json
import tomllib
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from modic import versions
from modic.decode import decode
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
    overlap_reject: float = _option(
        0.90, "share of T2's five middle slices, those that are graded, that lie in the T1 stack: refuse below"
    )
    height_reject: float = _option(
        0.3, "share of each of these slices that T1 shows: refuse below; each level is asked again", later=True
    )


@dataclass(frozen=True, slots=True)
class LevelOptions:
    """Detection and naming of levels (modic/levels/find.py). Preprocessing is in the detector's card, not here."""

    slices: int = _option(3, "central T2 slices shown to the detector", 1, 1000)
    score_min: float = _option(0.05, "candidate boxes below this detector score are ignored")
    numbering_min: float = _option(
        0.9, "probability that all names are right, counted from the last mobile disc: `uncertain` below"
    )
    transitional_min: float = _option(0.5, "probability of a vertebra more or fewer: suspected from here", later=True)
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
    """Comparison of the images of T1 and T2 (modic/imaging/registration.py).

    A pair whose headers name no common frame of reference and that passes is always graded with a warning.
    """

    shift_reject_mm: float = _option(
        3.0, "shift of T1 that agrees best with T2: refuse above; an endplate region is about 10 mm high", 0, 100,
        later=True,
    )  # fmt: skip
    clarity_reject: float = _option(
        0.10, "share of the agreement that a shift by 6 mm or more must cost: refuse below", later=True
    )
    frame_shift_warn_mm: float = _option(
        2.5, "of a pair in one frame of reference: a shift that agrees better is corrected and said above", 0, 100,
        later=True,
    )  # fmt: skip
    frame_shift_reject_mm: float = _option(9.0, "as above: refuse above", 0, 100, later=True)
    frame_turn_reject_deg: float = _option(
        3.0, "of such a pair, a turn that agrees better: refuse above", 0, 90, later=True
    )
    frame_clarity_reject: float = _option(0.05, "of such a pair, the clarity as above: refuse below", later=True)


@dataclass(frozen=True, slots=True)
class GradingOptions:
    """When a grade is sure (modic/grading/classify.py). The classifier's card holds the thresholds for each risk."""

    alpha: float = _option(
        0.0, "how often a prediction set may miss the true type: 0.05 gives fewer and surer grades, 0.2 more; "
        "0: as the classifier's card says", 0, 0.5, later=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """Where images are read from (modic/archive/README.md). None of this changes a grade."""

    cache: str = _option(
        "", "folder for unpacked tar.gz files and what servers sent; empty: private/cache of the cohort"
    )
    cache_gb: float = _option(20.0, "size that it may reach, GB", 0.001, 1e6)


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
    studies_may_leave: bool = _option(
        False, "say nothing, and exit with 0, if most known studies are no longer in the archive"
    )
    folders_may_be_closed: bool = _option(
        False, "say nothing, and exit with 0, if folders of the archive cannot be read"
    )
    keep_tables_days: float = _option(
        7.0, "published tables stay readable for so long after newer ones (modic.open(…, run=RUN_ID))", 1, 36_500
    )
    pictures: bool = _option(True, "keep pictures of every graded study for the report, at most 220 kB each")
    features: bool = _option(
        True, "keep what the classifier's network gave for every level, 5 kB each, so that another calibration, "
        "also a site's own (`modic adapt`), or another alpha needs no image"
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """All sections of `cohort.toml`. `detector`, `classifier`: shipped weights, `paper` (the paper's design), or a path
    to NAME.safetensors."""

    identify: IdentifyOptions = IdentifyOptions()
    pair: PairOptions = PairOptions()
    levels: LevelOptions = LevelOptions()
    registration: RegistrationOptions = RegistrationOptions()
    grading: GradingOptions = GradingOptions()
    archive: ArchiveOptions = ArchiveOptions()
    run: RunOptions = RunOptions()
    detector: str = _option(
        "detector", "shipped weights, `paper`, or a path to NAME.safetensors with NAME.json beside it"
    )
    classifier: str = _option("classifier", "as above")

    def grading_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of every option that can change a row, and of the grading version.

        Version 1 is left out: hashes of cohorts that were graded before there were versions stay valid.
        """
        return self._hash(GRADING_SECTIONS)

    def encoding_hash(self) -> str:
        """The same of the options that change what is kept of a level, which `[grading]` does not."""
        return self._hash(tuple(name for name in GRADING_SECTIONS if name != "grading"))

    def _hash(self, names: tuple[str, ...]) -> str:
        sections = {name: _hashed(getattr(self, name)) for name in names}
        values: dict[str, Any] = {name: options for name, options in sections.items() if options}
        if versions.GRADING_VERSION > 1:
            values["grading_version"] = versions.GRADING_VERSION
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


GRADING_SECTIONS = ("identify", "pair", "levels", "registration", "grading")


def _hashed(section: Any) -> dict[str, Any]:
    """The options of a section that enter the configuration hash: all but `later` ones at their default."""
    values = {option: getattr(section, option.name) for option in fields(section)}
    return {o.name: value for o, value in values.items() if not o.metadata["later"] or value != o.default}


def load_config(path: Path | None) -> Config:
    """Read `cohort.toml`; None gives the defaults.

    Raises UsageError naming the file and the key if the file is missing or is no TOML, or if it holds an unknown key
    or a value of the wrong type or out of range.
    """
    if path is None:
        return Config()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"configuration {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    config = decode(Config, values, str(path))
    for section in fields(Config):
        _check_ranges(getattr(config, section.name), f"{path}: {section.name}")
    return config


def _check_ranges(section: Any, where: str) -> None:
    """Raise UsageError if a number of a section is out of its range; a text is no section and has no numbers."""
    for option in fields(section) if is_dataclass(section) else ():
        value = getattr(section, option.name)
        least, most = option.metadata["least"], option.metadata["most"]
        if not isinstance(value, bool | str) and not least <= value <= most:  # nan is neither
            raise UsageError(f"{where}: {option.name} must be from {least:g} to {most:g}, not {value:g}")
