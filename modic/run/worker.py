"""What a Dask worker does with one shard."""

import logging
from dataclasses import replace
from pathlib import Path

from modic.archive.source import Opens
from modic.archive.sources import Opener
from modic.cohort import open_cohort
from modic.config import Config
from modic.errors import TRANSIENT, DeviceLost, ModicError, Reason, Rejected, where
from modic.models.device import working_device
from modic.models.weights import Models, load_models
from modic.pipeline import grade_study
from modic.records import Pair, StudyResult
from modic.resources import is_out_of_memory, memory_limit
from modic.run import ledger, shards
from modic.run.read_ahead import read_ahead
from modic.run.shards import Job, Shard
from modic.tables.features import write_features
from modic.text import counted

LOG = logging.getLogger(__name__)


def grade_shard(job: Job, shard: Shard) -> str:
    """Grade the studies of one shard and write its file; returns the path. A shard that has its file is not graded.

    Runs in a worker, which keeps the models from shard to shard. Whatever a study does, short of killing the process,
    ends as a row. Raises WeightsError if the weights do not match their cards, and ModicError, which names no value of
    a study, if the shard's files cannot be read or written. Raises DeviceLost at the study after which the GPU no
    longer answers this process, which should end; a file is then written only if the shard is that study alone.
    """
    try:
        open_cohort(job.cohort.root)
        return str(_grade_shard(job, shard))
    except ModicError:
        raise
    except Exception as error:  # noqa: BLE001  (raised again, without its message)
        raise ModicError(f"shard {shard.id}: {where(error)}") from None


def _grade_shard(job: Job, shard: Shard) -> Path:
    path = job.output(shard)
    if path.exists():
        return path
    shards.note_position(job, shard, shards.LOADING)
    studies, config = shards.read_input(job, shard)
    models = _load(job, shard, config)
    rows, kept = [], []
    with read_ahead([work.pair for work in studies], Opener(config.archive)) as ahead:
        for index, work in enumerate(studies):
            shards.note_position(job, shard, index)
            pictures = job.cohort.case(job.run_id, work.study_key) if config.run.pictures else None
            result = grade_or_fail(work.pair, models=models, config=config, pictures=pictures, images=next(ahead))
            rows.append(ledger.row(work, result, job.grader, **models.identity))
            kept.append((work.study_key, result.kept if config.run.features else {}))
            _log(shard, work.study_key, result)
            if not models.usable():
                if len(studies) == 1:
                    ledger.write_output(path, rows)
                raise DeviceLost(f"shard {shard.id}, study {work.study_key}: the GPU no longer answers this process")
    write_features(job.cohort.features(job.run_id, shard.id), kept)  # first: a finished shard is never computed again
    return ledger.write_output(path, rows)


def _load(job: Job, shard: Shard, config: Config) -> Models:
    """The models. Raises DeviceLost if the GPU does not take them: no study is to blame (modic/run/isolate.py)."""
    device = working_device(job.device)
    try:
        return load_models(config.detector, config.classifier, device)
    except RuntimeError as error:
        if device == "cpu":
            raise
        raise DeviceLost(f"shard {shard.id}: the GPU does not take the networks: {where(error)}") from None


def _log(shard: Shard, study_key: str, result: StudyResult) -> None:
    refused, unsure = result.rejected, result.numbering == "uncertain"
    if refused:
        outcome = f"{refused.study_status}: {refused.reason}" + (f" ({refused.detail})" if refused.detail else "")
    else:
        grades = [level.grade for level in result.levels if level.grade]
        abstained = sum(grade.abstained for grade in grades)
        outcome = f"{counted(len(grades), 'level')} graded, {abstained} of them abstained"
        outcome += ", numbering uncertain" if unsure else ""
    level = logging.WARNING if unsure or (refused and refused.study_status == "failed") else logging.INFO
    seconds = sum(result.seconds.values())
    of_shard = {"shard": shard.planned}  # flows/prefect_logs.py shows the line in the log of that shard
    LOG.log(level, "shard %s, study %s: %s, %.1f s", shard.id, study_key, outcome, seconds, extra=of_shard)


def grade_or_fail(
    pair: Pair, *, models: Models, config: Config, pictures: Path | None = None, images: Opens | None = None
) -> StudyResult:
    """`grade_study`; a bug or exhausted memory gives a `failed` result, whose detail names no value of the study.

    A study for which a GPU has no memory is tried again once, without what this process keeps of it: other processes
    may have had the rest for a moment.
    """
    with memory_limit(config.run.study_memory_limit_mb):
        result = _graded_or_failed(pair, models=models, config=config, pictures=pictures, images=images)
        if result.rejected and result.rejected.reason is Reason.STUDY_OUT_OF_MEMORY and models.free_memory():
            LOG.warning("no memory (%s): the study is tried again", result.rejected.detail)
            return _graded_or_failed(pair, models=models, config=config, pictures=pictures, images=images)
    return result


def _graded_or_failed(
    pair: Pair, *, models: Models, config: Config, pictures: Path | None, images: Opens | None
) -> StudyResult:
    try:
        return _first_gradable_pair(pair, models=models, config=config, pictures=pictures, images=images)
    except ModicError:
        raise
    except Exception as error:  # noqa: BLE001  (a bad study costs only itself)
        reason = Reason.STUDY_OUT_OF_MEMORY if is_out_of_memory(error) else Reason.STUDY_INTERNAL_ERROR
        return StudyResult(rejected=Rejected(reason, where(error)))


def _first_gradable_pair(
    pair: Pair, *, models: Models, config: Config, pictures: Path | None, images: Opens | None
) -> StudyResult:
    """The result of the first of the study's pairs that can be graded; if none can, that of the first pair
    (modic/series/pair.py, P10)."""
    first = grade_study(pair, models=models, config=config, pictures=pictures, images=images)
    if first.rejected is None or first.rejected.reason in TRANSIENT:
        return first
    for number, other in enumerate(pair.others, 1):
        result = grade_study(other, models=models, config=config, pictures=pictures, images=images)
        if result.rejected is None or result.rejected.reason in TRANSIENT:
            warning = f"pair {number + 1} of {len(pair.choices)}; the first: {first.rejected.reason}"
            return replace(result, choice=number, warnings=(warning, *result.warnings))
    return first
