"""Images of many synthetic patients, made on all cores."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from modic.resources import cores

FEW = 20  # patients for which starting processes would take longer than making their images
AT_A_TIME = 5  # patients that a process gets at a time

T = TypeVar("T")


def on_all_cores(image: Callable[[int], T], seeds: Sequence[int]) -> Iterator[T]:
    """`image(seed)` for each seed, in order. `image` must be a function of a module, or a partial of one (pickled)."""
    if len(seeds) <= FEW:
        yield from map(image, seeds)
        return
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(image, seeds, chunksize=AT_A_TIME)
