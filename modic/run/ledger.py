"""The ledger: the finished shards of all runs, which together hold every study that was graded."""

import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
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


KEY_COLUMNS = ("study_key", "fingerprint", "reason", "grading_version", "models_hash", "configuration_hash",
               "detector_id", "classifier_id")  # fmt: skip
KEYS = pa.schema(
    [("shard", pa.string()), ("crc", pa.uint32()), *map(SCHEMA.field, KEY_COLUMNS), ("run_id", pa.string())]
)
"""What is remembered of each row of the ledger; `shard`: `<run_id>/<shard_id>.parquet`, `crc`: of the file's bytes."""


def read_keys(cohort: Cohort, *, set_aside: bool = False) -> pa.Table:
    """`KEYS` of every row of every finished shard, oldest run first.

    They are remembered in `private/ledger.parquet`. A shard whose bytes are not those that were remembered is read
    again. Every page of a shard carries a checksum: if it is damaged it is no part of the ledger, so that its studies
    are graded again.

    `set_aside`: rename damaged shards (`….parquet.damaged`). Callers hold the lock of the cohort.
    """
    path = cohort.private / "ledger.parquet"
    known = _known_keys(path)
    crcs = dict(zip(known["shard"].to_pylist(), known["crc"].to_pylist(), strict=True))
    kept, tables = list[str](), list[pa.Table]()
    for shard in cohort.finished_shards():
        name, content = f"{shard.parent.parent.name}/{shard.name}", shard.read_bytes()
        crc = zlib.crc32(content)
        if crcs.get(name) == crc:
            kept.append(name)
        elif (table := _keys_of(content, name, crc)) is not None:
            tables.append(table)
        elif set_aside:
            shard.rename(shard.with_name(f"{shard.name}.damaged"))
    if not tables and len(kept) == len(crcs):
        return known
    old = known.filter(pc.is_in(known["shard"], pa.array(kept, pa.string())))
    keys = pa.concat_tables([old, *tables])
    keys = keys.take(pc.sort_indices(keys, [("shard", "ascending")])).combine_chunks()  # keeps the order within a shard
    write_table(keys, path)
    return keys


def _known_keys(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None, use_threads=False).select(KEYS.names).cast(KEYS)
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return KEYS.empty_table()


def _keys_of(content: bytes, shard: str, crc: int) -> pa.Table | None:
    """The keys of a shard; None if it is damaged."""
    try:
        table = pq.read_table(
            pa.BufferReader(content), partitioning=None, page_checksum_verification=True, use_threads=False
        )
    except (pa.ArrowException, OSError):
        return None
    table, n = _as_now(table), len(table)
    texts = {"shard": shard, "run_id": shard.partition("/")[0]}
    columns = {name: pa.array([text] * n, pa.string()) for name, text in texts.items()}
    columns |= {"crc": pa.array([crc] * n, pa.uint32()), **{name: table[name] for name in KEY_COLUMNS}}
    return pa.table([columns[name] for name in KEYS.names], schema=KEYS)


def about(keys: pa.Table, studies: pa.Table) -> pa.Table:
    """The rows of `read_keys` about studies with a `study_key`, in their order: a night's few, not the whole ledger."""
    return keys.filter(pc.is_in(keys["study_key"], studies["study_key"].combine_chunks()))


def read_rows(cohort: Cohort, keys: pa.Table) -> pa.Table:
    """The whole rows of the ledger, with `run_id`, for rows of `read_keys`, in their order; reads their shards."""
    names = (name.removesuffix(".parquet").split("/") for name in sorted(set(keys["shard"].to_pylist())))
    rows = _rows_of(cohort.shard(run_id, shard_id) for run_id, shard_id in names)
    index = latest(rows, "run_id")
    wanted = zip(*(keys[name].to_pylist() for name in ("study_key", "fingerprint", "run_id")), strict=True)
    at = [index[key] for key in wanted]
    in_order = at == [*range(len(rows))]  # then they are not copied twice
    return rows.combine_chunks() if in_order else rows.take(pa.array(at, pa.int64()))


def read_ledger(cohort: Cohort) -> pa.Table:
    """Every row of every finished shard, oldest run first, with `run_id` added.

    Columns that the version which graded them did not know are null.
    """
    return _rows_of(cohort.finished_shards())


def _rows_of(shards: Iterable[Path]) -> pa.Table:
    tables = [SCHEMA.empty_table().append_column("run_id", pa.array([], pa.string()))]
    for path in shards:
        table = _as_now(pq.read_table(path, partitioning=None, use_threads=False))
        run_id = pa.array([path.parent.parent.name] * len(table), pa.string())
        tables.append(table.append_column("run_id", run_id))
    return pa.concat_tables(tables)


def _as_now(table: pa.Table) -> pa.Table:
    """A finished shard of any version with the columns of `SCHEMA`."""
    table = table.rename_columns([RENAMED.get(name, name) for name in table.column_names])
    for name in set(SCHEMA.names) - set(table.column_names):
        table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    return table.select(SCHEMA.names).cast(SCHEMA)


def latest(ledger: pa.Table, *more: str) -> dict[tuple[str, ...], int]:
    """(study_key, fingerprint) → the last row of `ledger` about it. `more`: further columns of the key."""
    names = ("study_key", "fingerprint", *more)
    keys = zip(*(ledger[name].to_pylist() for name in names), strict=True)
    return {key: index for index, key in enumerate(keys)}


def finished(ledger: pa.Table) -> set[tuple[str, ...]]:
    """(study_key, fingerprint) of the studies that need no work: their last row is no failure to be tried again."""
    reasons = ledger["reason"].to_pylist()
    return {key for key, index in latest(ledger).items() if reasons[index] not in TRANSIENT}
