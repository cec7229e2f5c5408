"""What the ledger does not hold yet, cut into shards."""

import logging
import math

from modic.run import ledger, shards
from modic.run.prepare import Run, discreet
from modic.run.shards import Shard
from modic.run.survey import Survey

LOG = logging.getLogger(__name__)


SHARDS_PER_WORKER = 4
"""At least so many, so that all workers end at about the same time and progress moves."""


@discreet
def cut_shards(run: Run, survey: Survey, *, workers: int) -> list[Shard]:
    """Write the inputs of the shards that this run has to grade; empty where there is nothing to do."""
    run.cohort.forget_shard_inputs()
    ledger.set_damaged_aside(run.cohort)
    done = ledger.finished(ledger.read_ledger(run.cohort))
    work = [one for one in survey.work if done.isdisjoint(one.known_as)]
    LOG.info("%d studies to grade; %d have their grades", len(work), len(survey.work) - len(work))
    size = min(run.config.run.shard_size, math.ceil(len(work) / (SHARDS_PER_WORKER * workers)) or 1)
    return [
        shards.write_input(run.cohort, run.run_id, f"{index:05d}", work[start : start + size], run.config)
        for index, start in enumerate(range(0, len(work), size))
    ]
