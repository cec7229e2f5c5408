"""Volume → the six lumbar levels, each at most once, named in anatomical order.

The detector (Faster R-CNN) takes T2 slices one by one and proposes boxes with a score for every level name. First it
takes slices spread over the stack: the midline is where it finds discs and the canal behind them is bright
(cerebrospinal fluid on T2), wherever in the stack that is. Then boxes of the slices around the midline that are the
same disc become one candidate, and candidates are named once for the whole spine (modic/levels/numbering.py). Last, it
takes the slice of the midline at smaller scales, as a test of whether the names hold and whether a vertebra may be more
or fewer (modic/levels/certainty.py).

Pixels that are not square are made so before the detector sees them: it was trained on square ones, and names the
discs of a squeezed spine by shapes that they do not have.
"""

from dataclasses import dataclass

import numpy as np

from modic.config import LevelOptions
from modic.imaging.volume import CanonicalVolume, slices_around, square_pixels
from modic.levels.certainty import Calibration, weigh
from modic.levels.detect import Detections, detect, merge
from modic.levels.midline import look_for_midline, spread_slices
from modic.levels.numbering import (
    COUNTED_AGAIN,
    NO_L5S1,
    NO_SACRUM,
    Candidate,
    Names,
    count_from_below,
    doubt,
    lower_part,
    name_sequence,
)
from modic.models.weights import Model
from modic.records import LEVELS, LevelBox, LevelSet

Box = tuple[float, float, float, float]
FARTHER = (0.92, 0.85, 0.78, 0.7)  # scales at which the midline slice is shown again, to test the names


@dataclass(frozen=True, eq=False)
class Discs:
    """What the slices around the midline show, head to foot, and the names that follow."""

    candidates: list[Candidate]
    names: Names
    counted_again: bool = False  # from a disc below the one that was first called L5/S1

    def doubt(self, last_row: float) -> str:
        """Why the numbering is uncertain whatever the scores say; empty if nothing is against it."""
        return doubt(self.candidates, self.names, last_row) or (COUNTED_AGAIN if self.counted_again else "")

    def score(self, candidate: Candidate, name: int) -> float:
        """The detector's score of a disc under its name, or under any if the names are not those it was given."""
        return float(candidate.scores.max() if self.counted_again else candidate.scores[name])


def find_levels(t2: CanonicalVolume, *, detector: Model, options: LevelOptions) -> LevelSet:
    """Detect and name the levels of a sagittal T2 volume. Boxes come back in native pixels (`LevelBox`)."""
    t2 = square_pixels(t2)
    midline, discs, looks = _find_discs(t2, detector, options)
    calibration = Calibration.of(detector.card)
    certainty = weigh(discs.candidates, discs.names, looks, temperature=calibration.temperature)
    doubts = discs.doubt(_last_row(t2.voxels[midline]))
    p_numbering = calibration.p_numbering(certainty, doubts)
    boxes = tuple(
        LevelBox(LEVELS[name], *_to_native(c.box, midline, t2), discs.score(c, name))
        for name, c in zip(discs.names, discs.candidates, strict=True)
        if name is not None
    )
    sure = p_numbering >= options.numbering_min and not doubts
    return LevelSet(
        boxes,
        "ok" if sure else "uncertain",
        p_numbering,
        calibration.transitional(certainty, doubts, suspected_from=options.transitional_min),
        "looks of the discs" if doubts in (NO_L5S1, NO_SACRUM) else "sacrum",
    )


def _find_discs(
    t2: CanonicalVolume, detector: Model, options: LevelOptions
) -> tuple[int, Discs, list[list[Candidate]]]:
    """The midline; the named discs of the slices around it, counted again from below if a disc is left there; and what
    the midline slice shows from afar."""
    voxels, slice_mm = t2.voxels, t2.spacing_mm[2]
    spread = spread_slices(len(voxels), slice_mm)
    seen: dict[int, Detections] = {}

    def look(slices: list[int]) -> dict[int, Detections]:
        wanted = slices if detector.device == "cpu" else spread  # to a GPU all of them are no more than a few
        missing = [index for index in wanted if index not in seen]
        seen.update(zip(missing, detect(voxels[missing], detector), strict=True))
        return {index: seen[index] for index in slices}

    midline, _ = look_for_midline(voxels, spread, look)
    around = slices_around(midline, options.slices, len(voxels), slice_mm)
    others, margins = [index for index in around if index not in seen], _margins(voxels[midline])
    found = detect([*voxels[others], *_shown_from_afar(voxels[midline], margins)], detector)
    seen.update(zip(others, found, strict=False))
    looks = _candidates_from_afar(found[len(others) :], margins, options.score_min)
    candidates = merge([seen[index] for index in around], options.score_min)
    names = name_sequence(candidates)
    if (cut := lower_part(candidates, names)) is not None:
        lower = _look_below(voxels[around], int(cut), detector, options.score_min)
        if counted := count_from_below(candidates, names, lower):
            return midline, Discs(candidates, counted, counted_again=True), looks
    return midline, Discs(candidates, names), looks


def _look_below(images: np.ndarray, cut: int, detector: Model, score_min: float) -> list[Candidate]:
    """Candidates of slices (n, rows, columns) of which the detector is not shown the rows above `cut`.

    Boxes are in pixels of the whole slices.
    """
    found = detect(images[:, cut:], detector)
    return merge([(boxes + np.array([0, cut, 0, cut]), *rest) for boxes, *rest in found], score_min)


def _margins(image: np.ndarray) -> list[int]:
    """Pixels around a slice (rows, columns) that make it fill only a part of the detector's image, for `FARTHER`."""
    return [round((1 / share - 1) / 2 * max(image.shape)) for share in FARTHER]


def _shown_from_afar(image: np.ndarray, margins: list[int]) -> list[np.ndarray]:
    return [np.pad(image, margin, constant_values=image.min()) for margin in margins]


def _candidates_from_afar(found: list[Detections], margins: list[int], score_min: float) -> list[list[Candidate]]:
    """Candidates of each of `_shown_from_afar`, with boxes in the slice's pixels."""
    each = zip(margins, found, strict=True)
    return [merge([(boxes - margin, scores, names)], score_min) for margin, (boxes, scores, names) in each]


def _last_row(image: np.ndarray) -> float:
    """Index of the lowest row of (rows, columns) that is not padding."""
    return float(np.flatnonzero(image.max(1) > image.min())[-1]) if image.min() < image.max() else 0.0


def _to_native(found: np.ndarray, slice_: int, t2: CanonicalVolume) -> tuple[Box, int]:
    """A box (4,) on a slice of `t2`, in native pixels, and its native slice."""
    x0, y0, x1, y1 = found
    corners = t2.native.to_index(t2.to_mm(np.array([[x0, y0, slice_], [x1, y1, slice_]])))
    (u0, v0), (u1, v1) = corners[:, :2].min(0), corners[:, :2].max(0)
    return (float(u0), float(v0), float(u1), float(v1)), round(float(corners[0, 2]))
