"""The four tables of a cohort: what each column means, what each row must obey, and how they are published as one.

`SCHEMAS` is the contract with everyone who reads a cohort. A column that it does not describe cannot be written.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.cohort import sync_directory
from modic.errors import ModicError, Reason
from modic.records import LEVELS

SCHEMA_VERSION = 1
ROWS = {
    "studies": "one MR study found in the archive, whether graded or not",
    "series": "one stack of images of a study, with what it is and whether it was used",
    "levels": "one of the six levels of a graded study; every graded study has all six",
    "runs": "one finished run of the pipeline over the archive",
}
"""What one row of each table is."""

KEYS = {"studies": ("study_key",), "series": ("series_key",), "levels": ("study_key", "level"), "runs": ("run_id",)}
"""The columns that name a row. Tables are published sorted by them, levels from head to foot."""

TEXT, COUNT, REAL = pa.string(), pa.int64(), pa.float32()


def _column(name: str, kind: pa.DataType, description: str, *, null: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={"description": description})


def _schema(table: str, columns: list[pa.Field]) -> pa.Schema:
    return pa.schema(columns, metadata={"schema_version": str(SCHEMA_VERSION), "row": ROWS[table]})


def _box(prefix: str, pixels: str, slices: str) -> list[pa.Field]:
    sides = {"x0": "smaller column", "y0": "smaller row", "x1": "larger column", "y1": "larger row"}
    corners = [
        _column(
            f"{prefix}_{corner}",
            REAL,
            f"box of the disc, {side}, in pixels of the {pixels}; 0 is the first pixel's centre",
        )
        for corner, side in sides.items()
    ]
    return [*corners, _column(f"{prefix}_slice", pa.int32(), f"slice of the box in the {pixels}, from 0, {slices}")]


def _mm_box() -> list[pa.Field]:
    sides = {"x": "+ to the patient's left", "y": "+ to posterior", "z": "+ to the head"}
    return [
        _column(
            f"mm_{axis}{corner}",
            REAL,
            f"corner {corner} of the box on T2, patient coordinates (LPS) in mm, {axis}: {way}",
        )
        for corner in (0, 1)
        for axis, way in sides.items()
    ]


RUN_OF_ROW = _column("run_id", TEXT, "the run whose work this row is (runs.run_id)", null=False)
STUDY = _column("study_key", TEXT, "pseudonym of the study: keyed hash of its UID", null=False)
PATIENT = _column("patient_key", TEXT, "pseudonym of the patient: keyed hash of the patient id", null=False)

UNLISTED = "`unlisted_` and a keyed hash where the text is no known scanner's name (modic.scanners)"
STUDIES = [
    STUDY,
    PATIENT,
    _column("study_year", pa.int16(), "calendar year of the study"),
    _column(
        "days_since_first_study",
        pa.int32(),
        "days since the same patient's first study in this archive; 0 for the first",
    ),
    _column("age_years", pa.int16(), "the patient's age at the study in completed years"),
    _column("sex", TEXT, "F, M or O, as DICOM PatientSex; null where blank"),
    _column("manufacturer", TEXT, f"manufacturer of the scanner; {UNLISTED}"),
    _column("scanner_model", TEXT, f"the manufacturer's name of the scanner model; {UNLISTED}"),
    _column("field_strength_t", REAL, "field strength in tesla"),
    _column("status", TEXT, "graded; excluded (by rule); or failed (by trouble: a later run may cure it)", null=False),
    _column("reason", TEXT, "why not graded, from a closed list; null for graded studies"),
    _column("detail", TEXT, "more about the reason: numbers and DICOM keywords"),
    _column("t1_series_key", TEXT, "the T1 series used (series.series_key)"),
    _column("t2_series_key", TEXT, "the T2 series used (series.series_key)"),
    _column("overlap_fraction", REAL, "share of the T2 stack's extent that the T1 stack also covers, 0-1"),
    _column("n_levels_graded", pa.int8(), "levels of this study with status graded, 0-6", null=False),
    _column("level_numbering", TEXT, "ok, or uncertain: the names of the levels may be shifted; null where not graded"),
    _column("level_numbering_probability", REAL, "probability that the names of all six levels are right, 0-1"),
    _column("warnings", TEXT, "what was accepted with a warning in T1, T2 or the pair, cut by `; `; null for none"),
    RUN_OF_ROW,
]
SERIES = [
    _column("series_key", TEXT, "pseudonym of the stack: keyed hash of series UID and stack number", null=False),
    STUDY,
    _column("role", TEXT, "what the images are: t1, t2, stir, t2_fat_suppressed, localizer, …, unknown", null=False),
    _column("role_evidence", TEXT, "the physics that decided the role"),
    _column("plane", TEXT, "sagittal, axial, coronal, oblique or unknown", null=False),
    _column("repetition_time_ms", REAL, "repetition time TR in ms"),
    _column("echo_time_ms", REAL, "echo time TE in ms"),
    _column("inversion_time_ms", REAL, "inversion time TI in ms; null without an inversion"),
    _column("pixel_spacing_row_mm", REAL, "distance between neighbouring rows in mm"),
    _column("pixel_spacing_column_mm", REAL, "distance between neighbouring columns in mm"),
    _column("slice_spacing_mm", REAL, "distance between neighbouring slices in mm, measured from their positions"),
    _column("slice_thickness_mm", REAL, "thickness of a slice in mm"),
    _column("n_slices", pa.int32(), "number of slices", null=False),
    _column("status", TEXT, "used (one of the two series graded) or not_used", null=False),
    _column("reason", TEXT, "why not used, from a closed list; null for used series"),
    _column("detail", TEXT, "more about the reason: numbers and DICOM keywords"),
    _column("warnings", TEXT, "what was accepted with a warning, cut by `; `; null for none"),
    RUN_OF_ROW,
]
LEVEL_COLUMNS = [
    STUDY,
    PATIENT,
    _column("level", TEXT, f"the disc and both its endplates: {', '.join(LEVELS)}", null=False),
    _column("status", TEXT, "graded; not_found on T2; or unreadable (found, but no region could be cut)", null=False),
    _column("reason", TEXT, "why not graded, from a closed list; null for graded levels"),
    _column(
        "mc",
        pa.int8(),
        "Modic change: 0 none, 1 type 1, 2 type 2; null where abstained or not graded, never 0 for that",
    ),
    _column("p_mc0", REAL, "calibrated probability of no Modic change, 0-1"),
    _column("p_mc1", REAL, "calibrated probability of Modic change type 1, 0-1"),
    _column("p_mc2", REAL, "calibrated probability of Modic change type 2, 0-1"),
    _column("confidence", REAL, "the largest of the three probabilities"),
    _column(
        "prediction_set", pa.list_(pa.int8()), "grades that cannot be ruled out (conformal prediction); may be empty"
    ),
    _column("abstained", pa.bool_(), "true where the prediction set is not a single grade, and so mc is null"),
    _column("level_score", REAL, "the detector's score of the disc's box, 0-1"),
    *_box("t2", "T2 series", "in order of position towards the patient's left"),
    *_box("t1", "T1 series", "in order of position towards the patient's left"),
    *_mm_box(),
    _column("normalization", TEXT, "grey-level normalization that the classifier was trained with"),
    _column("detector_id", TEXT, "first 12 hex digits of the SHA-256 of the detector's weights", null=False),
    _column("classifier_id", TEXT, "first 12 hex digits of the SHA-256 of the classifier's weights", null=False),
    RUN_OF_ROW,
]
UTC = pa.timestamp("us", tz="UTC")
RUNS = [
    _column("run_id", TEXT, "name of the run; sorts by time", null=False),
    _column("started", UTC, "when the run began", null=False),
    _column("finished", UTC, "when its tables were published", null=False),
    _column("code_version", TEXT, "version of modic", null=False),
    _column("configuration_hash", TEXT, "hash of the options that can change a grade", null=False),
    _column("detector_id", TEXT, "first 12 hex digits of the SHA-256 of the detector's weights", null=False),
    _column("classifier_id", TEXT, "first 12 hex digits of the SHA-256 of the classifier's weights", null=False),
    _column("device", TEXT, "where the networks ran: cpu, cuda or auto", null=False),
    _column("files_seen", COUNT, "files in the archive = files_read + files_unchanged + files_rejected", null=False),
    _column("files_read", COUNT, "files whose header was read in this run", null=False),
    _column("files_unchanged", COUNT, "files known from an earlier run and not opened again", null=False),
    _column("files_rejected", COUNT, "files that are not usable MR images, whenever that was found", null=False),
    _column(
        "files_rejected_by_reason", TEXT, "JSON object: reason → number of files; sums to files_rejected", null=False
    ),
    _column(
        "studies_found",
        COUNT,
        "rows of studies = studies_graded + studies_excluded + studies_failed",
        null=False,
    ),
    _column("studies_graded", COUNT, "studies with grades, of this or an earlier run", null=False),
    _column("studies_excluded", COUNT, "studies that a rule leaves out", null=False),
    _column("studies_failed", COUNT, "studies that trouble left without grades", null=False),
    _column("studies_by_reason", TEXT, "JSON object: reason → number of studies not graded", null=False),
]
SCHEMAS: dict[str, pa.Schema] = {
    name: _schema(name, columns)
    for name, columns in {"studies": STUDIES, "series": SERIES, "levels": LEVEL_COLUMNS, "runs": RUNS}.items()
}


def _reasons(step: str) -> frozenset[str]:
    return frozenset(str(reason) for reason in Reason if reason.startswith(f"{step}."))


CLOSED: dict[tuple[str, str], frozenset[str]] = {
    ("studies", "status"): frozenset({"graded", "excluded", "failed"}),
    ("studies", "reason"): _reasons("study") | _reasons("series") | _reasons("file"),
    ("studies", "sex"): frozenset({"F", "M", "O"}),
    ("studies", "level_numbering"): frozenset({"ok", "uncertain"}),
    ("series", "status"): frozenset({"used", "not_used"}),
    ("series", "reason"): _reasons("series"),
    ("series", "plane"): frozenset({"sagittal", "axial", "coronal", "oblique", "unknown"}),
    ("levels", "level"): frozenset(LEVELS),
    ("levels", "status"): frozenset({"graded", "not_found", "unreadable"}),
    ("levels", "reason"): _reasons("level"),
}
"""Closed lists: table and column → every value it may hold besides null."""


def enforce(name: str, table: pa.Table) -> pa.Table:
    """`table` with exactly the columns and types of `SCHEMAS[name]`, sorted by its keys.

    Raises ValueError where a column is missing or not described, a value does not fit its type, a required value is
    null or not of its closed list, or two rows share a key.
    """
    schema = SCHEMAS[name]
    if wrong := set(table.column_names) ^ set(schema.names):
        raise ValueError(f"{name}: missing or undescribed columns: {', '.join(sorted(wrong))}")
    for field in schema:
        if not field.nullable and (n := table[field.name].null_count):
            raise ValueError(f"{name}.{field.name} is null in {n} rows")
    table = table.select(schema.names).cast(schema)
    for field in schema:
        column = table[field.name]
        allowed = CLOSED.get((name, field.name))
        if allowed and (strange := set(pc.unique(column).to_pylist()) - allowed - {None}):
            raise ValueError(f"{name}.{field.name} holds {sorted(strange)}, which is not of its closed list")
    _check_keys(name, table)
    return _sorted(name, table)


def _check_keys(name: str, table: pa.Table) -> None:
    keys = list(KEYS[name])
    if len(table.group_by(keys).aggregate([])) != len(table):
        raise ValueError(f"{name}: two rows share one {' and '.join(keys)}")


def _sorted(name: str, table: pa.Table) -> pa.Table:
    order = [pc.index_in(table[key], pa.array(LEVELS)) if key == "level" else table[key] for key in KEYS[name]]
    keys = pa.table(order, names=list(KEYS[name]))
    return table.take(pc.sort_indices(keys, sort_keys=[(key, "ascending") for key in KEYS[name]])).combine_chunks()


def check_together(tables: Mapping[str, pa.Table]) -> None:
    """Raise ValueError unless every graded study has its six levels, and no other study any."""
    studies = tables["studies"]
    graded = set(studies.filter(pc.equal(studies["status"], "graded"))["study_key"].to_pylist())
    counted = tables["levels"].group_by("study_key").aggregate([("level", "count")])
    counts = dict(zip(counted["study_key"].to_pylist(), counted["level_count"].to_pylist(), strict=True))
    wrong = sorted(key for key in graded | counts.keys() if counts.get(key, 0) != (len(LEVELS) if key in graded else 0))
    if wrong:
        raise ValueError(f"levels: not six rows for each graded study and none for others: {', '.join(wrong[:5])}")


def write_table(table: pa.Table, path: Path) -> None:
    """Write `path` so that it appears whole or not at all, also after a kill or a power cut.

    Until it is whole it lies beside `path` under a hidden name that pandas, pyarrow and DuckDB all pass over.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part.parquet.tmp")
    with temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd", row_group_size=100_000, write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def publish(cohort_root: Path, tables: Mapping[str, pa.Table], run_id: str) -> Path:
    """Make `tables` (all four of `SCHEMAS`) the cohort's current ones in one atomic step; returns their folder.

    `current` is a link to `.tables/<run_id>…`; replacing the link is the step. The folder it pointed to before stays
    for readers who have it open, older ones go. One caller at a time (modic.cohort.Cohort.lock).
    Raises ValueError where the tables break a rule of `enforce` or `check_together`; then nothing is changed.
    """
    if tables.keys() != SCHEMAS.keys():
        raise ValueError(f"publish needs exactly {', '.join(SCHEMAS)}")
    ready = {name: enforce(name, tables[name]) for name in SCHEMAS}
    check_together(ready)
    folder = cohort_root / ".tables" / f"{run_id}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    for name, table in ready.items():
        write_table(table, folder / f"{name}.parquet")
    sync_directory(folder.parent)
    previous = _point_current(cohort_root, folder)
    for other in folder.parent.iterdir():
        if other not in (folder, previous):
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _point_current(cohort_root: Path, folder: Path) -> Path:
    """Replace the link `current`; returns the folder that it led to before."""
    current = cohort_root / "current"
    previous = folder.parent / (current.readlink().name if current.is_symlink() else "copied")
    if current.is_dir() and not current.is_symlink():  # a copy of a cohort made without links
        shutil.rmtree(previous, ignore_errors=True)
        current.rename(previous)
    link = cohort_root / f".current.{secrets.token_hex(4)}.tmp"
    link.symlink_to(folder.relative_to(cohort_root))
    link.replace(current)
    sync_directory(cohort_root)
    for stale in cohort_root.glob(".current.*.tmp"):
        stale.unlink(missing_ok=True)
    return previous


def read_table(cohort_root: Path, name: str) -> pa.Table:
    """One published table; an empty one of the right columns where no run has finished yet.

    Columns that an earlier version did not know are null. Raises ModicError where the file is damaged: rows of studies
    that left the archive are nowhere else.
    """
    path = cohort_root / "current" / f"{name}.parquet"
    if not path.exists():
        return SCHEMAS[name].empty_table()
    try:
        table = pq.read_table(path, partitioning=None)
    except pa.ArrowException as error:
        raise ModicError(
            f"{path} is damaged; restore it from a backup, or delete `current`: the next run makes it anew from the"
            " finished shards, without the studies that left the archive"
        ) from error
    for field in SCHEMAS[name]:
        if field.name not in table.column_names and field.nullable:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(SCHEMAS[name].names)


def dictionary() -> str:
    """The data dictionary: a Markdown table for each of the four tables, made from the descriptions in `SCHEMAS`."""
    return "\n".join(line for name in SCHEMAS for line in _dictionary_of(name))


def _dictionary_of(name: str) -> list[str]:
    lines = [f"## {name}", "", f"One row is {ROWS[name]}. Key: {', '.join(KEYS[name])}.", ""]
    lines += ["| column | type | null | meaning |", "|---|---|---|---|"]
    for field in SCHEMAS[name]:
        meaning = field.metadata[b"description"].decode()
        lines.append(f"| `{field.name}` | {field.type} | {'yes' if field.nullable else 'no'} | {meaning} |")
    return [*lines, ""]
