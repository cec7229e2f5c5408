"""The studies of the archive as a run finds them. Their series, which take much memory, lie on disk until needed."""

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

import pyarrow as pa

from modic.archive.patient_identity import study_date
from modic.records import Excluded, Pair, Series
from modic.run.shards import Due, Work
from modic.series.identify import is_unclear

Row = dict[str, Any]
DUE = ("fingerprint", "with_others", "encoding", "encoding_with_others")
FOUND = pa.schema(
    [
        *((name, pa.string()) for name in ("study_key", "study_uid", "patient_id")),
        ("day", pa.date32()),
        ("unclear", pa.bool_()),  # whether the contrast of a series is unknown, so that each run looks again
        *((name, pa.string()) for name in DUE),  # of modic.run.shards.Due; null if it cannot be graded
        *((name, pa.int64()) for name in ("start", "size")),  # of its series in `Packed`
    ]
)
"""One row a study."""


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

    study_key: str
    study_uid: str
    patient_id: str
    day: date | None  # the earliest that a series names
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


def found_row(outcome: Pair | Excluded, series: Sequence[Series], key: str, due: Due | None, packed: Packed) -> Row:
    """A row of FOUND. `series`: the stacks of the study, which go to `packed`."""
    days = [day for stack in series if (day := study_date(stack.header))]
    start, size = packed.add((outcome, list(series)))
    return {
        "study_key": key,
        "study_uid": outcome.study_uid,
        "patient_id": outcome.patient_id,
        "day": min(days, default=None),
        "unclear": any(map(is_unclear, series)),
        **{name: getattr(due, name, None) or None for name in DUE},
        "start": start,
        "size": size,
    }


def found_in(rows: pa.Table, packed: Packed) -> list[Found]:
    """The studies of some rows of FOUND."""
    return [
        Found(row["study_key"], row["study_uid"], row["patient_id"], row["day"], _due(row), packed,
              (row["start"], row["size"]))
        for row in rows.to_pylist()
    ]  # fmt: skip


def due_in(rows: pa.Table) -> list[Due]:
    """Those of some rows of FOUND that can be graded."""
    return [due for row in rows.select(["study_key", *DUE]).to_pylist() if (due := _due(row))]


def _due(row: Row) -> Due | None:
    return Due(row["study_key"], **{name: row[name] or "" for name in DUE}) if row["fingerprint"] else None


def work_of(due: Due, study: Found) -> Work:
    """What a worker needs to know of a study that is due."""
    return Work(
        due.study_key, due.fingerprint, due.with_others, due.cause, due.encoding, due.encoding_with_others,
        pair=study.pair,
    )  # fmt: skip
