"""The finished rows of all runs: the latest counts, and those of earlier versions are read."""

import pyarrow as pa
import pytest

from fake_worker import level
from made_studies import GRADER
from modic.errors import Reason, Rejected
from modic.files import write_table
from modic.records import LEVELS, Pair, StudyResult
from modic.run import ledger
from modic.run.shards import Job, Work

FIRST, SECOND = "20260101T200000Z-0a0a", "20260102T200000Z-0b0b"


def test_only_the_last_word_on_a_study_counts_and_transient_failures_are_tried_again(job: Job, one_pair: Pair) -> None:
    work = [Work("s_1", "print", pair=one_pair), Work("s_2", "print", pair=one_pair)]
    died = StudyResult(rejected=Rejected(Reason.STUDY_WORKER_DIED))
    broken = StudyResult(rejected=Rejected(Reason.STUDY_PIXELS_UNREADABLE))
    ledger.write_output(
        job.cohort.shard(FIRST, "00000"), [ledger.row(work[0], died, GRADER), ledger.row(work[1], broken, GRADER)]
    )
    assert ledger.finished(ledger.read_ledger(job.cohort)) == {("s_2", "print")}
    ledger.write_output(job.cohort.shard(SECOND, "00000"), [ledger.row(work[0], StudyResult(), GRADER)])
    finished = ledger.read_ledger(job.cohort)
    assert ledger.finished(finished) == {("s_1", "print"), ("s_2", "print")}
    assert finished["run_id"].to_pylist()[ledger.latest(finished)["s_1", "print"]] == SECOND


def test_shards_of_a_version_that_knew_fewer_columns_are_still_read(job: Job, one_pair: Pair) -> None:
    done = ledger.row(Work("s_1", "print", pair=one_pair), StudyResult(tuple(map(level, LEVELS)), "ok", 0.9), GRADER)
    now = pa.Table.from_pylist([done], schema=ledger.SCHEMA)
    kept = [field for field in ledger.LEVEL_FIELDS if field.name != "slice_disagreement"]
    older = pa.schema([*list(ledger.SCHEMA)[:-1], ("levels", pa.list_(pa.struct(kept)))])
    path = job.cohort.shard(FIRST, "00000")
    path.parent.mkdir(parents=True)
    write_table(pa.Table.from_pylist([done], schema=older), path)
    ledger.write_output(job.cohort.shard(SECOND, "00000"), now.to_pylist())
    before, after = ledger.read_ledger(job.cohort)["levels"].to_pylist()
    assert {one.pop("slice_disagreement") for one in before} == {None}
    assert all(one.pop("slice_disagreement") == pytest.approx(0.3) for one in after)
    assert before == after
