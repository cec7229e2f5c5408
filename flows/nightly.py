"""The run that a deployment starts every night, and `modic grade` at once."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import clusters, prefect_logs, tasks
from flows.progress import Progress, counting, shown, working
from flows.tasks import quoted
from modic.archive.sources import short_name
from modic.archive.walk import on_disk
from modic.errors import ModicError
from modic.run import prepare, selection
from modic.run.publish import Summary
from modic.run.shards import Shard
from modic.run.status import listed
from modic.text import counted, printable

if TYPE_CHECKING:
    from distributed import Client

LOOK_S = 30.0  # between two looks at the workers
STUDIES_FAILED, NEEDS_ATTENTION = "Studies failed", "Needs attention"
"""Names of the end of a run that published, of which somebody should hear all the same."""
SHARDS_IN_FLIGHT = 256  # threads that wait for Dask; more than the workers of any cluster we know


def run_name() -> str:
    """`<archive's folder name, or host> <date>`."""
    return f"{printable(short_name(flow_run.parameters['archive']))} {date.today():%Y-%m-%d}"


@flow(name="grade-cohort", flow_run_name=run_name, task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT))  # type: ignore[arg-type]
def grade_cohort(
    archive: str,
    cohort: str,
    config: str = "",
    cluster: str = "",
    device: str = "auto",
    only: str = "",
    since: str = "",
    until: str = "",
    limit: int = 0,
    regrade: bool = False,
    models: str = "",
) -> dict[str, Any]:
    """Grade every study of `archive` that `cohort` does not hold yet, and publish the tables.

    Args:
        archive: folder of DICOM files, of any depth, in the text of modic.archive.walk.as_text; a zip or tar file; or
            an address (modic/archive/sources.py).
        cohort: folder of the cohort; made if it does not exist.
        config: path of a cohort.toml; empty for the defaults.
        cluster: path of a cluster file (flows.clusters); empty for this machine.
        device: auto, cpu or cuda.
        only, since, until, limit: the studies that the run is asked for (modic.run.selection); empty for all.
        regrade: the configuration may differ from that with which the cohort was graded.
        models: folder of weights in place of those of the configuration.
    """
    asked = selection.selection(only, since, until, limit)
    run = prepare.prepare(
        on_disk(archive), cohort, config=config, models=models, device=device, selection=asked, regrade=regrade
    )
    spec = clusters.read_cluster(Path(cluster) if cluster else None, device)
    clusters.describe_template(spec)
    with run.cohort.lock(run.run_id), prefect_logs.shown(run.cohort.log(run.run_id)) as log:
        with working("reading the archive", say):
            survey = tasks.find_studies(run, on_progress=counting(say))
            if survey.unread:
                say(f"{survey.unread} (`modic files {run.cohort.root} --rejected` names them)")
            if survey.not_found:
                say(survey.not_found, logging.WARNING)
            plan = tasks.cut_shards(run, quoted(survey), workers=spec.workers)
        say(str(plan))
        if plan.shards:
            grade(run, plan.shards, spec, log)
        with working("publishing the tables", say):
            summary = tasks.publish(run, quoted(survey))
        if summary.news:
            with working("writing the report", say):
                tasks.write_report(run)
        say(summary.line(), logging.WARNING if summary.failed or summary.attention else logging.INFO)
    tasks.show_run(run)
    return ended(summary)  # type: ignore[return-value]  # Prefect gives the caller what the state holds


def ended(summary: Summary) -> State[dict[str, Any]]:
    """The state of a run that published: its name says if somebody should look (deployments/notify.yaml)."""
    name = STUDIES_FAILED if summary.failed else NEEDS_ATTENTION if summary.attention else None
    message = summary.line() + (f"; failed: {listed(summary.failed)}" if summary.failed else "")
    return Completed(name=name, message=message, data=summary.as_dict())


def grade(run: prepare.Run, shards: list[Shard], spec: clusters.ClusterSpec, log: prefect_logs.RunLogs) -> None:
    """Grade every shard on the cluster; returns when all have a file, and raises if the cluster is lost."""
    from distributed.comm.core import CommClosedError

    progress = Progress(run.cohort.root.name, sum(shard.studies for shard in shards), len(shards))
    try:
        with clusters.connect(spec, shards=len(shards)) as client, shown(progress, say) as show:
            client.forward_logging(prefect_logs.LOGGER)
            futures = [tasks.grade_shard.submit(shard, run.job, quoted(client), quoted(progress)) for shard in shards]
            log.task_runs = {shard.id: future.task_run_id for shard, future in zip(shards, futures, strict=True)}
            follow(futures, progress, client, show)
    except CommClosedError as error:  # whichever call was under way, the last words of a client among them
        raise ModicError(tasks.LOST) from error


def follow(
    futures: Sequence[PrefectFuture[Any]], progress: Progress, client: "Client", show: Callable[[], None]
) -> None:
    """Show the progress of task runs until all have ended, and restart lost workers; raises the error of a task run."""
    looked = time.monotonic()
    while progress.wait(1.0):
        show()
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            if lost := clusters.restart_lost_workers(client):
                say(f"{counted(lost, 'worker')} lost and started again")
    show()
    if progress.error:
        raise progress.error
    for future in futures:
        future.result()


def say(line: str, level: int = logging.INFO) -> None:
    """Show a line to the user: in Prefect's log, and on standard output unless a deployment runs."""
    get_run_logger().log(level, line)
    context = FlowRunContext.get()  # `prefect.runtime` would ask the server each time, which may be gone
    if not (context and context.flow_run and context.flow_run.deployment_id):
        print(line, flush=True)
