"""Preloaded by Dask workers in tests: grading without networks, and patients whose name says what happens to them.

`kill…` kills the worker, `hang…` never ends, `bug…` raises, `slow…` takes a second, `sleep-2.5-…` 2.5 s; others are
graded at once.
"""

import os
import signal
import time
from types import SimpleNamespace
from typing import Any

from modic import pipeline
from modic.records import LEVELS, Grade, LevelBox, LevelResult, Pair, StudyResult

CARD = {"preprocessing": {"normalization": "standardize"}}
MODEL = SimpleNamespace(card=CARD, id="0123456789ab", device="cpu")


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts."""
    pipeline.load_models = lambda *_: pipeline.Models(MODEL, MODEL)  # type: ignore[assignment,arg-type]
    pipeline.grade_study = grade_study  # type: ignore[assignment]


def grade_study(pair: Pair, **_: Any) -> StudyResult:
    """Six graded levels, or trouble."""
    if pair.patient_id.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if pair.patient_id.startswith("hang"):
        time.sleep(1000)
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
    grade = Grade(name, (0.1, 0.1, 0.8), (2,), 2, False)
    return LevelResult(name, "graded", None, box, (1.0, 2.0, 5.0, 6.0), 5, (0.0, 1.0, 2.0), (0.0, 5.0, 6.0), grade)
