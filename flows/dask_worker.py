"""What a Dask worker loads when it starts, and the function that it is asked to run.

A worker ignores Ctrl-C, which a terminal sends to it too: the flow stops it. It logs every study, for the flow to show
(flows/prefect_logs.py).
"""

import logging
import os
import signal
from typing import Any

from modic.errors import DeviceLost
from modic.run import worker
from modic.run.shards import Job, Shard

LOG = logging.getLogger("modic.worker")


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts; whoever started it stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("modic").setLevel(logging.INFO)


def dask_teardown(worker: Any) -> None:
    """Called by Dask when a worker closes: ends at once, since shards are on disk by then and torch takes seconds."""
    os._exit(0)


def grade_shard(job: Job, shard: Shard) -> str:
    """modic.run.worker.grade_shard; a worker that has lost its GPU ends, and Dask's nanny starts another."""
    try:
        return worker.grade_shard(job, shard)
    except DeviceLost as error:
        LOG.error("%s", error)
        os._exit(1)
