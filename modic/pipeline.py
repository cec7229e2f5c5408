"""The path of a study. Read this first: `grade_study` is the chain of stages.

| stage     | module                                              | from → to                                      |
|-----------|-----------------------------------------------------|------------------------------------------------|
| load      | modic/imaging/in_place.py, load.py, registration.py | a pair of series → volumes with their geometry |
| levels    | modic/levels/find.py, plausibility.py               | the T2 volume → named boxes of discs           |
| endplates | modic/imaging/endplates.py                          | volumes and boxes → endplates of each disc     |
| contrast  | modic/levels/orientation.py,                        | refused if pixels lie the other way round, or  |
|           | modic/series/contrast_from_pixels.py                | show another contrast, than the header says    |
| count     | modic/levels/whole_spine.py, count_from_c2.py       | a whole spine beside them → discs from C2      |
| regions   | modic/imaging/regions.py                            | volumes and boxes → a region for each level    |
| normalize | modic/imaging/normalize.py                          | region → region                                |
| marrow    | modic/grading/marrow.py                             | volumes, endplates → marrow beside these       |
| grade     | modic/grading/classify.py                           | regions and marrow → grades                    |
| check     | modic/grading/agreement.py                          | sure grades that contradict the marrow abstain |
| types     | modic/grading/endplate_types.py                     | grade and marrow → type and extent at each     |
| stir      | modic/series/stir_beside.py, modic/grading/marrow.py | a STIR beside them → its marrow; grades nothing |
| pictures  | modic/grading/saliency.py, modic/cases/images.py    | what a reader is shown of the study            |

Any stage may refuse a study, as a value with a reason. Before the chain, modic/archive and modic/series find the
pairs; around it, modic/run cuts the studies into shards, calls `grade_study` in workers, and publishes the tables.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modic.archive.source import Opens
from modic.archive.sources import Opener
from modic.cases.images import draw_case
from modic.config import Config
from modic.errors import Reason, Rejected
from modic.grading.agreement import checked
from modic.grading.classify import calibration_of, encode_regions, grade_output
from modic.grading.endplate_types import endplate_columns
from modic.grading.marrow import MarrowMeasurements, band_ratios, measure_marrow
from modic.grading.marrow_features import marrow_features
from modic.grading.marrow_signals import read_marrow
from modic.grading.network_output import NetworkOutput, kept_of, network_output
from modic.imaging.endplates import find_endplates
from modic.imaging.in_place import load_volumes
from modic.imaging.normalize import normalize
from modic.imaging.regions import (
    Volumes,
    box_on,
    contrast_label,
    corners_mm,
    cut_regions,
    reference_of,
    reference_volume,
    slices_beyond,
)
from modic.imaging.volume import CanonicalVolume
from modic.levels.discs_apart import discs_apart
from modic.levels.find import find_levels
from modic.levels.orientation import check_orientation
from modic.levels.plausibility import check_lumbar
from modic.levels.whole_spine import counted_on
from modic.models.card import contrasts
from modic.models.weights import Model, Models
from modic.records import (
    LEVELS,
    Endplates,
    Grade,
    LevelBox,
    LevelFeatures,
    LevelResult,
    LevelSet,
    Pair,
    Region,
    StudyResult,
)
from modic.series.contrast_from_pixels import shows_another_contrast
from modic.series.stir_beside import stir_beside

if TYPE_CHECKING:
    from modic.models.endplate_net import Segmenter


def grade_study(
    pair: Pair, *, models: Models, config: Config, pictures: Path | None = None, images: Opens | None = None
) -> StudyResult:
    """load → levels → regions → normalize → marrow → grade. Expected trouble comes back as `rejected`; only bugs raise.

    `pictures`: folder for the study's pictures; if they fail, the grades stand and the study has a warning.
    `images`: opens the files of the pair's series; None: from where the crawl read them.
    """
    images = images or Opener(config.archive)
    seconds: dict[str, float] = {}
    classifier, preprocessing = models.classifier, models.classifier.card["preprocessing"]
    with _timed(seconds, "load"):
        volumes = load_volumes(pair, config, wanted=contrasts(classifier.card), images=images)
    if isinstance(volumes, Rejected):
        return StudyResult(rejected=volumes, seconds=seconds)
    reference = reference_volume(volumes)
    with _timed(seconds, "levels"):
        levels = find_levels(reference, detector=models.detector, options=config.levels)
    if not levels.boxes:
        return StudyResult(rejected=Rejected(Reason.STUDY_NO_LEVELS), seconds=seconds)
    doubts = check_lumbar(levels, reference, options=config.levels)
    if isinstance(doubts, Rejected):
        return StudyResult(rejected=doubts, seconds=seconds)
    with _timed(seconds, "marrow"):
        endplates = _endplates(volumes, levels, models.segmenter)
    with _timed(seconds, "contrast"):
        against = _against_header(volumes, levels, endplates, models, config)
    if against:
        return StudyResult(rejected=against, seconds=seconds)
    with _timed(seconds, "count"):
        levels, count_warnings = counted_on(
            pair.whole_spine, reference, levels, steps=models.steps, detector=models.detector, config=config,
            images=images,
        )  # fmt: skip
    with _timed(seconds, "regions"):
        cut = cut_regions(volumes, levels, preprocessing=preprocessing, options=config.levels)
    with _timed(seconds, "normalize"):
        method = preprocessing["normalization"]
        regions = [normalize(part, method=method) for part in cut if isinstance(part, Region)]
    with _timed(seconds, "marrow"):
        beside = _beside(pair, volumes, levels, endplates, config, images)
    with _timed(seconds, "grade"):
        encoding = encode_regions(regions, classifier=classifier)
        output = network_output(encoding, classifier) if regions else None
        grades = _grades([region.level for region in regions], output, classifier, config, beside)
    trouble: tuple[str, ...] = ()
    if pictures is not None:
        with _timed(seconds, "pictures"):
            trouble = draw_case(pictures, volumes, levels, cut, regions, grades, classifier, encoding)
    return StudyResult(
        levels=_six_rows(volumes, levels, cut, grades, beside),
        numbering=levels.numbering,
        p_numbering=levels.p_numbering,
        transitional=levels.transitional,
        numbering_basis=levels.basis,
        warnings=(
            *_warnings(pair, volumes),
            *beside.warnings,
            *doubts,
            *count_warnings,
            *_beyond(volumes, levels, preprocessing["slices"]),
            *trouble,
        ),
        seconds=seconds,
        kept=_kept(regions, output, beside),
    )


StirRatios = dict[str, dict[str, float | None]]
"""By level: STIR_COLUMNS."""


class Beside(NamedTuple):
    """What is measured beside the endplates, by level (`measure`); nothing without a segmenter."""

    marrow: dict[str, MarrowMeasurements]
    features: dict[str, np.ndarray]
    stir: StirRatios | None
    warnings: tuple[str, ...] = ()


def _endplates(volumes: Volumes, levels: LevelSet, segmenter: "Segmenter | None") -> dict[str, Endplates]:
    """Both endplates of each disc by its level; nothing without a segmenter."""
    if segmenter is None:
        return {}
    return find_endplates(reference_volume(volumes), volumes["t1"], levels, segmenter=segmenter)


def _beside(
    pair: Pair, volumes: Volumes, levels: LevelSet, endplates: dict[str, Endplates], config: Config, images: Opens
) -> Beside:
    if not endplates:
        return Beside({}, {}, None)
    stir, warnings = stir_beside(pair, volumes, levels, config, images)
    return Beside(*measure(volumes, endplates, stir), warnings)


def _grades(
    names: list[str], output: NetworkOutput | None, classifier: Model[Any], config: Config, beside: Beside
) -> list[Grade]:
    """Grades of the levels named, those taken back that contradict what is measured."""
    if output is None:
        return []
    calibration = calibration_of(classifier.card, config.grading.alpha)
    grades = grade_output(names, output, calibration=calibration, features=beside.features)
    stir = beside.stir if "stir" in contrasts(classifier.card) else None
    ratios = {name: None if stir is None else stir.get(name, {}).values() for name in names}
    return [checked(grade, beside.marrow.get(grade.level), ratios[grade.level]) for grade in grades]


def _kept(regions: list[Region], output: NetworkOutput | None, beside: Beside) -> dict[str, LevelFeatures]:
    """What another calibration can grade the levels from."""
    if output is None:
        return {}
    measured = {name: one.numbers() for name, one in beside.marrow.items()}
    return kept_of([region.level for region in regions], output, beside.features, measured)


def measure(
    volumes: Volumes, endplates: dict[str, Endplates], stir: CanonicalVolume | None
) -> tuple[dict[str, MarrowMeasurements], dict[str, np.ndarray], StirRatios]:
    """The marrow beside the endplates of each level: its columns, the numbers that the classifier decides by, and STIR.

    The STIR is measured apart from T1 and T2, so that it cannot change a grade.
    """
    contrasts: Volumes = {name: volumes[name] for name in ("t1", "t2") if name in volumes}
    signals = read_marrow(contrasts, endplates)
    features = marrow_features(contrasts, endplates, signals=signals) if "t2" in contrasts else {}
    ratios = band_ratios(stir, endplates) if stir is not None else {}
    columns = {level: {f"stir_ratio_{side}": ratio for side, ratio in sides.items()} for level, sides in ratios.items()}
    return measure_marrow(contrasts, endplates, signals=signals), features, columns


def _against_header(
    volumes: Volumes, levels: LevelSet, endplates: dict[str, Endplates], models: Models, config: Config
) -> Rejected | None:
    """Why the pixels contradict the header: they lie the other way round, elsewhere, or show another contrast."""
    detector, score_min = models.detector, config.levels.score_min
    turned = check_orientation(levels, reference_volume(volumes), endplates, detector=detector, score_min=score_min)
    if turned or "t2" in volumes:
        return turned or shows_another_contrast(volumes, levels)
    apart = discs_apart(levels, volumes["stir"], volumes["t1"], detector=detector, options=config.levels)
    if not apart.agrees:
        return Rejected(Reason.STUDY_FRAMES_DIFFER, f"one FrameOfReferenceUID, but of T1 and STIR {apart}")
    return shows_another_contrast(volumes, levels)


def _six_rows(
    volumes: Volumes, levels: LevelSet, cut: list[Region | LevelResult], grades: list[Grade], beside: Beside
) -> tuple[LevelResult, ...]:
    """One result for each of LEVELS, in their order: graded, unreadable, or not found."""
    results: dict[str, LevelResult] = {part.level: part for part in cut if isinstance(part, LevelResult)}
    boxes = {box.level: box for box in levels.boxes}
    for grade in grades:
        row = _graded(volumes["t1"], reference_volume(volumes), boxes[grade.level], grade)
        results[grade.level] = replace(row, endplates=endplate_columns(grade.mc, beside.marrow.get(grade.level)))
    missing = Rejected(Reason.LEVEL_NOT_DETECTED)
    rows = (results.get(level, LevelResult(level, "not_found", missing)) for level in LEVELS)
    measured = {level: {**one.columns(), **(beside.stir or {}).get(level, {})} for level, one in beside.marrow.items()}
    on_t2 = "t2" in volumes
    return tuple(replace(row, marrow=measured.get(row.level, {}), on_t2=on_t2) for row in rows)


def _graded(t1: CanonicalVolume, t2: CanonicalVolume, box: LevelBox, grade: Grade) -> LevelResult:
    t1_box, t1_slice = box_on(t1.native, t2.native, box)
    corner0, corner1 = corners_mm(t2, box)
    return LevelResult(box.level, "graded", None, box, t1_box, t1_slice, corner0, corner1, grade)


def _warnings(pair: Pair, volumes: Volumes) -> tuple[str, ...]:
    """Each contrast's own warnings: of its headers, then of its images."""
    return tuple(
        f"{contrast_label(name)}: {warning}"
        for name, volume in volumes.items()
        for warning in (*pair.contrasts[name].warnings, *volume.warnings)
    )


def _beyond(volumes: Volumes, levels: LevelSet, slices: int) -> tuple[str, ...]:
    """A warning if the stack ends beside the midline, as half a stack does."""
    beyond = slices_beyond(reference_volume(volumes), levels, slices)
    name = contrast_label(reference_of(volumes))
    return (
        (f"{name}: {beyond} of {slices} graded slices lie beyond the stack; its last slice is repeated",)
        if beyond
        else ()
    )


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
