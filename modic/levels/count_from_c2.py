"""Counting discs from C2/C3 down on a sagittal series of the whole spine, the only image that tells their number.

What a count says of the names (`with_count`). It never moves them, and takes no doubt away:

| discs | the lumbar image   | outcome                                                                             |
|-------|--------------------|-------------------------------------------------------------------------------------|
| 23    |                    | `basis` is "count from C2"                                                          |
| other |                    | numbering uncertain                                                                 |
| other | shows the sacrum   | … and a transitional vertebra suspected: `DISAGREES`                                |
| none  |                    | as without the series                                                               |

The lumbar detector does not see thoracic discs. So the spine is followed upwards from the discs that the lumbar T2
named, vertebra by vertebra. A small classifier sees the image between the two ends of a step, and as far above it as
the dens and the clivus reach, and says whether that is a vertebra and whether its upper disc is C2/C3
(modic/models/step_classifier.py). Many paths are followed at once (`PATHS`). At each step the chance that C2/C3 is
reached is the mean over candidates, weighted by how likely they are as paths; the best of them alone would not do,
since among a thousand one always looks like an end. From 21 discs on (fewer is no anatomy), these chances give a
probability of every number.

Trained on the phantom alone (modic/train/count_from_c2.py): no real series of the whole spine with known numbers was at
hand. So a count is given only if it is sure, and if the path looks as paths of phantoms do (`SCORE_MIN`).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from modic.imaging.volume import CanonicalVolume
from modic.models.step_classifier import StepClassifier
from modic.records import LEVELS, LevelSet, Transitional

ORDINARY = 23  # discs from C2/C3 to L5/S1 of 24 presacral vertebrae, as about nine in ten people have
FEWEST, MOST = 21, 25
SURE = 0.7  # probability from which a count is given: of 84 localizers of phantoms 69 were, all rightly
SCORE_MIN = -0.2  # log-likelihood of the best path a step, at least: phantoms' had -0.03 and more, unlike images less
PATHS = 16
NAMED = len(LEVELS)  # discs of the lumbar image that must lie in the series: T12/L1 to L5/S1
HEIGHT = np.array(
    [1, 1, 1, 1, 1, 0.87, 0.82, 0.78, 0.75, 0.72, 0.7, 0.68, 0.66, 0.63, 0.6, 0.58, 0.56, 0.51, 0.48, *[0.47] * 7]
)
"""Distances between discs from L5/S1 upwards over that of lumbar ones (sums of the mean heights of bodies and discs:
Panjabi 1991; Gilad and Nissan 1986)."""
ALONG = np.arange(-0.3, 3.01, 0.1, dtype=np.float32)  # of the distance between the two discs, from the lower one
ACROSS = np.linspace(-0.7, 0.7, 11, dtype=np.float32)
CORE = (ALONG > -0.25) & (ALONG < 1.25)  # whose mean and SD the patch is normalized by
STEPS = np.geomspace(0.76, 1.28, 9)  # distances that are tried, over the expected
TURNS = np.deg2rad(np.linspace(-18, 18, 9))
STEP_SD, TURN_SD, PRIOR = 0.25, np.deg2rad(14), 0.3  # of log distance and of direction; weight beside the classifier
SAME = 0.12  # two paths at most may end in one cell of this size, of the lumbar distance
C2_MM = 2.6  # distances between discs above C2/C3 that must lie in the image: the body of C2, the dens, the clivus
BLUR_PX = 0.5
BASIS, DISAGREES = "count from C2", "count from C2 disagrees"


@dataclass(frozen=True, slots=True)
class Count:
    """Discs from C2/C3 to the last one above the sacrum."""

    discs: int
    probability: float  # 0-1


@dataclass(frozen=True, eq=False)
class Step:
    """What was tried from all paths to the next disc."""

    lower: np.ndarray  # (n, 2) of x, y, mm in the plane
    upper: np.ndarray
    features: np.ndarray
    log_p: np.ndarray  # (n, 3) of the classifier
    score: np.ndarray  # (n,) log-likelihood of the paths
    kept: np.ndarray  # indices of those that go on, best first
    discs: int  # of each path, its end included

    def end(self) -> float:
        """Chance that the path has reached C2/C3, 0-1."""
        weights = np.exp(self.score - self.score.max())
        chance = np.exp(self.log_p[:, 2] - np.logaddexp(self.log_p[:, 1], self.log_p[:, 2]))
        return float((weights * chance).sum() / weights.sum())


def count_discs(series: CanonicalVolume, named_mm: np.ndarray, classifier: StepClassifier) -> Count | None:
    """Discs from C2/C3 to the lowest of `named_mm`; None if that is not clear.

    Args:
        series: of the whole spine, any contrast.
        named_mm: (6, 3) LPS centres of the discs that were named on the lumbar image, head to foot.
    """
    if len(named_mm) != NAMED:
        return None
    places = series.to_index(named_mm)
    slice_ = round(float(places[:, 2].mean()))
    _, rows, columns = series.voxels.shape
    inside = np.all((places[:, :2] >= 0) & (places[:, :2] < (columns, rows)))
    if not inside or not 0 <= slice_ < len(series.voxels):
        return None
    image, pixel = scaled(series.voxels[slice_]), np.array(series.spacing_mm[:2])
    return decide(follow(image, pixel, (places[:, :2] * pixel)[::-1], classifier), pixel * (columns, rows))


def with_count(levels: LevelSet, count: Count, *, doubted: float, suspected_from: float) -> LevelSet:
    """`levels` with what a count says of them (table of the module).

    Args:
        doubted: share of names that are right where something is against them (modic.levels.certainty.Calibration).
        suspected_from: probability from which a transitional vertebra is suspected.
    """
    if count.discs == ORDINARY:
        return replace(levels, basis=BASIS)
    known = levels.transitional
    if known.suspected is not None:  # else the lowest named disc need not be the last one
        probability = max(known.probability or 0.0, count.probability, suspected_from)
        known = Transitional(True, probability, DISAGREES)
    return replace(levels, numbering="uncertain", p_numbering=min(levels.p_numbering, doubted), transitional=known)


def scaled(image: np.ndarray) -> np.ndarray:
    """(rows, columns) float32, slightly blurred, its bright parts at 1."""
    high = max(float(np.percentile(image, 99.5)), 1e-6)
    return gaussian_filter(np.asarray(image, np.float32) / high, BLUR_PX)


def decide(steps: list[Step], size_mm: np.ndarray) -> Count | None:
    """The most probable number, if it is sure, its path is no strange one, and the image holds C2 above it.

    `size_mm`: of the image, x and y.
    """
    going_on, chances = 1.0, {}
    for step in steps:
        if FEWEST <= step.discs <= MOST:
            end = step.end()
            chances[step.discs] = (going_on * end, step)
            going_on *= 1 - end
    discs = max(chances, key=lambda n: chances[n][0])
    probability, step = chances[discs]
    best = step.score.argmax()
    above = step.upper[best] + C2_MM * (step.upper[best] - step.lower[best])
    strange = step.score[best] < SCORE_MIN * (discs - NAMED)
    if probability < SURE or strange or not np.all((above > 0) & (above < size_mm)):
        return None
    return Count(discs, probability)


def follow(image: np.ndarray, pixel: np.ndarray, start: np.ndarray, classifier: StepClassifier) -> list[Step]:
    """Steps upwards from `start` (n, 2), mm, foot to head, until paths have `MOST` discs."""
    lumbar = spacing(start)
    paths, scores, steps = start[None], np.zeros(1), []
    for discs in range(len(start) + 1, MOST + 1):
        parents, step = _step(image, pixel, paths, scores, lumbar, discs, classifier)
        steps.append(step)
        paths = np.concatenate([paths[parents[step.kept]], step.upper[step.kept, None]], axis=1)
        scores = step.score[step.kept]
    return steps


def spacing(start: np.ndarray) -> float:
    """Median distance between neighbouring discs (n, 2)."""
    return float(np.median(np.linalg.norm(np.diff(start, axis=0), axis=1)))


def _step(
    image: np.ndarray,
    pixel: np.ndarray,
    paths: np.ndarray,
    scores: np.ndarray,
    lumbar: float,
    discs: int,
    classifier: StepClassifier,
) -> tuple[np.ndarray, Step]:
    """The parents of all candidates for the next disc, and the step."""
    last = paths[:, -1] - paths[:, -2]
    expected = np.linalg.norm(last, axis=1)[:, None, None] * HEIGHT[discs - 2] / HEIGHT[discs - 3]
    length = np.clip(expected * STEPS[None, :, None], 0.3 * lumbar, 1.3 * lumbar) + 0 * TURNS
    heading = np.arctan2(last[:, 0], -last[:, 1])[:, None, None] + 0 * STEPS[None, :, None] + TURNS
    moved = length[..., None] * np.stack([np.sin(heading), -np.cos(heading)], axis=-1)
    upper = (paths[:, -1][:, None, None] + moved).reshape(-1, 2)
    parents = np.repeat(np.arange(len(paths)), len(STEPS) * len(TURNS))
    lower = paths[parents, -1]
    seen = features(image, pixel, lower, upper, lumbar)
    log_p = classifier.log_p(seen)
    prior = -0.5 * ((np.log(length / expected) / STEP_SD) ** 2 + (TURNS / TURN_SD) ** 2)
    score = scores[parents] + PRIOR * prior.ravel() + np.logaddexp(log_p[:, 1], log_p[:, 2])
    return parents, Step(lower, upper, seen, log_p, score, _apart(upper, score, SAME * lumbar), discs)


def _apart(ends: np.ndarray, score: np.ndarray, cell_mm: float) -> np.ndarray:
    """Indices of the best `PATHS` ends, best first, at most two in one cell."""
    cells: dict[tuple[int, int], int] = {}
    kept: list[int] = []
    for index in np.argsort(-score, kind="stable"):
        cell = (int(ends[index, 0] // cell_mm), int(ends[index, 1] // cell_mm))
        cells[cell] = cells.get(cell, 0) + 1
        if cells[cell] <= 2:
            kept.append(int(index))
            if len(kept) == PATHS:
                break
    return np.array(kept)


def features(image: np.ndarray, pixel: np.ndarray, lower: np.ndarray, upper: np.ndarray, lumbar: float) -> np.ndarray:
    """(n, features) of steps from discs `lower` to `upper` (n, 2; mm): the normalized patch, length and contrast."""
    step = (upper - lower).astype(np.float32)
    across = np.stack([-step[:, 1], step[:, 0]], axis=1)
    points = (
        lower[:, None, None]
        + ALONG[None, :, None, None] * step[:, None, None]
        + ACROSS[None, None, :, None] * across[:, None, None]
    ) / pixel
    flat = points.reshape(-1, len(ACROSS), 2).astype(np.float32)
    parts = np.array_split(flat, max(1, -(-len(flat) // 30000)))  # remap takes 32767 rows at most
    sampled = [cv2.remap(image, part[..., 0], part[..., 1], cv2.INTER_LINEAR) for part in parts]
    patches = np.concatenate(sampled).reshape(len(lower), len(ALONG), len(ACROSS))
    mean, sd = patches[:, CORE].mean(axis=(1, 2)), patches[:, CORE].std(axis=(1, 2)) + 1e-3
    normalized = np.clip((patches - mean[:, None, None]) / sd[:, None, None], -3, 3).reshape(len(lower), -1)
    length = 3 * np.log(np.linalg.norm(step, axis=1) / lumbar)
    return np.c_[normalized, length, 0.3 * np.log(sd + 1e-3)].astype(np.float32)
