"""Batches for a training, one after the other or made ahead by other processes: a GPU must not wait for the next.

Batch k is drawn with random numbers of the seed and k alone. So it is the same whoever makes it and however many
processes do, and a training that goes on needs to know no more than how many batches it has seen.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from modic.resources import cores

Make = Callable[[np.random.Generator], Any]
AHEAD = 4  # batches for each process that are made and not yet asked for
_made_here: list[tuple[Make, int]] = []  # in a process that makes batches: what makes them, and the seed


def batches_from(make: Make, first: int, last: int, *, seed: int, workers: int) -> Iterator[Any]:
    """Batches `first` to `last` - 1 as `make` gives them; made when asked for, or ahead by `workers` processes.

    What `make` gives must hold arrays, not tensors, and be made without a GPU: processes are forked, so that they share
    the images of this one.
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
    """Of a process: fork brings `make` along, which could not be sent."""
    import cv2

    cv2.setNumThreads(0)
    _made_here[:] = [(make, seed)]


def _batch(k: int) -> Any:
    make, seed = _made_here[0]
    return make(np.random.default_rng([seed, k]))


def workers_for(device: str, asked: int | None) -> int:
    """How many processes make batches: what was asked for, else one a core beside a GPU and none on a CPU."""
    if asked is not None:
        return asked
    return max(cores() - 1, 1) if device == "cuda" else 0
