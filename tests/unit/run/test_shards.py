"""The input of a shard, as a run writes it and a worker reads it."""

from dataclasses import replace

from made_studies import SHARD, write_shard
from modic.config import Config, IdentifyOptions
from modic.records import Pair
from modic.run import shards
from modic.run.shards import Job, Work


def test_what_a_worker_reads_is_what_the_run_wrote(one_pair: Pair, job: Job) -> None:
    config = replace(Config(), identify=IdentifyOptions(min_slices=7))
    work = [Work("s_1", "print", pair=one_pair)]
    assert write_shard(job, work, config) == SHARD
    assert shards.read_input(job, SHARD) == (work, config)
