"""A shard whose worker died or ran out of time: the study that it was at is set apart, the others are graded."""

import logging
from dataclasses import replace

from modic.config import Config
from modic.errors import ModicError, Reason, Rejected
from modic.records import StudyResult
from modic.run.ledger import row, write_output
from modic.run.shards import LOADING, Job, Shard, Work, position, read_input, write_input

LOG = logging.getLogger(__name__)

ATTEMPTS = 3  # of a shard whose workers die while they load the models


def isolate(job: Job, shard: Shard, trouble: Reason) -> list[Shard]:
    """Cut up a shard whose worker died or ran out of time; returns the shards that are to be graded instead.

    | trouble                        | the study it was at                | the other studies |
    |--------------------------------|------------------------------------|-------------------|
    | worker died                    | a shard of its own, tried again    | one shard         |
    | worker died, already alone     | a row `failed`, study.worker_died  |                   |
    | over the time limit            | a row `failed`, study.time_limit   | one shard         |
    | died loading the models        | the whole shard again, twice                           |
    | died with the shard waiting    | the same shard again: another study's worker           |

    Raises ModicError if workers die again and again before they begin a study: then no study is to blame.
    """
    at = position(job, shard)
    if at is None:
        return [shard]
    work, config = read_input(job, shard)
    if at == LOADING:
        return [_again(job, shard, work, config)]
    others = work[:at] + work[at + 1 :]
    rest = _part(shard, 2, studies=len(others))
    parts = [write_input(job, rest, others, config)] if others else []
    alone = _part(shard, 1, studies=1, isolated=True)
    if trouble is Reason.STUDY_WORKER_DIED and not shard.isolated:
        _say(shard, work[at], f"{trouble}; it is tried again alone", others)
        return [write_input(job, alone, work[at : at + 1], config), *parts]
    detail = f"limit {job.study_time_limit_s:g} s" if trouble is Reason.STUDY_TIME_LIMIT else "twice"
    failed = StudyResult(rejected=Rejected(trouble, detail))
    write_output(job.output(alone), [row(work[at], failed, job.grader)])
    _say(shard, work[at], f"failed: {trouble} ({detail})", others)
    return parts


def _say(shard: Shard, work: Work, outcome: str, others: list[Work]) -> None:
    rest = f"; the other {len(others)} of its shard are graded without it" if others else ""
    LOG.warning("shard %s, study %s: %s%s", shard.id, work.study_key, outcome, rest)


def _again(job: Job, shard: Shard, work: list[Work], config: Config) -> Shard:
    if shard.attempt == ATTEMPTS:
        raise ModicError("workers die before they begin a study: is there enough memory to load the models?")
    again = replace(_part(shard, 1, studies=shard.studies, isolated=shard.isolated), attempt=shard.attempt + 1)
    return write_input(job, again, work, config)


def _part(shard: Shard, number: int, *, studies: int, isolated: bool = False) -> Shard:
    """A shard that replaces `shard`, or a part of it; programs read its record, people its name (`00003-2-1`)."""
    return Shard(f"{shard.id}-{number}", studies, isolated=isolated, cut_from=(*shard.cut_from, shard.id))
