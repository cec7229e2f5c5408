"""The ledger: the finished shards of all runs, which together hold every study that was graded."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modic.cohort import Cohort
from modic.errors import TRANSIENT
from modic.files import make_folder, write_table
from modic.grades import CLASSES, P
from modic.records import ENDPLATE_COLUMNS, MARROW_COLUMNS, STIR_COLUMNS, Grade, LevelResult, StudyResult
from modic.run.shards import Grader, Work
from modic.tables.schema import SCHEMAS


def study_columns(result: StudyResult) -> dict[str, Any]:
    """The columns of `studies` that grading fills. The ledger holds exactly these, under the same names."""
    refused = result.rejected
    return {
        "status": refused.study_status if refused else "graded",
        "reason": str(refused.reason) if refused else None,
        "detail": (refused.detail or None) if refused else None,
        "level_numbering": result.numbering,
        "level_numbering_probability": result.p_numbering,
        "numbering_basis": result.numbering_basis,
        **{f"transitional_{name}": value for name, value in asdict(result.transitional).items()},
    }


def level_row(level: LevelResult) -> dict[str, Any]:
    """The columns of `levels` that grading fills. The ledger holds exactly these, under the same names."""
    found, grade, refused = level.found, level.grade, level.rejected
    return {
        "level": level.level,
        "status": level.status,
        "reason": str(refused.reason) if refused else None,
        **grade_columns(grade),
        "level_score": found.score if found else None,
        **_numbers("t2", ("x0", "y0", "x1", "y1"), found.box if found and level.on_t2 else None),
        "t2_slice": found.slice_index if found and level.on_t2 else None,
        **_numbers("t1", ("x0", "y0", "x1", "y1"), level.t1_box),
        "t1_slice": level.t1_slice,
        **_numbers("mm", ("x0", "y0", "z0"), level.corner0_mm),
        **_numbers("mm", ("x1", "y1", "z1"), level.corner1_mm),
        **{name: level.marrow.get(name) for name in (*MARROW_COLUMNS, *STIR_COLUMNS)},
        **{name: level.endplates.get(name) for name in ENDPLATE_COLUMNS},
    }


def grade_columns(grade: Grade | None) -> dict[str, Any]:
    """Those of them that the classifier's head decides; with ENDPLATE_COLUMNS, all that a new head changes."""
    return {
        "mc": grade.mc if grade else None,
        **dict(zip(P, grade.p if grade else (None,) * CLASSES, strict=True)),
        "confidence": grade.confidence if grade else None,
        "prediction_set": list(grade.prediction_set) if grade else None,
        "abstained": grade.abstained if grade else None,
        "abstained_reason": str(grade.abstained_reason) if grade and grade.abstained_reason else None,
        "slice_disagreement": grade.slice_disagreement if grade else None,
    }


def _numbers(prefix: str, names: tuple[str, ...], values: tuple[float, ...] | None) -> dict[str, float | None]:
    return {f"{prefix}_{name}": value for name, value in zip(names, values or (None,) * len(names), strict=True)}


def _plain(table: str, names: Iterable[str]) -> list[pa.Field]:
    return [pa.field(name, SCHEMAS[table].field(name).type) for name in names]


STUDY_FIELDS = _plain("studies", study_columns(StudyResult()))
LEVEL_FIELDS = _plain("levels", level_row(LevelResult("", "not_found")))
SCHEMA = pa.schema(
    [
        ("study_key", pa.string()),
        ("fingerprint", pa.string()),
        ("cause", pa.string()),  # why it was graded (modic.run.cause.Cause)
        ("choice", pa.int32()),  # which of modic.records.Pair.choices the row is about
        *STUDY_FIELDS,
        ("warnings", pa.list_(pa.string())),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("normalization", pa.string()),
        ("detector_id", pa.string()),
        ("classifier_id", pa.string()),
        ("device", pa.string()),
        ("grading_version", pa.int16()),  # this and the next three: null in older rows, which are of version 1
        ("grader_id", pa.string()),
        ("configuration_hash", pa.string()),
        ("models_hash", pa.string()),
        ("encoding", pa.string()),  # the fingerprint without calibration and `[grading]`; null in older rows
        ("levels", pa.list_(pa.struct(LEVEL_FIELDS))),
    ]
)
"""One row a study of a finished shard."""

RENAMED = {"p_numbering": "level_numbering_probability"}
"""Columns that had another name in shards of earlier versions."""


def row(work: Work, result: StudyResult, grader: Grader, **models: str) -> dict[str, Any]:
    """One row of `SCHEMA`. `models`: modic.models.weights.Models.identity, if a worker got as far as loading them.

    The study's other pairs are in the fingerprint unless it was graded without them: then they may come and go.
    """
    alone = result.rejected is None and result.choice == 0
    return {
        "study_key": work.study_key,
        "fingerprint": work.fingerprint if alone else work.with_others or work.fingerprint,
        "encoding": (work.encoding if alone else work.encoding_with_others or work.encoding) or None,
        "cause": work.cause or None,
        "choice": result.choice,
        **study_columns(result),
        "warnings": list(result.warnings),
        "seconds": list(result.seconds.items()),
        "grading_version": grader.version,
        "grader_id": grader.id,
        "configuration_hash": grader.configuration,
        "models_hash": grader.models,
        "levels": [level_row(level) for level in result.levels],
        **models,
    }


def write_output(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a finished shard; it appears whole or not at all."""
    make_folder(path.parent)
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
            if getattr(error, "errno", None) is not None:  # the system cannot read the file now: its bytes may be sound
                raise
            damaged.append(path.rename(path.with_name(f"{path.name}.damaged")))
    return damaged


def read_ledger(cohort: Cohort) -> pa.Table:
    """Every row of every finished shard, oldest run first, with `run_id` added.

    Columns that the version which graded them did not know are null.
    """
    tables = [SCHEMA.empty_table().append_column("run_id", pa.array([], pa.string()))]
    for path in cohort.finished_shards():
        table = _as_now(pq.read_table(path, partitioning=None))
        run_id = pa.array([path.parent.parent.name] * len(table), pa.string())
        tables.append(table.append_column("run_id", run_id))
    return pa.concat_tables(tables)


def _as_now(table: pa.Table) -> pa.Table:
    """A finished shard of any version with the columns of `SCHEMA`."""
    table = table.rename_columns([RENAMED.get(name, name) for name in table.column_names])
    for name in set(SCHEMA.names) - set(table.column_names):
        table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    return table.select(SCHEMA.names).cast(SCHEMA)


def latest(ledger: pa.Table) -> dict[tuple[str, str], int]:
    """(study_key, fingerprint) → the last row of `ledger` about it."""
    keys = zip(ledger["study_key"].to_pylist(), ledger["fingerprint"].to_pylist(), strict=True)
    return {key: index for index, key in enumerate(keys)}


def finished(ledger: pa.Table) -> set[tuple[str, str]]:
    """(study_key, fingerprint) of the studies that need no work: their last row is no failure to be tried again."""
    reasons = ledger["reason"].to_pylist()
    return {key for key, index in latest(ledger).items() if reasons[index] not in TRANSIENT}
