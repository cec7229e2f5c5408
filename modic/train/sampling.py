"""Which examples a batch of training draws, and how often."""

from typing import TYPE_CHECKING

import numpy as np

from modic.errors import UsageError
from modic.train.augment.regions import Example
from modic.train.data.discs import Disc, part_of

if TYPE_CHECKING:
    pass


PAINTED_FAT = 0.15  # share of the type 2 examples that are painted
PHANTOM = 0.2  # share of the examples that come from the phantom where there are real ones too


def examples_by_part(discs: list[Disc]) -> dict[str, list[Example]]:
    """`train`, `stop`, `calibrate`, `test`: every disc as it is, and every real disc also with a painted type 1 lesion,
    after its own changes were taken away: real type 1 lies on degenerate discs too."""
    parts: dict[str, list[Example]] = {"train": [], "stop": [], "calibrate": [], "test": []}
    for disc in discs:
        part = parts[part_of(disc.patient)]
        part.append(Example(disc))
        if disc.real and disc.label in (0, 2):
            part.append(Example(disc, painted=1, healed=disc.label == 2))
    return parts


Pools = list[list[tuple[float, list[Example], np.ndarray]]]


def training_pools(examples: list[Example], classes: tuple[int, ...] = (0, 1, 2)) -> Pools:
    """For each of `classes` its groups: (share, examples, probability of each). Raises UsageError where one has none.

    Painted lesions go to degenerate discs more often, as real ones do, so that the disc does not give them away.
    """
    fat = [Example(e.disc, painted=2, healed=e.healed) for e in examples if e.painted]
    pools: Pools = []
    for label in classes:
        groups = [
            (1 - PHANTOM, [e for e in examples if e.label == label and e.real]),
            (PHANTOM, [e for e in examples if e.label == label and e.source == "phantom"]),
            (1 - PHANTOM, [e for e in examples if label == 1 and e.painted]),
            (PAINTED_FAT, fat if label == 2 else []),
        ]
        pools.append([(share, group, _weights(group)) for share, group in groups if group])
        if not pools[-1]:
            raise UsageError(f"the data hold no disc of Modic type {label} to train on; add phantom=N")
    return pools


def _weights(examples: list[Example]) -> np.ndarray:
    weights = np.array([max(e.disc.degeneration, 1) ** 2 if e.painted else 1 for e in examples], float)
    return weights / weights.sum()


def draw(pools: Pools, rng: np.random.Generator, n: int) -> list[Example]:
    """n examples: class by class in turn, then a group by its share."""
    drawn = []
    for i in rng.permutation(n):
        groups = pools[int(i) % len(pools)]
        shares = np.array([share for share, _, _ in groups])
        _, examples, weights = groups[rng.choice(len(groups), p=shares / shares.sum())]
        drawn.append(examples[rng.choice(len(examples), p=weights)])
    return drawn
