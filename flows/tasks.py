"""Every Prefect task of a run. A task run of `grade-shard` is one shard: it waits here while Dask works.

No Prefect runs in the workers, so nothing depends on a server there, and one task run costs milliseconds, not 0.2 s.
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
from flows.progress import Progress, artifact_key, heard
from modic.errors import Reason
from modic.report import page
from modic.run import isolate, plan, prepare, shards, status, survey
from modic.run.shards import Job, Shard

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client, Future

POLL_S = 0.5
SUBMISSION = itertools.count()  # a shard submitted again is another task for Dask
LISTED = 200  # studies in an artifact; `modic query` has them all
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def coarse(name: str, step: "Callable[P, R]") -> "Callable[P, R]":
    """A step of the run as a task. Files are the checkpoint: Prefect keeps no results."""
    return cast(
        "Callable[P, R]", task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(step)
    )


def quoted(value: T) -> T:
    """`value`, which Prefect hands on as it is, instead of looking for futures in every study and pixel of it."""
    return cast(T, quote(value))


find_studies = coarse("find-studies", survey.find_studies)
cut_shards = coarse("cut-shards", plan.cut_shards)
publish = coarse("publish", modic.run.publish.publish)


@prepare.discreet
def _write_report(run: prepare.Run) -> None:
    """The HTML page and the methods paragraph of this run."""
    page.write_report(run.cohort.root, run.run_id)


write_report = coarse("report", _write_report)


@task(name="grade-shard", task_run_name="shard {shard.id}", cache_policy=NO_CACHE, persist_result=False)
def grade_shard(shard: Shard, job: Job, client: "Client", progress: Progress) -> None:
    """Grade one shard on the cluster; its file is the result."""
    with progress.shard(shard.id, shard.studies) as tell:
        run_shard(shard.id, job, client, tell)


def run_shard(shard_id: str, job: Job, client: "Client", tell: "Callable[[int], None]") -> None:
    """Grade one shard; where its worker died or stalled, put the study it was at aside and grade the others.

    Its file is what counts: a worker may have died after writing it.
    """
    open_shards = [shard_id]
    while open_shards:
        one = open_shards.pop()
        trouble = submit_and_watch(one, job, client, tell if one == shard_id else lambda done: None)
        if trouble is not None and not job.cohort.shard(job.run_id, one).exists():
            open_shards += isolate.isolate(job, one, trouble)


def submit_and_watch(shard_id: str, job: Job, client: "Client", tell: "Callable[[int], None]") -> Reason | None:
    """Submit one shard to Dask and wait; why it must be cut up, or None when its file is written.

    All keys begin alike: so Dask takes them for one group and keeps them waiting at the scheduler, not at workers.
    """
    from distributed import KilledWorker

    arguments = (str(job.cohort.root), job.run_id, shard_id, job.device)
    key = (f"shard-{job.run_id}", shard_id, next(SUBMISSION))
    future = client.submit(dask_worker.grade_shard, *arguments, key=key, pure=False)
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    at, since = None, time.monotonic()
    while not ended.wait(POLL_S):
        now_at = shards.position(job.cohort, job.run_id, shard_id)
        if now_at != at:
            at, since = now_at, time.monotonic()
            tell(max(at or 0, 0))
        elif at not in (None, shards.LOADING) and time.monotonic() - since > job.study_time_limit_s:
            stop_worker_of(future, client)
            return Reason.STUDY_TIME_LIMIT
    if isinstance(future.exception(), KilledWorker):
        return Reason.STUDY_WORKER_DIED
    future.result()
    return None


def stop_worker_of(future: "Future", client: "Client") -> None:
    """Kill the worker that holds a future's task, which may hang where no signal reaches; its nanny starts another."""
    workers = [worker for worker, keys in client.processing().items() if future.key in keys]
    if workers:
        client.restart_workers(workers, raise_for_error=False)  # first, so that no other shard is sent there before
    future.cancel()


def _show_run(run: prepare.Run) -> None:
    """Artifacts of a finished run: its counts, and the studies to look at. Prefect gets keys and counts, no picture."""
    last = status.finished(run.cohort)
    if last is None:
        return
    name, of = run.cohort.root.name, f"run {last.run_id}"
    listed, n = last.to_look_at[:LISTED], len(last.to_look_at)
    heard(create_markdown_artifact)(
        status.markdown(run.cohort, last), key=artifact_key("summary", name), description=of
    )
    said = f"{of}: {n} failed or uncertainly numbered studies" + (f", the first {LISTED} here" if n > LISTED else "")
    heard(create_table_artifact)(listed, key=artifact_key("to-look-at", name), description=said)


show_run = coarse("summary", _show_run)
