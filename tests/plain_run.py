"""A whole run in one process, without Prefect, Dask, networks and report: the steps of flows/nightly.py in turn."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_worker import without_networks

from modic import night, pipeline


def plain_run(
    archive: Path, cohort: Path, *, config: str = "", meanwhile: Callable[[night.Run], None] | None = None
) -> night.Summary:
    """One run; `meanwhile` is called once the shards are cut and before they are graded."""
    run = night.prepare(str(archive), str(cohort), config=config, device="cpu")
    with run.cohort.lock():
        survey = night.find_studies(run)
        shards = night.cut_shards(run, survey, workers=2)
        if meanwhile:
            meanwhile(run)
        for shard in shards:
            pipeline.grade_shard(str(run.cohort.root), run.run_id, shard.id, run.device)
        return night.publish(run, survey)


def in_process(ready: Any, *arguments: str) -> None:
    """Target of a process that a test kills: says when it begins, since starting takes longer than the work."""
    without_networks()
    ready.set()
    plain_run(Path(arguments[0]), Path(arguments[1]), config=arguments[2])
    os._exit(0)
