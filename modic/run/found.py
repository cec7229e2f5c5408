"""One study of the archive as a run finds it, its series packed: as Python objects they take 25 times the memory."""

import pickle
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from modic.archive.patient_identity import study_date
from modic.records import Excluded, Pair, Series
from modic.run.shards import Due, Work
from modic.series.identify import is_unclear


@dataclass(frozen=True, slots=True)
class Found:
    """It holds what identifies patients, so it stays in this process."""

    study_uid: str
    patient_id: str
    day: date | None  # the earliest that a series names
    unclear: bool  # whether the contrast of a series is unknown, so that each run looks again
    due: Due | None  # None: it cannot be graded
    packed: bytes

    def unpack(self) -> tuple[Pair | Excluded, list[Series]]:
        """The outcome of pairing, and the stacks of the study."""
        outcome, series = pickle.loads(zlib.decompress(self.packed))  # noqa: S301  (of `found`, in this process)
        return outcome, series

    @property
    def pair(self) -> Pair:
        """Of a study that can be graded."""
        outcome, _ = self.unpack()
        if not isinstance(outcome, Pair):
            raise TypeError(f"a study without a pair, {outcome.rule}")
        return outcome


def found(outcome: Pair | Excluded, series: Sequence[Series], due: Due | None) -> Found:
    """The record of a study. `series`: its stacks."""
    days = [day for stack in series if (day := study_date(stack.header))]
    packed = zlib.compress(pickle.dumps((outcome, list(series)), pickle.HIGHEST_PROTOCOL), 1)
    unclear = any(map(is_unclear, series))
    return Found(outcome.study_uid, outcome.patient_id, min(days, default=None), unclear, due, packed)


def work_of(due: Due, study: Found) -> Work:
    """What a worker needs to know of a study that is due."""
    return Work(
        due.study_key, due.fingerprint, due.with_others, due.cause, due.encoding, due.encoding_with_others,
        pair=study.pair,
    )  # fmt: skip
