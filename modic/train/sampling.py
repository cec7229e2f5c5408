"""Which examples a batch of training draws, and how often."""

import numpy as np

from modic.errors import UsageError
from modic.grades import CLASSES
from modic.train.augment.regions import Example
from modic.train.data.discs import Disc
from modic.train.data.split import PARTS, part_of

PAINTED_FAT = 0.15  # share of the type 2 examples that are painted
PHANTOM = 0.2  # share of the examples that come from the phantom if there are discs of patients too

Pool = list[tuple[float, list[Example], np.ndarray]]
"""Groups of examples of one Modic type: (share of the group, its examples, probability of each of them)."""


def examples_by_part(discs: list[Disc]) -> dict[str, list[Example]]:
    """Examples by part of the split (`PARTS`): every disc, and every real one also with a painted type 1.

    A disc's own changes are taken away first: real type 1 lies on degenerate discs too.
    """
    parts: dict[str, list[Example]] = {name: [] for name in PARTS}
    for disc in discs:
        part = parts[part_of(disc.patient)]
        part.append(Example(disc))
        if disc.real and disc.label in (0, 2):
            part.append(Example(disc, painted=1, healed=disc.label == 2))
    return parts


def training_pools(examples: list[Example], classes: tuple[int, ...] = tuple(range(CLASSES))) -> list[Pool]:
    """One pool for each Modic type of `classes`. Raises UsageError for a type without an example.

    Lesions are painted more often into degenerate discs, where real ones are more frequent too, so that the disc does
    not give them away.
    """
    fat = [Example(example.disc, painted=2, healed=example.healed) for example in examples if example.painted]
    pools: list[Pool] = []
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
    """Probability of each example (n,): painted ones by the square of their Pfirrmann grade."""
    weights = np.array([max(e.disc.degeneration, 1) ** 2 if e.painted else 1 for e in examples], float)
    return weights / weights.sum()


def draw(pools: list[Pool], rng: np.random.Generator, n: int) -> list[Example]:
    """Draw n examples: the Modic types in turn, then a group by its share, then an example by its probability."""
    drawn = []
    for i in rng.permutation(n):
        groups = pools[int(i) % len(pools)]
        shares = np.array([share for share, _, _ in groups])
        _, examples, weights = groups[rng.choice(len(groups), p=shares / shares.sum())]
        drawn.append(examples[rng.choice(len(examples), p=weights)])
    return drawn
