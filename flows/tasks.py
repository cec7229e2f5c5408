"""Every Prefect task of a run. A task run of `grade-shard` is one shard: it waits here while a Dask worker grades.

Prefect does not run in the workers, so they need no server, and one task run costs milliseconds, not 0.2 s.
"""

import itertools
import threading
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

import modic.run.publish
from flows import dask_worker
from flows.progress import Progress, artifact_key, if_answered
from modic.errors import ModicError, Reason
from modic.run import isolate, plan, prepare, shards, status, survey
from modic.run.shards import Job, Shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Future

LOST = "Dask's scheduler does not answer any more; what is finished is kept, and the next run goes on from there"
POLL_S = 0.5  # between two looks at a shard's position
SUBMISSION = itertools.count()  # a shard submitted again is another task for Dask
LISTED = 200  # studies in an artifact; `modic query` lists them all
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def coarse(name: str, step: "Callable[P, R]") -> "Callable[P, R]":
    """A step of the run as a task. Files are the checkpoint: Prefect keeps no results."""
    return cast(
        "Callable[P, R]", task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(step)
    )


def quoted(value: T) -> T:
    """`value`, marked for Prefect to hand on as it is, without looking for futures in every study of it."""
    return cast(T, quote(value))


find_studies = coarse("find-studies", survey.find_studies)
cut_shards = coarse("cut-shards", plan.cut_shards)
publish = coarse("publish", modic.run.publish.publish)


@prepare.discreet
def _write_report(run: prepare.Run) -> None:
    """The HTML page and the methods paragraph of this run."""
    from modic.report import page  # with scipy.stats and pandas, which nothing before the end of a run needs

    page.write_report(run.cohort.root, run.run_id)


write_report = coarse("report", _write_report)


@task(name="grade-shard", task_run_name="shard {shard.id}", cache_policy=NO_CACHE, persist_result=False)
def grade_shard(shard: Shard, job: Job, client: "Client", progress: Progress) -> None:
    """Grade one shard on the cluster; its file is the result."""
    with progress.shard(shard.id, shard.studies) as note_done:
        run_shard(shard, job, client, note_done)


def run_shard(shard: Shard, job: Job, client: "Client", note_done: "Callable[[int], None]") -> None:
    """Grade one shard; if its worker died or ran out of time, set the study that it was at apart and grade the others.

    Only a shard's file counts: a worker may have died after writing it.
    """
    open_shards = [shard]
    while open_shards:
        part = open_shards.pop()
        trouble = submit_and_watch(part, job, client, note_done if part == shard else lambda done: None)
        if trouble is not None and not job.output(part).exists():
            open_shards += isolate.isolate(job, part, trouble)


def submit_and_watch(shard: Shard, job: Job, client: "Client", note_done: "Callable[[int], None]") -> Reason | None:
    """Submit one shard to Dask and wait; returns why it must be cut up, or None when its file is written.

    All keys begin alike, so that Dask takes the shards for one group and keeps them waiting at the scheduler, not at
    workers. Raises ModicError if the scheduler is lost.
    """
    from distributed import KilledWorker

    if client.status != "running":
        raise ModicError(LOST)
    key = (f"shard-{job.run_id}", shard.id, next(SUBMISSION))
    future = client.submit(dask_worker.grade_shard, job, shard, key=key, pure=False)
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    at, since = None, time.monotonic()
    while not ended.wait(POLL_S):
        now_at = shards.position(job, shard)
        if now_at != at:
            at, since = now_at, time.monotonic()
            note_done(max(at or 0, 0))
        elif at not in (None, shards.LOADING) and time.monotonic() - since > job.study_time_limit_s:
            stop_worker_of(future, client)
            return Reason.STUDY_TIME_LIMIT
    if future.cancelled():  # by nobody here: the client has lost the scheduler
        raise ModicError(LOST)
    if isinstance(future.exception(), KilledWorker):
        return Reason.STUDY_WORKER_DIED
    future.result()
    return None


def stop_worker_of(future: "Future", client: "Client") -> None:
    """Kill the worker that runs a future's task and may answer no signal; its nanny starts another."""
    workers = [worker for worker, keys in client.processing().items() if future.key in keys]
    if workers:
        client.restart_workers(workers, raise_for_error=False)  # first, so that no other shard is sent there before
    future.cancel()


def _show_run(run: prepare.Run) -> None:
    """Show a finished run in Prefect: its counts, and the studies to look at, by key. Prefect gets no picture."""
    last = status.finished(run.cohort)
    if last is None:
        return
    name, of = run.cohort.root.name, f"run {last.run_id}"
    listed, n = last.to_look_at[:LISTED], len(last.to_look_at)
    if_answered(create_markdown_artifact)(
        status.markdown(run.cohort, last), key=artifact_key("summary", name), description=of
    )
    about = f"{of}: {n} failed or uncertainly numbered studies" + (f", the first {LISTED} here" if n > LISTED else "")
    if_answered(create_table_artifact)(listed, key=artifact_key("to-look-at", name), description=about)


show_run = coarse("summary", _show_run)
