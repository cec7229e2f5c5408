"""What a Dask worker does with one shard."""

import logging
from dataclasses import replace
from pathlib import Path

from modic.cohort import Cohort, open_cohort
from modic.config import Config
from modic.errors import TRANSIENT, DeviceLost, ModicError, Reason, Rejected, where
from modic.models.device import resolve_device
from modic.models.weights import Models, load_models
from modic.pipeline import grade_study
from modic.records import Pair, StudyResult
from modic.resources import is_out_of_memory, memory_limit
from modic.run import ledger, shards

LOG = logging.getLogger(__name__)


def grade_shard(cohort: str, run_id: str, shard_id: str, device: str) -> str:
    """Grade the studies of one shard and write its file; returns the path. A shard that has its file is not graded.

    Runs in a worker, which keeps the models between shards. Whatever a study does, short of killing the process, it
    is a row. Raises WeightsError where the weights do not match their cards, and ModicError, which names no value of a
    study, where the shard's files cannot be read or written. Raises DeviceLost at the study that spoiled the GPU for
    this process, which should end: then only a shard of that study alone has been written.
    """
    try:
        return str(_grade_shard(open_cohort(Path(cohort)), run_id, shard_id, device))
    except ModicError:
        raise
    except Exception as error:  # noqa: BLE001  (raised again, without its message)
        raise ModicError(f"shard {shard_id}: {where(error)}") from None


def _grade_shard(home: Cohort, run_id: str, shard_id: str, device: str) -> Path:
    path = home.shard(run_id, shard_id)
    if path.exists():
        return path
    shards.note_position(home, run_id, shard_id, shards.LOADING)
    studies, config = shards.read_input(home, run_id, shard_id)
    models = load_models(config.detector, config.classifier, resolve_device(device))
    rows = []
    for index, work in enumerate(studies):
        shards.note_position(home, run_id, shard_id, index)
        pictures = home.case(run_id, work.study_key) if config.run.pictures else None
        result = grade_or_fail(work.pair, models=models, config=config, pictures=pictures)
        rows.append(ledger.row(work, result, **models.identity))
        _log(shard_id, work.study_key, result)
        if not models.usable():
            if len(studies) == 1:
                ledger.write_output(path, rows)
            raise DeviceLost(f"shard {shard_id}, study {work.study_key}: the GPU answers this process no more")
    return ledger.write_output(path, rows)


def _log(shard_id: str, study_key: str, result: StudyResult) -> None:
    refused, unsure = result.rejected, result.numbering == "uncertain"
    if refused:
        said = f"{refused.study_status}: {refused.reason}" + (f" ({refused.detail})" if refused.detail else "")
    else:
        grades = [one.grade for one in result.levels if one.grade]
        said = f"{len(grades)} levels graded, {sum(one.abstained for one in grades)} of them abstained"
        said += ", numbering uncertain" if unsure else ""
    level = logging.WARNING if unsure or (refused and refused.study_status == "failed") else logging.INFO
    took = sum(result.seconds.values())
    LOG.log(level, "shard %s, study %s: %s, %.1f s", shard_id, study_key, said, took, extra={"shard": shard_id})


def grade_or_fail(pair: Pair, *, models: Models, config: Config, pictures: Path | None = None) -> StudyResult:
    """`grade_study`, with a bug or an exhausted memory as a `failed` row. The detail names no value of the study."""
    try:
        with memory_limit(config.run.study_memory_limit_mb):
            return _first_that_serves(pair, models=models, config=config, pictures=pictures)
    except ModicError:
        raise
    except Exception as error:  # noqa: BLE001  (a bad study costs only itself)
        reason = Reason.STUDY_OUT_OF_MEMORY if is_out_of_memory(error) else Reason.STUDY_INTERNAL_ERROR
        return StudyResult(rejected=Rejected(reason, where(error)))


def _first_that_serves(pair: Pair, *, models: Models, config: Config, pictures: Path | None) -> StudyResult:
    """The result of the first of the study's pairs that can be graded, else that of the first (modic/series/pair.py,
    P10)."""
    first = grade_study(pair, models=models, config=config, pictures=pictures)
    if first.rejected is None or first.rejected.reason in TRANSIENT:
        return first
    for number, other in enumerate(pair.others, 1):
        result = grade_study(other, models=models, config=config, pictures=pictures)
        if result.rejected is None or result.rejected.reason in TRANSIENT:
            said = f"pair {number + 1} of {len(pair.choices)}; the first: {first.rejected.reason}"
            return replace(result, choice=number, warnings=(said, *result.warnings))
    return first
