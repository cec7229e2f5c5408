"""How sure the names are, and whether there is a vertebra more or fewer than usual: both from the same scores.

The detector sees the discs several times: on the slices around the midline, and on the midline slice at smaller scales.
Each of these looks gives every named disc a score for each of the six names. The mean over the looks is compared with
what could be true:

| hypothesis | names that the discs look like          | what it means                                           |
|------------|-----------------------------------------|---------------------------------------------------------|
| in order   | their own                               | a count from above and one from below agree             |
| moved      | their own, all moved by one or two      | the lowest is not the last mobile disc: wrong names     |
| more       | those above some place one further down | a vertebra more; a count from below stays right         |
| fewer      | those above some place one further up   | a vertebra fewer; a count from below stays right        |

So names counted from the last mobile disc are right unless *moved* holds, and a transitional vertebra is suspected
if *in order* does not. Nobody can tell from a lumbar image which of the two it is that is more or fewer: radiology
counts from the last mobile disc there and says so. On a series of the whole spine it can be told, and a count there may
give a reason of its own (count_from_c2.py).

What speaks for a transitional vertebra; the first row that holds is the reason. T4 asks only spines in which no disc is
skipped and distances are even (rules 4 and 5 of modic/levels/numbering.py):

| row | condition                                                       | reason                     | suspected |
|-----|-----------------------------------------------------------------|----------------------------|-----------|
| T1  | the sacrum is not in view                                       | sacrum not in view         | null      |
| T2  | L5/S1 was not found, though its place is in view                | sacralized look            | true      |
| T3  | something else looks like a disc, among the named ones or below | disc more                  | true      |
| T4  | names were counted from a disc below the one first called L5/S1 | count from above disagrees | true      |
| T5  | `transitional_min` is reached, and *moved* is the likeliest     | sacralized look            | true      |
| T6  | …, and *more* is                                                | disc more                  | true      |
| T7  | …, and *fewer* is                                               | disc fewer                 | true      |
| T8  | otherwise                                                       | none                       | false     |
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modic.levels.numbering import (
    ANOTHER_DISC,
    COUNTED_AGAIN,
    EPSILON,
    NO_L5S1,
    NO_SACRUM,
    Candidate,
    Names,
    nearest,
    spacing,
)
from modic.records import LEVELS, Transitional

MORE, FEWER = 0.06, 0.04  # odds of a vertebra more or fewer (transitional anatomy: 4-36 % by definition)
SEEN = {
    NO_L5S1: "sacralized look",  # T2
    ANOTHER_DISC: "disc more",  # T3
    COUNTED_AGAIN: "count from above disagrees",  # T4
}
SUREST = 1e-6  # no look is surer than 1 less this
NEXT_TO = 0.4  # of |log(distance / spacing)|: the next disc of the spine


@dataclass(frozen=True, slots=True)
class Certainty:
    """Probabilities of the four hypotheses; they sum to 1."""

    in_order: float
    moved: float
    more: float
    fewer: float

    @property
    def names_hold(self) -> float:
        """Probability that the names are right, counted from the last mobile disc above the sacrum."""
        return 1 - self.moved


@dataclass(frozen=True, slots=True)
class Calibration:
    """From the detector's card: how the detector's scores become probabilities."""

    temperature: float = 1.0  # discs of one patient do not err independently
    doubted: float = 0.5  # share of names that are right if `modic.levels.numbering.doubt` finds something
    intercept: float = 0.0  # log odds of a transitional vertebra, of those against *in order*
    slope: float = 1.0
    another_disc: float = 0.0  # added to these if something else looks like a disc

    @classmethod
    def of(cls, card: dict[str, Any]) -> "Calibration":
        """What the card says, or no calibration if it says nothing."""
        values = card.get("calibration", {}).get("numbering", {})
        return cls(**{name: float(value) for name, value in values.items()})

    def p_numbering(self, certainty: Certainty, doubts: str) -> float:
        """Probability that the names are right, counted from the last mobile disc."""
        return min(certainty.names_hold, self.doubted) if doubts else certainty.names_hold

    def transitional(self, certainty: Certainty, doubts: str, *, suspected_from: float) -> Transitional:
        """The table of this module's docstring."""
        if doubts == NO_SACRUM:
            return Transitional(None, None, "sacrum not in view")  # T1
        against = min(max(1 - certainty.in_order, SUREST), 1 - SUREST)
        odds = self.intercept + self.slope * np.log(against / (1 - against))
        odds += self.another_disc * (doubts in (ANOTHER_DISC, COUNTED_AGAIN))
        probability = float(1 / (1 + np.exp(-odds)))
        seen = SEEN.get(doubts)  # T2-T4
        if seen:
            return Transitional(True, max(probability, suspected_from), seen)
        if probability >= suspected_from:
            return Transitional(True, probability, _likeliest(certainty))  # T5-T7
        return Transitional(False, probability)  # T8


def _likeliest(certainty: Certainty) -> str:
    reasons = {"sacralized look": certainty.moved, "disc more": certainty.more, "disc fewer": certainty.fewer}
    return max(reasons, key=lambda reason: reasons[reason])


UNKNOWN = Certainty(0.0, 1.0, 0.0, 0.0)
"""Of a spine without a named disc."""


def weigh(
    candidates: list[Candidate], names: Names, looks: list[list[Candidate]], *, temperature: float = 1.0
) -> Certainty:
    """How probable each hypothesis is.

    Args:
        candidates, names: as of `modic.levels.numbering.name_sequence`, head to foot.
        looks: candidates of each further look, in the same pixels. A disc that a look does not show has no score in it.
        temperature: from the detector's card; discs of one patient do not err independently.
    """
    if all(name is None for name in names):
        return UNKNOWN
    discs, ranks = _discs(candidates, names)
    scores = np.mean([[_scores_of(candidates[i], look) for i in discs] for look in (candidates, *looks)], axis=0)
    places = np.unique(ranks)[:-1]
    totals = [
        _log_sum(scores, [(ranks, 1.0)], temperature),
        _log_sum(scores, [(ranks + by, 1.0) for by in (-2, -1, 1, 2)], temperature),
        _log_sum(scores, [(ranks + (ranks <= place), MORE / len(places)) for place in places], temperature),
        _log_sum(scores, [(ranks - (ranks <= place), FEWER / len(places)) for place in places], temperature),
    ]
    p = np.exp(np.array(totals) - max(totals))
    return Certainty(*(float(value) for value in p / p.sum()))


def _scores_of(disc: Candidate, look: list[Candidate]) -> np.ndarray:
    """(6,) what a look says of a disc; zeros if it does not show it."""
    seen = nearest(disc, look)
    return look[seen].scores if seen is not None else np.zeros(len(LEVELS))


def _log_sum(scores: np.ndarray, assignments: list[tuple[np.ndarray, float]], temperature: float) -> float:
    """Log of the summed probability of assignments of names (n,), each with its odds; `scores` (n, 6).

    A disc that gets none of the six names counts as one that is none of them.
    """
    log_p = np.log(np.clip(scores, EPSILON, 1))
    none = np.log(np.clip(1 - scores.sum(1), EPSILON, 1))
    total = -np.inf
    for given, odds in assignments:
        inside = (given >= 0) & (given < len(LEVELS))
        log_likelihood = np.where(inside, log_p[np.arange(len(given)), np.clip(given, 0, len(LEVELS) - 1)], none).sum()
        total = float(np.logaddexp(total, log_likelihood / temperature + np.log(odds)))
    return total


def _discs(candidates: list[Candidate], names: Names) -> tuple[list[int], np.ndarray]:
    """Indices of the named candidates and of the disc next above and below them, and their names (-1, 6: next to)."""
    named = [(i, k) for i, k in enumerate(names) if k is not None]
    discs, ranks = [i for i, _ in named], [k for _, k in named]
    distance = spacing([candidates[i] for i in discs])
    for edge, step in ((0, -1), (-1, 1)):
        i, k = named[edge]
        beyond = range(i - 1, -1, -1) if step < 0 else range(i + 1, len(candidates))
        for j in beyond:
            apart = float(np.linalg.norm(candidates[j].centre - candidates[i].centre))
            if abs(np.log(max(apart, 1e-6) / distance)) < NEXT_TO:
                discs.append(j)
                ranks.append(k + step)
                break
    return discs, np.array(ranks)
