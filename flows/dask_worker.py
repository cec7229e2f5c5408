"""Preloaded by every Dask worker: Ctrl-C in a terminal reaches the workers too, and is not theirs to answer; what they
log of each study is for the flow to show (flows.prefect_logs). And what a worker is asked to do.
"""

import logging
import os
import signal
from typing import Any

from modic.errors import DeviceLost
from modic.run import worker

LOG = logging.getLogger("modic.worker")


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts; whoever started it stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("modic").setLevel(logging.INFO)


def dask_teardown(worker: Any) -> None:
    """Called by Dask when a worker closes; shards are on disk by then, and leaving torch in order takes seconds."""
    os._exit(0)


def grade_shard(cohort: str, run_id: str, shard_id: str, device: str) -> str:
    """modic.run.worker.grade_shard; a worker that has lost its GPU ends, and its nanny starts another."""
    try:
        return worker.grade_shard(cohort, run_id, shard_id, device)
    except DeviceLost as error:
        LOG.error("%s", error)
        os._exit(1)
