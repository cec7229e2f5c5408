"""Batches for a training, one after the other or made ahead by other processes: a GPU must not wait for the next.

Batch k is drawn with random numbers of the seed and k alone. So it is the same whoever makes it and however many
processes do, and a training that goes on needs to know no more than how many batches it has seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from modic.limits import cores

AHEAD = 4  # batches that each process keeps ready


@dataclass(frozen=True, eq=False)
class _Batches:
    """What torch's DataLoader reads: item k is batch k."""

    make: Callable[[np.random.Generator], Any]
    seed: int

    def __getitem__(self, k: int) -> Any:
        return self.make(np.random.default_rng([self.seed, k]))


def batches_from(
    make: Callable[[np.random.Generator], Any], first: int, last: int, *, seed: int, workers: int
) -> Iterator[Any]:
    """Batches `first` to `last` - 1 as `make` gives them; made when asked for, or ahead by `workers` processes.

    What `make` gives must hold arrays, not tensors, and be made without a GPU: processes are forked, so that they share
    the images of this one.
    """
    import torch
    from torch.utils.data import DataLoader

    batches: Any = _Batches(make, seed)
    if not workers:
        return (batches[k] for k in range(first, last))
    return iter(
        DataLoader(
            batches, batch_size=None, sampler=range(first, last), collate_fn=_as_it_is, num_workers=workers,
            prefetch_factor=AHEAD, worker_init_fn=_alone, multiprocessing_context="fork",
            generator=torch.Generator(),
        )
    )  # fmt: skip


def workers_for(device: str, asked: int | None) -> int:
    """How many processes make batches: what was asked for, else one a core beside a GPU and none on a CPU."""
    if asked is not None:
        return asked
    return max(cores() - 1, 1) if device == "cuda" else 0


def _as_it_is(batch: Any) -> Any:
    return batch


def _alone(_: int) -> None:
    import cv2

    cv2.setNumThreads(0)
