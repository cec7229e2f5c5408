"""Many synthetic patients, imaged on all cores."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from modic.resources import cores

FEW = 20  # patients that are sooner imaged than processes are started
AT_A_TIME = 5  # patients that a process is given

T = TypeVar("T")


def on_all_cores(image: Callable[[int], T], seeds: Sequence[int]) -> Iterator[T]:
    """`image` of each seed, in their order. It must be a function of a module, or a partial of one."""
    if len(seeds) <= FEW:
        yield from map(image, seeds)
        return
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(image, seeds, chunksize=AT_A_TIME)
