"""One study of the archive as a run finds it. Its series, which take much memory, lie on disk until they are needed."""

import os
import pickle
import tempfile
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from modic.archive.patient_identity import study_date
from modic.records import Excluded, Pair, Series
from modic.run.shards import Due, Work
from modic.series.identify import is_unclear


class Packed:
    """A scratch file of objects, without a name, which is gone with this object. For what identifies patients."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed with this object)
        weakref.finalize(self, self._file.close)

    def add(self, value: Any) -> tuple[int, int]:
        """Write an object; returns its place."""
        content = zlib.compress(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), 1)
        place = self._file.tell(), len(content)
        self._file.write(content)
        return place

    def read(self, place: tuple[int, int]) -> Any:
        """The object at a place that `add` returned."""
        start, size = place
        self._file.flush()
        return pickle.loads(zlib.decompress(os.pread(self._file.fileno(), size, start)))  # noqa: S301  (of `add`)


@dataclass(frozen=True, slots=True)
class Found:
    """It holds what identifies patients, so it stays in this process."""

    study_uid: str
    patient_id: str
    day: date | None  # the earliest that a series names
    unclear: bool  # whether the contrast of a series is unknown, so that each run looks again
    due: Due | None  # None: it cannot be graded
    packed: Packed
    place: tuple[int, int]  # of the outcome of pairing and the stacks

    def unpack(self) -> tuple[Pair | Excluded, list[Series]]:
        """The outcome of pairing, and the stacks of the study."""
        outcome, series = self.packed.read(self.place)
        return outcome, series

    @property
    def pair(self) -> Pair:
        """Of a study that can be graded."""
        outcome, _ = self.unpack()
        if not isinstance(outcome, Pair):
            raise TypeError(f"a study without a pair, {outcome.rule}")
        return outcome


def found(outcome: Pair | Excluded, series: Sequence[Series], due: Due | None, packed: Packed) -> Found:
    """The record of a study. `series`: its stacks, which go to `packed`."""
    days = [day for stack in series if (day := study_date(stack.header))]
    place = packed.add((outcome, list(series)))
    unclear = any(map(is_unclear, series))
    return Found(outcome.study_uid, outcome.patient_id, min(days, default=None), unclear, due, packed, place)


def work_of(due: Due, study: Found) -> Work:
    """What a worker needs to know of a study that is due."""
    return Work(
        due.study_key, due.fingerprint, due.with_others, due.cause, due.encoding, due.encoding_with_others,
        pair=study.pair,
    )  # fmt: skip
