"""Shards: what a worker is told, what it hands back, and the ledger that all finished shards make together.

A shard's input (`private/shards/<run_id>/<shard_id>.json`) holds paths and UIDs; only its name goes to the worker. Its
output (`runs/<run_id>/shards/<shard_id>.parquet`) holds keys and grades, one row a study with its levels inside, and
appears whole, once. The outputs are the ledger: nothing else remembers what has been graded.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modic.cohort import Cohort, write_json
from modic.config import Config, config_from
from modic.errors import TRANSIENT, ModicError, Reason, Rejected
from modic.records import LevelResult, Pair, Series, StudyResult
from modic.schemas import SCHEMAS
from modic.tables import write_table

LOG = logging.getLogger(__name__)
KEYS = ("study_key", "patient_key", "run_id", "normalization", "detector_id", "classifier_id")
LEVEL_FIELDS = [field for field in SCHEMAS["levels"] if field.name not in KEYS]
SCHEMA = pa.schema(
    [
        ("study_key", pa.string()),
        ("fingerprint", pa.string()),
        ("choice", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("level_numbering", pa.string()),
        ("p_numbering", pa.float64()),
        ("warnings", pa.list_(pa.string())),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("normalization", pa.string()),
        ("detector_id", pa.string()),
        ("classifier_id", pa.string()),
        ("device", pa.string()),
        ("levels", pa.list_(pa.struct(LEVEL_FIELDS))),
    ]
)
"""One row a study of a finished shard."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One piece of work: its name within a run, and how many studies it holds."""

    id: str
    studies: int


@dataclass(frozen=True, slots=True)
class Job:
    """What all shards of a run share, small enough to send anywhere."""

    cohort: Cohort
    run_id: str
    device: str
    study_time_limit_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """One study to grade."""

    study_key: str
    fingerprint: str
    pair: Pair
    with_others: str = ""  # the fingerprint with the study's other pairs in it; empty where there are none

    @property
    def known_as(self) -> list[tuple[str, str]]:
        """Under what the ledger may hold its result: (study_key, fingerprint)."""
        return [(self.study_key, print_) for print_ in (self.fingerprint, self.with_others) if print_]


def write_input(cohort: Cohort, run_id: str, shard_id: str, work: Iterable[Work], config: Config) -> Shard:
    """Tell a worker what to do; returns the shard."""
    path = cohort.shard_input(run_id, shard_id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    studies = [asdict(one) for one in work]
    write_json(path, {"config": asdict(config), "studies": studies})
    return Shard(shard_id, len(studies))


def read_input(cohort: Cohort, run_id: str, shard_id: str) -> tuple[list[Work], Config]:
    """What `write_input` wrote."""
    values = json.loads(cohort.shard_input(run_id, shard_id).read_text(encoding="utf-8"))
    work = [Work(**{**one, "pair": _pair(one["pair"])}) for one in values["studies"]]
    return work, config_from(values["config"], "shard")


def _pair(values: dict[str, Any]) -> Pair:
    both = {name: _series(values[name]) for name in ("t1", "t2")}
    others = tuple(map(_pair, values["others"]))
    return Pair(**{**values, **both, "warnings": tuple(values["warnings"]), "others": others})


def _series(values: dict[str, Any]) -> Series:
    """JSON knows no tuples: every list outside the header was one."""
    refused = values["rejected"]
    rejected = Rejected(Reason(refused["reason"]), refused["detail"]) if refused else None
    return Series(**{k: v if k == "header" else _tuples(v) for k, v in values.items()} | {"rejected": rejected})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


LOADING = -1
"""Position of a shard that a worker has taken up and that still loads the models."""


def note_position(cohort: Cohort, run_id: str, shard_id: str, index: int) -> None:
    """Say that the study at `index` is begun, or LOADING; who watches the shard reads it (`position`)."""
    cohort.shard_input(run_id, shard_id).with_suffix(".at").write_text(str(index))


def position(cohort: Cohort, run_id: str, shard_id: str) -> int | None:
    """Index of the study a shard is at, which is also the number of those done, or LOADING; None before that."""
    try:
        return int(cohort.shard_input(run_id, shard_id).with_suffix(".at").read_text())
    except (FileNotFoundError, ValueError):  # not taken up, or just being written
        return None


def plan(cohort: Cohort, run_id: str) -> tuple[int, int]:
    """Studies that the run was cut into, and those that its unfinished shards have done so far.

    Counts the keys in the inputs instead of parsing them: there are some 15 kB a study, and in JSON no text can hold
    a bare quotation mark.
    """
    inputs = {path.stem: path for path in cohort.shard_input(run_id, "_").parent.glob("*.json")}
    planned = sum(path.read_bytes().count(b'"study_key"') for name, path in inputs.items() if name.isdigit())
    parts = {name[:-1] for name in inputs}  # cut up by `isolate`
    going = [name for name in inputs.keys() - parts if not cohort.shard(run_id, name).exists()]
    return planned, sum(max(position(cohort, run_id, name) or 0, 0) for name in going)


ALONE, OTHERS, AGAIN = "a", "b", "r"


def isolate(job: Job, shard_id: str, trouble: Reason) -> list[str]:
    """Cut up a shard whose worker died or stalled; returns the shards that are to be graded instead.

    | trouble                        | the study it was at                | the other studies |
    |--------------------------------|------------------------------------|-------------------|
    | worker died                    | a shard of its own, tried again    | one shard         |
    | worker died, already alone     | a row `failed`, study.worker_died  |                   |
    | over the time limit            | a row `failed`, study.time_limit   | one shard         |
    | died loading the models        | the whole shard again, twice                           |
    | died with the shard waiting    | the same shard again: another study's worker           |

    Raises ModicError where workers die again and again before they begin a study: then no study is to blame.
    """
    at = position(job.cohort, job.run_id, shard_id)
    work, config = read_input(job.cohort, job.run_id, shard_id)
    if at is None:
        return [shard_id]
    if at == LOADING:
        if shard_id.endswith(AGAIN * 2):
            raise ModicError("workers die before they begin a study: is there enough memory to load the models?")
        return [write_input(job.cohort, job.run_id, f"{shard_id}{AGAIN}", work, config).id]
    LOG.warning("shard %s, study %s: %s; the others are graded apart", shard_id, work[at].study_key, trouble)
    others = work[:at] + work[at + 1 :]
    parts = [write_input(job.cohort, job.run_id, f"{shard_id}{OTHERS}", others, config).id] if others else []
    if trouble is Reason.STUDY_WORKER_DIED and not shard_id.rstrip(AGAIN).endswith(ALONE):
        return [write_input(job.cohort, job.run_id, f"{shard_id}{ALONE}", work[at : at + 1], config).id, *parts]
    detail = f"limit {job.study_time_limit_s:g} s" if trouble is Reason.STUDY_TIME_LIMIT else "twice"
    rows = [row(work[at], StudyResult(rejected=Rejected(trouble, detail)))]
    write_output(job.cohort.shard(job.run_id, f"{shard_id}{ALONE}"), rows)
    return parts


def row(work: Work, result: StudyResult, **models: str) -> dict[str, Any]:
    """One row of `SCHEMA`.

    The study's other pairs are in the fingerprint unless it was graded without them: then they may come and go.
    """
    refused = result.rejected
    alone = refused is None and result.choice == 0
    return {
        "study_key": work.study_key,
        "fingerprint": work.fingerprint if alone else work.with_others or work.fingerprint,
        "choice": result.choice,
        "status": refused.study_status if refused else "graded",
        "reason": str(refused.reason) if refused else None,
        "detail": (refused.detail or None) if refused else None,
        "level_numbering": result.numbering,
        "p_numbering": result.p_numbering,
        "warnings": list(result.warnings),
        "seconds": list(result.seconds.items()),
        "levels": [level_row(level) for level in result.levels],
        **models,
    }


def level_row(level: LevelResult) -> dict[str, Any]:
    """The columns of `levels` that a level itself tells."""
    found, grade, refused = level.found, level.grade, level.rejected
    p = grade.p if grade else (None, None, None)
    return {
        "level": level.level,
        "status": level.status,
        "reason": str(refused.reason) if refused else None,
        "mc": grade.mc if grade else None,
        **dict(zip(("p_mc0", "p_mc1", "p_mc2"), p, strict=True)),
        "confidence": grade.confidence if grade else None,
        "prediction_set": list(grade.prediction_set) if grade else None,
        "abstained": grade.abstained if grade else None,
        "slice_disagreement": grade.slice_disagreement if grade else None,
        "level_score": found.score if found else None,
        **_numbers("t2", ("x0", "y0", "x1", "y1"), found.box if found else None),
        "t2_slice": found.slice_index if found else None,
        **_numbers("t1", ("x0", "y0", "x1", "y1"), level.t1_box),
        "t1_slice": level.t1_slice,
        **_numbers("mm", ("x0", "y0", "z0"), level.corner0_mm),
        **_numbers("mm", ("x1", "y1", "z1"), level.corner1_mm),
    }


def _numbers(prefix: str, names: tuple[str, ...], values: tuple[float, ...] | None) -> dict[str, float | None]:
    return {f"{prefix}_{name}": value for name, value in zip(names, values or (None,) * len(names), strict=True)}


def write_output(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a finished shard; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return path


def set_damaged_aside(cohort: Cohort) -> list[Path]:
    """Rename finished shards whose bytes are not what was written (`….parquet.damaged`); returns the new names.

    Their studies are graded again. Every page of a shard carries a checksum.
    """
    damaged = []
    for path in cohort.finished_shards():
        try:
            pq.read_table(path, partitioning=None, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None) is not None:  # the system cannot read it now: no word about its bytes
                raise
            damaged.append(path.rename(path.with_name(f"{path.name}.damaged")))
    return damaged


def ledger(cohort: Cohort) -> pa.Table:
    """Every row of every finished shard, oldest run first, with `run_id` added.

    Columns that the version which graded them did not know are null.
    """
    tables = [SCHEMA.empty_table().append_column("run_id", pa.array([], pa.string()))]
    for path in cohort.finished_shards():
        table = pq.read_table(path, partitioning=None)
        for name in set(SCHEMA.names) - set(table.column_names):
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
        table = table.select(SCHEMA.names).cast(SCHEMA)
        run_id = pa.array([path.parent.parent.name] * len(table), pa.string())
        tables.append(table.append_column("run_id", run_id))
    return pa.concat_tables(tables)


def latest(ledger: pa.Table) -> dict[tuple[str, str], int]:
    """(study_key, fingerprint) → the last row of `ledger` about it."""
    keys = zip(ledger["study_key"].to_pylist(), ledger["fingerprint"].to_pylist(), strict=True)
    return {key: index for index, key in enumerate(keys)}


def finished(ledger: pa.Table) -> set[tuple[str, str]]:
    """(study_key, fingerprint) of the studies that need no work: their last row is no failure to be tried again."""
    reasons = ledger["reason"].to_pylist()
    return {key for key, index in latest(ledger).items() if reasons[index] not in TRANSIENT}
