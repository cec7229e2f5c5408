"""The Prefect flow of the normalization study: read and split the data, train every fold, write tables and report."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows import clusters
from flows.nightly import SHARDS_IN_FLIGHT, follow, say
from flows.progress import Progress, artifact_key, shown
from flows.tasks import coarse, quoted
from modic.errors import ModicError
from modic.experiment import folder, report
from modic.experiment.design import Design, Fold, design_from
from modic.experiment.fold import train_fold

if TYPE_CHECKING:
    from distributed import Client

TRIES = 3  # of a fold whose worker dies: enough for a reboot; a lack of memory would go on for ever

prepare = coarse("prepare", folder.prepare)
write_report = coarse("report", report.write_study)


def run_name() -> str:
    """The name of the study's folder, for Prefect's page."""
    return Path(flow_run.parameters["design"]["out"]).resolve().name


@flow(
    name="normalization-study",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_IN_FLIGHT),  # type: ignore[arg-type]
)
def normalization_study(design: dict[str, Any], cluster: str = "") -> dict[str, Any]:
    """Train every fold that has no result file yet, predict its patients, and write tables and report of the study.

    Args:
        design: options of modic.experiment.design.Design, and `profile`.
        cluster: path of a cluster file (flows.clusters); empty for this machine.
    """
    study = design_from(design)
    spec = clusters.read_cluster(Path(cluster) if cluster else None, study.device, workers_per_gpu=1)
    with folder.locked(study):
        say(prepare(study, say=say).line())
        folds = folder.unfinished(study)
        if folds:
            train(study, folds, spec)
        outcome = write_report(study.out)
    create_markdown_artifact(outcome.answer, key=artifact_key("answer", study.out.name), description=run_name())
    say(outcome.answer)
    return {"folds": len(study.every_fold), "trained_now": len(folds), "report": str(outcome.page)}


def train(design: Design, folds: list[Fold], spec: clusters.ClusterSpec) -> None:
    """Train `folds` on the cluster; returns when each has its result file. Raises if a fold cannot be trained."""
    progress = Progress(design.out.name, len(folds), len(folds), unit="folds", doing="training")
    say(f"{len(folds)} of {len(design.every_fold)} folds to train")
    with clusters.connect(spec, shards=len(folds)) as client, shown(progress, say) as show:
        futures = [train_one.submit(fold, design, quoted(client), quoted(progress)) for fold in folds]
        follow(futures, progress, client, show)


@task(name="train-fold", task_run_name="fold {fold.id}", cache_policy=NO_CACHE, persist_result=False)
def train_one(fold: Fold, design: Design, client: "Client", progress: Progress) -> None:
    """Train one fold on the cluster, which writes its result file. Raises ModicError if its worker died TRIES times."""
    from distributed import KilledWorker

    with progress.shard(fold.id, 1):
        for attempt in range(TRIES):
            ended = threading.Event()
            arguments = (str(design.out), fold, design.device)
            future = client.submit(
                train_fold, *arguments, key=(f"fold-{design.out.name}", fold.id, attempt), pure=False
            )
            future.add_done_callback(lambda _, ended=ended: ended.set())
            ended.wait()
            if not isinstance(future.exception(), KilledWorker):
                future.result()
                return
        raise ModicError(f"fold {fold.id}: its worker died {TRIES} times; is there enough memory for it?")
