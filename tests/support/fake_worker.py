"""Preloaded by Dask workers in tests: grading without networks, and patients whose name says what happens to them.

Its files are loaded as ever. Then `kill…` kills the worker, `segv…` makes native code fault, `eat…` takes all memory it
can get (up to 3 GiB), `hang…` never ends, `freeze…` neither, while nothing else in its process can run, `bug…` raises,
`lose…` loses the GPU for its process, in which nothing can be graded any more, `last…` kills the worker once its shard
is written, `slow…` takes a second, `sleep-2.5-…` 2.5 s; others are graded at once.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from modic.config import Config
from modic.errors import Rejected
from modic.imaging.in_place import load_volumes
from modic.models import weights
from modic.records import LEVELS, Grade, LevelBox, LevelResult, Pair, StudyResult
from modic.run import worker
from modic.run.ledger import write_output

CARD = {"preprocessing": {"normalization": "standardize"}}
MODEL = SimpleNamespace(card=CARD, id="0123456789ab", device="cpu")
LOST: list[str] = []


def dask_setup(dask_worker: Any) -> None:
    """Called by Dask when a worker starts."""
    without_networks()


def without_networks() -> None:
    """Replace the networks in this process."""
    worker.load_models = lambda *_: weights.Models(MODEL, MODEL)  # type: ignore[assignment,arg-type]
    worker.grade_study = grade_study  # type: ignore[assignment]
    weights.Models.usable = lambda _: not LOST  # type: ignore[method-assign]


def grade_study(pair: Pair, *, config: Config, **_: Any) -> StudyResult:
    """Six graded levels, or trouble."""
    volumes = load_volumes(pair, config)
    if isinstance(volumes, Rejected):
        return StudyResult(rejected=volumes)
    for name, does in DOES.items():
        if pair.patient_id.startswith(name):
            does(pair)
    if LOST:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return StudyResult(tuple(map(level, LEVELS)), "ok", 0.97, seconds={"levels": 0.1})


def eat(_: Pair) -> None:
    """Take memory, and say where there was no limit."""
    eaten = [b"x" * 2**26 for _ in range(48)]
    raise ValueError(f"no limit at {len(eaten)} pieces")


def bug(pair: Pair) -> None:
    """Raise what must not be repeated."""
    raise ValueError(f"the secret of {pair.patient_id} in {pair.t1.images[0].path}")


def write_and_die(*arguments: Any) -> None:
    """Write a shard and say it to nobody."""
    write_output(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)


DOES: dict[str, Callable[[Pair], object]] = {
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda _: time.sleep(1000),
    "segv": lambda _: ctypes.string_at(0),
    "freeze": lambda _: ctypes.PyDLL(None).sleep(1000),  # with Python's lock held
    "eat": eat,
    "bug": bug,
    "lose": lambda pair: LOST.append(pair.patient_id),
    "last": lambda _: setattr(worker.ledger, "write_output", write_and_die),
    "slow": lambda _: time.sleep(1),
    "sleep": lambda pair: time.sleep(float(pair.patient_id.split("-")[1])),
}


def level(name: str) -> LevelResult:
    """A certain MC2."""
    box = LevelBox(name, (1.0, 2.0, 5.0, 6.0), 5, 0.9)
    grade = Grade(name, (0.1, 0.1, 0.8), (2,), 2, False, ((0.2, 0.2, 0.6), (0.05, 0.05, 0.9)))
    z = -30.0 * LEVELS.index(name)
    return LevelResult(name, "graded", None, box, (1.0, 2.0, 5.0, 6.0), 5, (0.0, 1.0, z), (0.0, 5.0, z - 10), grade)
