"""The path of a study. Read this first: `grade_study` is the chain of stages, `grade_shard` what a worker runs.

The steps around it (find the studies, cut shards, publish) are in modic/run/publish.py, and flows/nightly.py runs
them all.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.cases.images import write_case
from modic.config import Config
from modic.errors import Reason, Rejected, where
from modic.grading.agreement import agreed
from modic.grading.classify import grade_regions
from modic.grading.marrow import MarrowMeasurements, measure_marrow
from modic.grading.marrow_features import marrow_features
from modic.grading.saliency import explain, seen_by
from modic.imaging.endplates import find_endplates
from modic.imaging.load import load_volume
from modic.imaging.normalize import normalize
from modic.imaging.regions import box_on_t1, corners_mm, cut_regions
from modic.imaging.registration import register
from modic.imaging.volume import Volume
from modic.levels.find import find_levels
from modic.levels.plausibility import not_lumbar
from modic.models.weights import Model, Models
from modic.records import LEVELS, Grade, LevelBox, LevelResult, LevelSet, Pair, Region, StudyResult

if TYPE_CHECKING:
    from modic.models.endplate_net import Segmenter

LOG = logging.getLogger(__name__)


def grade_study(pair: Pair, *, models: Models, config: Config, pictures: Path | None = None) -> StudyResult:
    """load → levels → regions → normalize → grade. Expected trouble comes back as `rejected`; only bugs raise.

    `pictures`: folder for the study's pictures, which cost no grade where they fail.
    """
    seconds: dict[str, float] = {}
    preprocessing = models.classifier.card["preprocessing"]
    with _timed(seconds, "load"):
        volumes = load_pair(pair, config)
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
    with _timed(seconds, "marrow"):
        marrow, features = measure(t1, t2, levels, models.segmenter)
    with _timed(seconds, "grade"), seen_by(models.classifier, wanted=pictures is not None) as seen:
        grades = grade_regions(regions, classifier=models.classifier, alpha=config.grading.alpha, features=features)
        grades = [agreed(grade, marrow[grade.level].columns()) if grade.level in marrow else grade for grade in grades]
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


def measure(
    t1: Volume, t2: Volume, levels: LevelSet, segmenter: "Segmenter | None"
) -> tuple[dict[str, MarrowMeasurements], dict[str, np.ndarray]]:
    """The marrow beside the endplates of each level: its columns, and what the classifier decides by."""
    if segmenter is None:
        return {}, {}
    contrasts, endplates = {"t1": t1, "t2": t2}, find_endplates(t2, t1, levels, segmenter=segmenter)
    return measure_marrow(contrasts, endplates), marrow_features(contrasts, endplates)


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


def load_pair(pair: Pair, config: Config) -> tuple[Volume, Volume] | Rejected:
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


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
