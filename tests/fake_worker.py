"""Preloaded by Dask workers in tests: grading without networks, and patients whose name says what happens to them.

Its files are loaded as ever. Then `kill…` kills the worker, `segv…` makes native code fault, `eat…` takes all memory it
can get (up to 3 GiB), `hang…` never ends, `freeze…` neither, while nothing else in its process can run, `bug…` raises,
`slow…` takes a second, `sleep-2.5-…` 2.5 s; others are graded at once.
"""

import ctypes
import os
import signal
import time
from types import SimpleNamespace
from typing import Any

from modic import pipeline
from modic.config import Config
from modic.errors import Rejected
from modic.records import LEVELS, Grade, LevelBox, LevelResult, Pair, StudyResult

CARD = {"preprocessing": {"normalization": "standardize"}}
MODEL = SimpleNamespace(card=CARD, id="0123456789ab", device="cpu")


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts."""
    without_networks()


def without_networks() -> None:
    """Replace the networks in this process."""
    pipeline.load_models = lambda *_: pipeline.Models(MODEL, MODEL)  # type: ignore[assignment,arg-type]
    pipeline.grade_study = grade_study  # type: ignore[assignment]


def grade_study(pair: Pair, *, config: Config, **_: Any) -> StudyResult:
    """Six graded levels, or trouble."""
    volumes = pipeline._load(pair, config)
    if isinstance(volumes, Rejected):
        return StudyResult(rejected=volumes)
    if pair.patient_id.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if pair.patient_id.startswith("hang"):
        time.sleep(1000)
    if pair.patient_id.startswith("segv"):
        ctypes.string_at(0)
    if pair.patient_id.startswith("freeze"):
        ctypes.PyDLL(None).sleep(1000)  # with Python's lock held
    if pair.patient_id.startswith("eat"):
        eaten = [b"x" * 2**26 for _ in range(48)]
        raise ValueError(f"no limit at {len(eaten)} pieces")
    if pair.patient_id.startswith("bug"):
        raise ValueError(f"the secret of {pair.patient_id} in {pair.t1.files[0]}")
    if pair.patient_id.startswith("slow"):
        time.sleep(1)
    if pair.patient_id.startswith("sleep"):
        time.sleep(float(pair.patient_id.split("-")[1]))
    return StudyResult(tuple(map(level, LEVELS)), "ok", 0.97, seconds={"levels": 0.1})


def level(name: str) -> LevelResult:
    """A certain MC2."""
    box = LevelBox(name, (1.0, 2.0, 5.0, 6.0), 5, 0.9)
    grade = Grade(name, (0.1, 0.1, 0.8), (2,), 2, False, ((0.2, 0.2, 0.6), (0.05, 0.05, 0.9)))
    z = -30.0 * LEVELS.index(name)
    return LevelResult(name, "graded", None, box, (1.0, 2.0, 5.0, 6.0), 5, (0.0, 1.0, z), (0.0, 5.0, z - 10), grade)
