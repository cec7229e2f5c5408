"""A shard after trouble: cut up until the study that caused it is named."""

import pytest

from modic.config import Config
from modic.errors import ModicError, Reason
from modic.records import Pair
from modic.run import isolate, ledger, shards
from modic.run.shards import Job, Shard, Work


def split(job: Job, one_pair: Pair, shard: Shard, at: int | None, trouble: Reason) -> list[tuple[Shard, list[str]]]:
    """Cut up a shard at study `at`; its parts and their studies."""
    work = [Work(f"s_{index}", f"print {index}", pair=one_pair) for index in range(shard.studies)]
    shards.write_input(job, shard, work, Config())
    if at is not None:
        shards.note_position(job, shard, at)
    parts = isolate.isolate(job, shard, trouble)
    return [(part, [one.study_key for one in shards.read_input(job, part)[0]]) for part in parts]


def failures(job: Job) -> list[tuple[str, str]]:
    table = ledger.read_ledger(job.cohort)
    return list(zip(table["study_key"].to_pylist(), table["reason"].to_pylist(), strict=True))


def test_the_study_that_killed_a_worker_is_tried_alone_and_then_named(
    job: Job, one_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    died = Reason.STUDY_WORKER_DIED
    (alone, culprit), (others, rest) = split(job, one_pair, Shard("00000", 4), 2, died)
    assert (culprit, rest) == (["s_2"], ["s_0", "s_1", "s_3"])
    assert (alone.isolated, others.isolated, others.studies) == (True, False, 3)
    assert alone.planned == others.planned == "00000" and alone.id != others.id
    assert failures(job) == []
    assert split(job, one_pair, alone, 0, died) == []
    assert failures(job) == [("s_0", "study.worker_died")]
    assert caplog.messages == [
        "shard 00000, study s_2: study.worker_died; it is tried again alone; the other 3 of its shard are graded"
        " without it",
        f"shard {alone.id}, study s_0: failed: study.worker_died (twice)",
    ]


def test_the_study_over_the_time_limit_is_named_at_once(job: Job, one_pair: Pair) -> None:
    ((_, rest),) = split(job, one_pair, Shard("00000", 3), 0, Reason.STUDY_TIME_LIMIT)
    assert rest == ["s_1", "s_2"]
    assert failures(job) == [("s_0", "study.time_limit")]


def test_a_shard_that_only_waited_on_a_worker_that_died_is_given_to_another(job: Job, one_pair: Pair) -> None:
    shard = Shard("00000", 2)
    for _ in range(5):
        assert split(job, one_pair, shard, None, Reason.STUDY_WORKER_DIED) == [(shard, ["s_0", "s_1"])]


def test_workers_that_die_before_any_study_end_the_run(job: Job, one_pair: Pair) -> None:
    shard = Shard("00000", 2, isolated=True)
    for attempt in (2, 3):
        ((shard, studies),) = split(job, one_pair, shard, shards.LOADING, Reason.STUDY_WORKER_DIED)
        assert (shard.attempt, shard.isolated, studies) == (attempt, True, ["s_0", "s_1"])
    with pytest.raises(ModicError, match="memory"):
        split(job, one_pair, shard, shards.LOADING, Reason.STUDY_WORKER_DIED)
    assert failures(job) == []
