"""A shard whose worker died or stalled: the study it was at is set apart."""

import logging

from modic.errors import ModicError, Reason, Rejected
from modic.records import StudyResult
from modic.run.ledger import row, write_output
from modic.run.shards import LOADING, Job, position, read_input, write_input

LOG = logging.getLogger(__name__)


ALONE, OTHERS, AGAIN = "a", "b", "r"


def isolate(job: Job, shard_id: str, trouble: Reason) -> list[str]:
    """Cut up a shard whose worker died or stalled; returns the shards that are to be graded instead.

    | trouble                        | the study it was at                | the other studies |
    |--------------------------------|------------------------------------|-------------------|
    | worker died                    | a shard of its own, tried again    | one shard         |
    | worker died, already alone     | a row `failed`, study.worker_died  |                   |
    | over the time limit            | a row `failed`, study.time_limit   | one shard         |
    | died loading the models        | the whole shard again, twice                           |
    | died with the shard waiting    | the same shard again: another study's worker           |

    Raises ModicError where workers die again and again before they begin a study: then no study is to blame.
    """
    at = position(job.cohort, job.run_id, shard_id)
    work, config = read_input(job.cohort, job.run_id, shard_id)
    if at is None:
        return [shard_id]
    if at == LOADING:
        if shard_id.endswith(AGAIN * 2):
            raise ModicError("workers die before they begin a study: is there enough memory to load the models?")
        return [write_input(job.cohort, job.run_id, f"{shard_id}{AGAIN}", work, config).id]
    LOG.warning("shard %s, study %s: %s; the others are graded apart", shard_id, work[at].study_key, trouble)
    others = work[:at] + work[at + 1 :]
    parts = [write_input(job.cohort, job.run_id, f"{shard_id}{OTHERS}", others, config).id] if others else []
    if trouble is Reason.STUDY_WORKER_DIED and not shard_id.rstrip(AGAIN).endswith(ALONE):
        return [write_input(job.cohort, job.run_id, f"{shard_id}{ALONE}", work[at : at + 1], config).id, *parts]
    detail = f"limit {job.study_time_limit_s:g} s" if trouble is Reason.STUDY_TIME_LIMIT else "twice"
    rows = [row(work[at], StudyResult(rejected=Rejected(trouble, detail)))]
    write_output(job.cohort.shard(job.run_id, f"{shard_id}{ALONE}"), rows)
    return parts
