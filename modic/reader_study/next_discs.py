"""The discs to read next: `modic review COHORT --next 100`.

Half of the discs (`RANDOM_SHARE`) are drawn at random from every stratum, as `modic review --sample` draws them, for
estimates need them. The others are chosen, equally for three reasons, from as many patients as there are:

| reason    | chosen first                                                                                       |
|-----------|----------------------------------------------------------------------------------------------------|
| uncertain | the two most probable types are almost equally probable                                              |
| rare      | the type that the model gives least often in this cohort is most probable                            |
| unlike    | farthest from all discs that are read, in what the model and the marrow measured (`FEATURES`)         |

Discs of earlier samples are drawn no more. Chosen discs stand for themselves (weight 1); those drawn at random stand
for all discs that were neither chosen now nor in an earlier sample. With the discs of earlier samples, again each for
itself, that makes the whole cohort: `modic validate` weighs by it (modic/reader_study/weights.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modic.errors import UsageError
from modic.grades import P
from modic.reader_study.weights import Disc as Key
from modic.reader_study.weights import disc_of
from modic.records import LEVELS, MARROW_COLUMNS

RANDOM_SHARE = 0.5
FEATURES = (*P, "slice_disagreement", *MARROW_COLUMNS, "field_strength_t", "age_years")
"""Columns of a disc and its study; the level comes to them."""

Disc = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Earlier:
    """The discs of earlier samples of a cohort, and the names of these samples, oldest first."""

    samples: tuple[str, ...]
    discs: frozenset[Key]

    @classmethod
    def of(cls, cohort_root: Path) -> "Earlier":
        """All samples that `modic review` drew from the cohort."""
        paths = sorted((cohort_root / "validation" / "samples").glob("*.parquet"))
        rows = [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]
        return cls(tuple(path.stem for path in paths), frozenset(map(disc_of, rows)))


def draw_next(
    discs: list[Disc], earlier: Earlier, sample: int, draw: Callable[[list[Disc], int], list[Disc]]
) -> list[Disc]:
    """At most `sample` discs, as `modic.reader_study.sample.draw` returns them, with `drawn` and `after`.

    Args:
        discs: all that can be read.
        earlier: what is not drawn again.
        sample: how many.
        draw: draws so many of the given discs at random.

    Raises UsageError if all discs are in earlier samples, or as `draw` does.
    """
    of_earlier = [disc for disc in discs if disc_of(disc) in earlier.discs]
    left = sorted((disc for disc in discs if disc_of(disc) not in earlier.discs), key=disc_of)
    if not left:
        raise UsageError("every disc with images is in an earlier sample: there is none to read next")
    n_chosen = min(sample, len(left)) - round(RANDOM_SHARE * min(sample, len(left)))
    chosen = choose(left, of_earlier, n_chosen)
    keys = {disc_of(disc) for disc in chosen}
    rest = [disc for disc in left if disc_of(disc) not in keys]
    at_random = draw(rest, min(sample, len(left)) - n_chosen) if rest else []
    after = ",".join(earlier.samples)
    return [disc | {"after": after} for disc in [*chosen, *at_random]]


def choose(discs: list[Disc], read: list[Disc], n: int) -> list[Disc]:
    """The `n` discs that teach most, with their reason as `drawn`; each is a stratum of its reason, with weight 1."""
    p = np.array([[disc[column] for column in P] for disc in discs], float)
    patients = [disc["patient_key"] for disc in discs]
    ordered = np.sort(p, 1)
    rarest = int(p.mean(0).argmin())
    taken: dict[int, str] = {}
    for reason, score, share in (
        ("uncertain", ordered[:, -2] - ordered[:, -1], n // 3), ("rare", p[:, rarest], n // 3),
    ):  # fmt: skip
        _take(taken, reason, np.argsort(-score, kind="stable"), share, patients)
    _take_unlike(taken, _features(discs + read), len(discs), n - len(taken), patients)
    counts = {reason: list(taken.values()).count(reason) for reason in taken.values()}
    return [
        discs[index]
        | {"drawn": reason, "stratum": f"chosen: {reason}", "unit": "level", "weight": 1.0}
        | {"n_stratum": counts[reason], "n_drawn": counts[reason]}
        for index, reason in taken.items()
    ]


def _take(taken: dict[int, str], reason: str, order: np.ndarray, n: int, patients: list[str]) -> None:
    """Add the first `n` of `order` that are not taken; a second disc of a patient only if others do not suffice."""
    for again in (False, True):
        known = {patients[index] for index in taken}
        for index in map(int, order):
            if not n:
                return
            if index not in taken and (again or patients[index] not in known):
                taken[index] = reason
                known.add(patients[index])
                n -= 1


def _take_unlike(taken: dict[int, str], features: np.ndarray, n_discs: int, n: int, patients: list[str]) -> None:
    """Add `n` discs, each the farthest from those that are read or taken by then; the first of none, from the mean."""
    near = [*range(n_discs, len(features)), *taken]
    distance = np.full(n_discs, np.inf)
    for index in near:
        distance = np.minimum(distance, np.linalg.norm(features[:n_discs] - features[index], axis=1))
    if not near:
        distance = np.linalg.norm(features[:n_discs] - features[:n_discs].mean(0), axis=1)
    for _ in range(n):
        _take(taken, "unlike", np.argsort(-distance, kind="stable"), 1, patients)
        last = features[list(taken)[-1]]
        distance = np.minimum(distance, np.linalg.norm(features[:n_discs] - last, axis=1))


def _features(discs: list[Disc]) -> np.ndarray:
    """(n, features) of mean 0 and SD 1; what was not measured is the mean, and a feature of its own."""
    values = np.array([[disc.get(name) for name in FEATURES] for disc in discs], float)
    missing = np.isnan(values)
    known = np.where(missing, 0, values)
    mean = known.sum(0) / np.maximum((~missing).sum(0), 1)
    levels = np.array([[LEVELS.index(disc["level"])] for disc in discs], float)
    columns = np.hstack([np.where(missing, mean, values), levels, missing.any(1, keepdims=True)])
    return (columns - columns.mean(0)) / np.maximum(columns.std(0), 1e-9)
