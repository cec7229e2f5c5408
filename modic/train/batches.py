"""Batches for a training, made one after the other or ahead by other processes, so that a GPU never waits.

The random numbers of batch k depend on the seed and k alone. So a batch is the same in whatever process it is made, and
a training that is resumed needs to know only how many batches it has trained on.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from modic.resources import cores

Make = Callable[[np.random.Generator], Any]
"""Makes a batch from a random generator."""
AHEAD = 4  # batches for each process that are made before they are needed
_maker: list[tuple[Make, int]] = []
"""In a process that makes batches: the function that makes them, and the seed."""


def batches_from(make: Make, first: int, last: int, *, seed: int, workers: int) -> Iterator[Any]:
    """Batches `first` to `last` - 1 of `make`, made when they are needed, or ahead by `workers` processes.

    `make` must return arrays, not tensors, and use no GPU: the processes are forked, so that they share the images of
    this one.
    """
    if not workers:
        yield from (make(np.random.default_rng([seed, k])) for k in range(first, last))
        return
    pool = ProcessPoolExecutor(workers, get_context("fork"), initializer=_begin, initargs=(make, seed))
    waiting: deque[Future[Any]] = deque()
    try:
        for k in range(first, last):
            waiting.append(pool.submit(_batch, k))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(make: Make, seed: int) -> None:
    """Start a process: fork brings `make` along, which could not be pickled."""
    import cv2

    cv2.setNumThreads(0)
    _maker[:] = [(make, seed)]


def _batch(k: int) -> Any:
    make, seed = _maker[0]
    return make(np.random.default_rng([seed, k]))


def workers_for(device: str, asked: int | None) -> int:
    """The number of processes that make batches: as asked, else one for each core beside a GPU, none on a CPU."""
    if asked is not None:
        return asked
    return max(cores() - 1, 1) if device == "cuda" else 0
