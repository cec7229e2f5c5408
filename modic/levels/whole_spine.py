"""A series of the whole spine beside the lumbar ones: discs are counted on it from C2 (count_from_c2.py)."""

from dataclasses import replace

import numpy as np

from modic.archive.source import Opens
from modic.archive.sources import Opener
from modic.config import Config
from modic.errors import Rejected, where
from modic.imaging.load import load_volume
from modic.imaging.regions import corners_mm
from modic.imaging.volume import CanonicalVolume
from modic.levels.certainty import Calibration
from modic.levels.count_from_c2 import ORDINARY, count_discs, with_count
from modic.models.step_classifier import StepClassifier
from modic.models.weights import Model
from modic.records import LevelSet, Series

NOT_COUNTED = "whole spine not counted: {}"
COUNTED = f"whole spine: {{}} discs from C2/C3 to the one named L5/S1, {ORDINARY} are usual; probability {{:.2f}}"


def counted_on(
    whole_spine: Series | None, t2: CanonicalVolume, levels: LevelSet, *, steps: StepClassifier | None,
    detector: Model, config: Config, images: Opens | None = None,
) -> tuple[LevelSet, tuple[str, ...]]:  # fmt: skip
    """`levels` (boxes in native pixels of `t2`) with what a count says of them, and what was counted or why not.

    The whole spine decides no grade: whatever is wrong with it costs a warning.
    """
    if whole_spine is None or steps is None:
        return levels, ()
    readable, options = replace(whole_spine, rejected=None), replace(config.identify, min_slices=2)
    try:
        series = load_volume(readable, options=options, source=images or Opener(config.archive))
        if isinstance(series, Rejected):
            return levels, (NOT_COUNTED.format(f"{series.reason} {series.detail}".rstrip()),)
        named = np.array([np.mean(corners_mm(t2, box), axis=0) for box in levels.boxes])
        count = count_discs(series, named, steps)
    except Exception as error:  # noqa: BLE001  (the grades stand without it)
        return levels, (NOT_COUNTED.format(where(error)),)
    if count is None:
        return levels, (NOT_COUNTED.format("not all six discs lie in it, or they cannot be followed up to C2"),)
    doubted = Calibration.of(detector.card).doubted
    weighed = with_count(levels, count, doubted=doubted, suspected_from=config.levels.transitional_min)
    return weighed, (COUNTED.format(count.discs, count.probability),)
