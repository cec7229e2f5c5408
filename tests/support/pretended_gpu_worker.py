"""Preloaded by Dask workers in tests: a GPU is pretended in them."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from modic.run import worker
from pretended_cuda import pretended_cuda


def dask_setup(dask_worker: Any) -> None:
    """Called by Dask when a worker starts; shards are graded in another thread than this."""
    grade_shard = worker.grade_shard

    def on_gpu(*arguments: Any) -> str:
        with pretended_cuda():
            return grade_shard(*arguments)

    worker.grade_shard = on_gpu
