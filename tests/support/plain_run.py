"""A whole run in one process, without Prefect, Dask, networks and report: the steps of flows/nightly.py in turn."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_worker import without_networks
from modic.run import plan, prepare, publish, survey, worker
from modic.run.selection import EVERYTHING, Selection


def plain_run(
    archive: Path | str,
    cohort: Path,
    *,
    config: str = "",
    models: str = "",
    meanwhile: Callable[[prepare.Run], None] | None = None,
    asked: Selection = EVERYTHING,
    regrade: bool = True,
) -> publish.Summary:
    """One run; `meanwhile` is called once the shards are cut and before they are graded."""
    run = prepare.prepare(
        str(archive), str(cohort), config=config, models=models, device="cpu", selection=asked, regrade=regrade
    )
    with run.cohort.lock(run.run_id):
        studies = survey.find_studies(run)
        shards = plan.cut_shards(run, studies, workers=2).shards
        if meanwhile:
            meanwhile(run)
        for shard in shards:
            worker.grade_shard(run.job, shard)
        return publish.publish(run, studies)


def in_process(ready: Any, *arguments: str) -> None:
    """Target of a process that a test kills: says when it begins, since starting takes longer than the work."""
    without_networks()
    ready.set()
    plain_run(Path(arguments[0]), Path(arguments[1]), config=arguments[2])
    os._exit(0)
