"""Preloaded by every Dask worker: Ctrl-C in a terminal reaches the workers too, and is not theirs to answer; what they
log of each study is for the flow to show (flows.logs).
"""

import logging
import os
import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts; whoever started it stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("modic").setLevel(logging.INFO)


def dask_teardown(worker: Any) -> None:
    """Called by Dask when a worker closes; shards are on disk by then, and leaving torch in order takes seconds."""
    os._exit(0)
