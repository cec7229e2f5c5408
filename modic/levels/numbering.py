"""Candidates from head to foot → names: all six decided at once.

A lumbar sagittal slice seldom shows a vertebra whose number is certain, so names are counted from what the discs look
like, all together: `name_sequence` maximizes over every assignment that keeps the anatomical order. A level that was
not seen stays missing and shifts no neighbour. Distances between neighbouring discs are even (SPIDER, 63 slices of
training patients: SD of log(distance / median) 0.05), so a gap of two means that one was overlooked.

The names mean a count from below: L5/S1 is the last mobile disc above the sacrum, as radiology counts without a
whole-spine localizer. How sure they are in that sense, and whether a vertebra may be more or fewer, are two questions
(modic/levels/certainty.py).

If a disc is left below the one called L5/S1, the lower part is looked at alone, and may count from there
(`count_from_below`).

The first row that holds decides:

| rule | condition                                                                | numbering                 |
|------|--------------------------------------------------------------------------|---------------------------|
| 1    | the image ends less than `SACRUM_BELOW` distances below L5/S1's place    | uncertain: no sacrum      |
| 2    | L5/S1 was not found                                                      | uncertain                 |
| 3    | something else that looks like a disc lies among or below the named ones | uncertain: a disc more    |
| 4    | a level between two named ones was not found                             | uncertain: a disc skipped |
| 5    | a distance is over `FARTHEST` or under `NEAREST` of the median distance  | uncertain: odd spacing    |
| 6    | the names were counted from a disc below the one first called L5/S1      | uncertain: last disc open |
| 7    | the lowest disc may not be the last mobile one (`numbering_min`)         | uncertain                 |
| 8    | otherwise                                                                | ok                        |
"""

from dataclasses import dataclass

import numpy as np

from modic.records import LEVELS

SPACING_SD = 0.12  # of log(distance / expected): twice SPIDER's, for collapsed discs, fractures and boxes that are off
MISSED = np.log(0.05)  # a disc between two found ones was overlooked
EPSILON = 0.01  # floor of a class score: a name the detector never proposed stays possible
LOOKS_LIKE_A_DISC = 0.3  # sum of a candidate's class scores
COUNTED = 4  # discs that the look at the lower part shows
NEAREST, FARTHEST = 0.55, 1.75  # of the median distance; collapsed vertebrae of SPIDER reach 0.62 and 1.4
SACRUM_BELOW = 0.75  # distances between discs: S1 is about as high as a disc is from its neighbour
NO_L5S1, NO_SACRUM, ANOTHER_DISC = "L5/S1 not found", "the image ends above the sacrum", "another disc"
SKIPPED, ODD_SPACING, COUNTED_AGAIN = "a disc skipped", "odd spacing", "counted again from below"

Names = list[int | None]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One disc-like thing: its box (canonical T2 pixels of the midline) and a mean score for each of the six names."""

    box: np.ndarray  # (4,) x0, y0, x1, y1
    scores: np.ndarray  # (6,) mean over slices, 0-1

    @property
    def centre(self) -> np.ndarray:
        """(2,) x, y."""
        return (self.box[:2] + self.box[2:]) / 2


def name_sequence(candidates: list[Candidate]) -> Names:
    """The most probable names (index in LEVELS, or None) of candidates ordered head to foot.

    Maximizes the sum of log class scores, log probability that a skipped candidate is no graded disc, and the log
    density of the distances (`_steps`). Every name is used at most once and names descend by construction.
    """
    n = len(candidates)
    if n == 0:
        return []
    log_p = np.log(np.clip([c.scores for c in candidates], EPSILON, 1))
    skip = np.log(np.clip([1 - min(c.scores.sum(), 1 - EPSILON) for c in candidates], EPSILON, 1))
    skipped = np.concatenate([[0], np.cumsum(skip)])  # skipped[j] - skipped[i]: candidates i..j-1 are none
    steps = _steps(candidates)
    best = log_p + skipped[:n, None]  # (n, 6): best score of a sequence that ends with candidate j named k
    back = np.full((n, len(LEVELS), 2), -1)
    for j in range(1, n):
        for k in range(1, len(LEVELS)):
            from_ = best[:j, :k] + (skipped[j] - skipped[1 : j + 1])[:, None] + log_p[j, k] + steps[:j, j, k - 1 :: -1]
            i, m = np.unravel_index(np.argmax(from_), from_.shape)
            if from_[i, m] > best[j, k]:
                best[j, k], back[j, k] = from_[i, m], (i, m)
    total = best + (skipped[n] - skipped[1:])[:, None]
    j, k = (int(v) for v in np.unravel_index(np.argmax(total), total.shape))
    names: Names = [None] * n
    while j >= 0:
        names[j] = k
        j, k = (int(v) for v in back[j, k])
    return names


def left_below(candidates: list[Candidate], names: Names) -> int | None:
    """Index of the lowest candidate if it looks like a disc, lies below all named ones and has no name itself."""
    likely = [i for i, c in enumerate(candidates) if c.scores.sum() >= LOOKS_LIKE_A_DISC]
    named = [i for i, name in enumerate(names) if name is not None]
    return likely[-1] if likely and named and likely[-1] > named[-1] else None


def lower_part(candidates: list[Candidate], names: Names) -> float | None:
    """The row above the lowest `COUNTED` candidates that look like discs.

    None if no disc is `left_below`, or if there are no more than these.
    """
    if left_below(candidates, names) is None:
        return None
    rows = [c.centre[1] for c in candidates if c.scores.sum() >= LOOKS_LIKE_A_DISC]
    return float(rows[-COUNTED - 1] + rows[-COUNTED]) / 2 if len(rows) > COUNTED else None


def count_from_below(candidates: list[Candidate], names: Names, lower: list[Candidate]) -> Names | None:
    """Names counted from the disc that `left_below` found, if a look at the lower part alone calls that one L5/S1.

    Looking at the whole spine, upper discs that look like the names below theirs can outvote the sacrum (a steep one,
    or a vertebra more). Without them in sight the same network reads the lower end as it is: of 46 slices of SPIDER
    patients apart from training, bent or with a vertebra more or less, in which a disc was left below, 5 were named
    right before this count and 43 after it. In none of 259 slices as they are was a disc left below.

    Args:
        candidates, names: of the whole image, as of `name_sequence`.
        lower: candidates of the lower part alone, in the same pixels.

    Returns:
        Names for `candidates`, all moved up by one and L5/S1 for the one left below; None if `lower` does not
        agree.
    """
    left = left_below(candidates, names)
    if left is None:
        return None
    moved: Names = [name - 1 if name else None for name in names]  # T12/L1 is none of the six any more
    moved[left] = len(LEVELS) - 1
    seen = name_sequence(lower)
    pairs = [(name, moved[i]) for c, name in zip(lower, seen, strict=True) if (i := nearest(c, candidates)) is not None]
    agree = all(name is None or name == ours for name, ours in pairs)
    return moved if agree and (len(LEVELS) - 1, len(LEVELS) - 1) in pairs else None


def nearest(candidate: Candidate, candidates: list[Candidate]) -> int | None:
    """Index of that of `candidates` nearest to `candidate` whose centre lies in its box; None if none does."""
    x0, y0, x1, y1 = candidate.box
    inside = [i for i, c in enumerate(candidates) if x0 <= c.centre[0] <= x1 and y0 <= c.centre[1] <= y1]
    return min(inside, key=lambda i: float(np.linalg.norm(candidates[i].centre - candidate.centre)), default=None)


def _steps(candidates: list[Candidate]) -> np.ndarray:
    """(n, n, 5): log density of the distance between candidates i and j if their names are 1..5 levels apart.

    The expected distance is the median between neighbours that look like discs; without two of those, all are equal.
    """
    centres = np.array([c.centre for c in candidates])
    likely = [c for c in candidates if c.scores.sum() >= LOOKS_LIKE_A_DISC]
    apart = np.arange(1, len(LEVELS))
    if len(likely) < 2:
        return np.zeros((len(centres), len(centres), len(apart)))
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)[..., None]
    ratio = np.maximum(distance, 1e-3) / (apart * spacing(likely))
    return -0.5 * (np.log(ratio) / SPACING_SD) ** 2 + (apart - 1) * MISSED


def spacing(named: list[Candidate]) -> float:
    """Median distance between neighbours, px; of a single disc its width, which is about the same."""
    if len(named) < 2:
        return max(float(named[0].box[2] - named[0].box[0]), 1e-6)
    centres = np.array([c.centre for c in named])
    return max(float(np.median(np.linalg.norm(np.diff(centres, axis=0), axis=1))), 1e-6)


def doubt(candidates: list[Candidate], names: Names, last_row: float) -> str:
    """Why the numbering is uncertain whatever the scores say (rules 1 to 5 of the table), or an empty string.

    Args:
        candidates, names: as of `name_sequence`, head to foot.
        last_row: of the image, in the candidates' pixels; rows of padding do not count.
    """
    if not sacrum_in_view(candidates, names, last_row):
        return NO_SACRUM
    if len(LEVELS) - 1 not in names:
        return NO_L5S1
    if another_disc(candidates, names):
        return ANOTHER_DISC
    levels = [name for name in names if name is not None]
    if len(levels) <= levels[-1] - levels[0]:
        return SKIPPED
    return "" if _evenly_spaced(candidates, names) else ODD_SPACING


def sacrum_in_view(candidates: list[Candidate], names: Names, last_row: float) -> bool:
    """Whether the image goes on below L5/S1, or the place where it must be, by about the height of S1."""
    named = [(c, name) for c, name in zip(candidates, names, strict=True) if name is not None]
    if not named:
        return False
    lowest, name = named[-1]
    missing = len(LEVELS) - 1 - name
    return last_row - lowest.centre[1] >= (SACRUM_BELOW + missing) * spacing([c for c, _ in named])


def another_disc(candidates: list[Candidate], names: Names) -> bool:
    """Whether something that looks like a disc, and is not one of the named ones twice, lies among or below them."""
    named = [c for c, name in zip(candidates, names, strict=True) if name is not None]
    for candidate, name in zip(candidates, names, strict=True):
        if name is None and candidate.scores.sum() >= LOOKS_LIKE_A_DISC:
            apart = min(float(np.linalg.norm(candidate.centre - one.centre)) for one in named)
            if candidate.centre[1] > named[0].centre[1] and apart > 0.5 * spacing(named):
                return True
    return False


def _evenly_spaced(candidates: list[Candidate], names: Names) -> bool:
    centres = np.array([c.centre for c, name in zip(candidates, names, strict=True) if name is not None])
    distances = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    ratios = distances / max(float(np.median(distances)), 1e-6) if len(distances) else np.ones(1)
    return bool(ratios.min() > NEAREST and ratios.max() < FARTHEST)
