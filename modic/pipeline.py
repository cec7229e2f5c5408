"""The path of a study. Read this first: `grade_study` is the chain of stages, `grade_shard` what a worker runs.

The steps around it (find the studies, cut shards, publish) are in modic/night.py, and flows/nightly.py runs them all.
"""

import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from modic import shards
from modic.classify import grade_regions
from modic.cohort import Cohort, open_cohort
from modic.config import Config
from modic.errors import TRANSIENT, DeviceLost, ModicError, Reason, Rejected, UsageError
from modic.evidence import explain, seen_by
from modic.levels import find_levels, not_lumbar, slices_around
from modic.limits import is_out_of_memory, memory_limit
from modic.look import look
from modic.normalize import normalize
from modic.pictures import write_case
from modic.records import LEVELS, Grade, LevelBox, LevelResult, LevelSet, Pair, Region, Series, StudyResult, Volume
from modic.regions import box_on_t1, corners_mm, cut_regions
from modic.registration import register
from modic.roles import RoleFound
from modic.volume import load_volume
from modic.weights import Model, load_classifier, load_detector

LOG = logging.getLogger(__name__)
LOOK_SLICES = 9  # around the middle of the stack, about 36 mm; the canal is 20 to 25 mm wide


@dataclass(frozen=True, eq=False)
class Models:
    """What a worker keeps loaded."""

    detector: Model
    classifier: Model

    @property
    def identity(self) -> dict[str, str]:
        """The columns that say what graded a row."""
        return {
            "normalization": self.classifier.card["preprocessing"]["normalization"],
            "detector_id": self.detector.id,
            "classifier_id": self.classifier.id,
            "device": self.detector.device,
        }

    def usable(self) -> bool:
        """Whether their device still answers this process."""
        if self.detector.device == "cpu":
            return True
        import torch

        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return False
        return True


def grade_study(pair: Pair, *, models: Models, config: Config, pictures: Path | None = None) -> StudyResult:
    """load → levels → regions → normalize → grade. Expected trouble comes back as `rejected`; only bugs raise.

    `pictures`: folder for the study's pictures, which cost no grade where they fail.
    """
    seconds: dict[str, float] = {}
    preprocessing = models.classifier.card["preprocessing"]
    with _timed(seconds, "load"):
        volumes = _load(pair, config)
    if isinstance(volumes, Rejected):
        return StudyResult(rejected=volumes, seconds=seconds)
    t1, t2 = volumes
    with _timed(seconds, "levels"):
        levels = find_levels(t2, detector=models.detector, options=config.levels)
    if not levels.boxes:
        return StudyResult(rejected=Rejected(Reason.STUDY_NO_LEVELS), seconds=seconds)
    if refused := not_lumbar(levels, t2):
        return StudyResult(rejected=refused, seconds=seconds)
    with _timed(seconds, "regions"):
        cut = cut_regions(t1, t2, levels, preprocessing=preprocessing)
    with _timed(seconds, "normalize"):
        regions = [normalize(one, method=preprocessing["normalization"]) for one in cut if isinstance(one, Region)]
    with _timed(seconds, "grade"), seen_by(models.classifier, wanted=pictures is not None) as seen:
        grades = grade_regions(regions, classifier=models.classifier)
    trouble: tuple[str, ...] = ()
    if pictures is not None:
        with _timed(seconds, "pictures"):
            trouble = _draw(pictures, (t1, t2, levels, cut), regions, grades, seen, models.classifier)
    return StudyResult(
        levels=_six_rows(t1, t2, levels, cut, grades),
        numbering=levels.numbering,
        p_numbering=levels.p_numbering,
        warnings=(*_warnings(pair, t1, t2), *trouble),
        seconds=seconds,
    )


def look_at(series: Series, *, detector: Model, config: Config) -> RoleFound:
    """The role of a series that modic.identify could not tell (`is_untold`): load → levels → look."""
    volume = load_volume(replace(series, rejected=None), options=config.identify)
    if isinstance(volume, Rejected):
        return RoleFound("unknown", f"pixels: {volume.reason} {volume.detail}".rstrip())
    volume = volume.canonical()
    levels = find_levels(volume, detector=detector, options=config.levels)
    n = len(volume.voxels)  # the midline that is found is that of a bright canal, which a T1 has not
    return look(volume, [box.box for box in levels.boxes], slices_around(n // 2, LOOK_SLICES, n, volume.spacing_mm[2]))


def _warnings(pair: Pair, t1: Volume, t2: Volume) -> tuple[str, ...]:
    found = (("T1", (*pair.t1.warnings, *t1.warnings)), ("T2", (*pair.t2.warnings, *t2.warnings)))
    return tuple(f"{name}: {warning}" for name, warnings in found for warning in warnings)


def _draw(
    folder: Path, study: tuple[Volume, Volume, LevelSet, list[Region | LevelResult]],
    regions: list[Region], grades: list[Grade], seen: Any, classifier: Model,
) -> tuple[str, ...]:  # fmt: skip
    """Write the study's pictures; what went wrong comes back as a warning of the study."""
    try:
        evidence = explain(regions, grades, classifier=classifier, seen=seen)
        write_case(folder, *study, evidence, region_scale=classifier.card["preprocessing"]["region_scale"])
    except Exception as error:  # noqa: BLE001  (pictures are for looking at; the grade stands without them)
        return (f"no pictures: {where(error)}",)
    return ()


def _load(pair: Pair, config: Config) -> tuple[Volume, Volume] | Rejected:
    volumes = []
    for name, series in (("T1", pair.t1), ("T2", pair.t2)):
        volume = load_volume(series, options=config.identify)
        if isinstance(volume, Rejected):
            return replace(volume, detail=f"{name}: {volume.detail}".rstrip(": "))
        volumes.append(volume)
    t1, t2 = volumes
    if pair.check_images:
        found = register(t1, t2)
        if not found.agrees:
            return Rejected(Reason.STUDY_FRAMES_DIFFER, str(found))
        t2 = replace(t2, warnings=(*t2.warnings, f"no header vouches for one frame of reference with T1; {found}"))
    return t1, t2


def _six_rows(
    t1: Volume, t2: Volume, levels: LevelSet, cut: list[Region | LevelResult], grades: list[Grade]
) -> tuple[LevelResult, ...]:
    """One result for each of LEVELS, in their order: graded, unreadable, or not found."""
    by_level: dict[str, LevelResult] = {one.level: one for one in cut if isinstance(one, LevelResult)}
    boxes = {box.level: box for box in levels.boxes}
    for grade in grades:
        by_level[grade.level] = _graded(t1, t2, boxes[grade.level], grade)
    missing = Rejected(Reason.LEVEL_NOT_DETECTED)
    return tuple(by_level.get(level, LevelResult(level, "not_found", missing)) for level in LEVELS)


def _graded(t1: Volume, t2: Volume, box: LevelBox, grade: Grade) -> LevelResult:
    t1_box, t1_slice = box_on_t1(t1, t2, box)
    corner0, corner1 = corners_mm(t2, box)
    return LevelResult(box.level, "graded", None, box, t1_box, t1_slice, corner0, corner1, grade)


def grade_shard(cohort: str, run_id: str, shard_id: str, device: str) -> str:
    """Grade the studies of one shard and write its file; returns the path. A shard that has its file is not graded.

    Runs in a worker, which keeps the models between shards. Whatever a study does, short of killing the process, it
    is a row. Raises WeightsError where the weights do not match their cards, and ModicError, which names no value of a
    study, where the shard's files cannot be read or written. Raises DeviceLost at the study that spoiled the GPU for
    this process, which should end: then only a shard of that study alone has been written.
    """
    try:
        return str(_grade_shard(open_cohort(Path(cohort)), run_id, shard_id, device))
    except ModicError:
        raise
    except Exception as error:  # noqa: BLE001  (raised again, without its message)
        raise ModicError(f"shard {shard_id}: {where(error)}") from None


def _grade_shard(home: Cohort, run_id: str, shard_id: str, device: str) -> Path:
    path = home.shard(run_id, shard_id)
    if path.exists():
        return path
    shards.note_position(home, run_id, shard_id, shards.LOADING)
    studies, config = shards.read_input(home, run_id, shard_id)
    models = load_models(config.detector, config.classifier, resolve_device(device))
    rows = []
    for index, work in enumerate(studies):
        shards.note_position(home, run_id, shard_id, index)
        pictures = home.case(run_id, work.study_key) if config.run.pictures else None
        result = grade_or_fail(work.pair, models=models, config=config, pictures=pictures)
        rows.append(shards.row(work, result, **models.identity))
        _log(shard_id, work.study_key, result)
        if not models.usable():
            if len(studies) == 1:
                shards.write_output(path, rows)
            raise DeviceLost(f"shard {shard_id}, study {work.study_key}: the GPU answers this process no more")
    return shards.write_output(path, rows)


def _log(shard_id: str, study_key: str, result: StudyResult) -> None:
    refused, unsure = result.rejected, result.numbering == "uncertain"
    if refused:
        said = f"{refused.study_status}: {refused.reason}" + (f" ({refused.detail})" if refused.detail else "")
    else:
        grades = [one.grade for one in result.levels if one.grade]
        said = f"{len(grades)} levels graded, {sum(one.abstained for one in grades)} of them abstained"
        said += ", numbering uncertain" if unsure else ""
    level = logging.WARNING if unsure or (refused and refused.study_status == "failed") else logging.INFO
    took = sum(result.seconds.values())
    LOG.log(level, "shard %s, study %s: %s, %.1f s", shard_id, study_key, said, took, extra={"shard": shard_id})


def grade_or_fail(pair: Pair, *, models: Models, config: Config, pictures: Path | None = None) -> StudyResult:
    """`grade_study`, with a bug or an exhausted memory as a `failed` row. The detail names no value of the study."""
    try:
        with memory_limit(config.run.study_memory_limit_mb):
            return _first_that_serves(pair, models=models, config=config, pictures=pictures)
    except ModicError:
        raise
    except Exception as error:  # noqa: BLE001  (a bad study costs only itself)
        reason = Reason.STUDY_OUT_OF_MEMORY if is_out_of_memory(error) else Reason.STUDY_INTERNAL_ERROR
        return StudyResult(rejected=Rejected(reason, where(error)))


def _first_that_serves(pair: Pair, *, models: Models, config: Config, pictures: Path | None) -> StudyResult:
    """The result of the first of the study's pairs that can be graded, else that of the first (modic/pair.py, P10)."""
    first = grade_study(pair, models=models, config=config, pictures=pictures)
    if first.rejected is None or first.rejected.reason in TRANSIENT:
        return first
    for number, other in enumerate(pair.others, 1):
        result = grade_study(other, models=models, config=config, pictures=pictures)
        if result.rejected is None or result.rejected.reason in TRANSIENT:
            said = f"pair {number + 1} of {len(pair.choices)}; the first: {first.rejected.reason}"
            return replace(result, choice=number, warnings=(said, *result.warnings))
    return first


def where(error: Exception) -> str:
    """`ValueError in levels.py:120`: the class, the system's words if any, our innermost line."""
    here = Path(__file__).parent
    system = f" ({os.strerror(error.errno)})" if isinstance(error, OSError) and error.errno else ""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(here)]
    place = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{system}{place}"


@cache
def load_models(detector: str, classifier: str, device: str) -> Models:
    """Both networks on `device`, loaded once a process. Raises WeightsError."""
    return Models(load_detector(detector, device=device), load_classifier(classifier, device=device))


def resolve_device(device: str) -> str:
    """`auto` is a GPU where this process sees one. Raises UsageError for `cuda` where it sees none."""
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UsageError("device cuda: no CUDA GPU is visible here; use --device auto or cpu")
    return "cpu"


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
