"""Records of a run → rows of the four tables. Nothing here decides a grade.

A row keeps the id of the run that made it: a graded study that of its grading; any other row that of the first run that
found the same, so that a run over an unchanged archive publishes identical rows.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modic.archive import patient_identity
from modic.archive.patient_identity import dicom_date, identity_value, is_no_date, study_date
from modic.cohort import began
from modic.deidentify.pseudonyms import Pseudonyms
from modic.deidentify.scanner_names import is_scanner_name
from modic.errors import Reason, Rejected
from modic.records import Excluded, Pair, Series
from modic.run.ledger import STUDY_FIELDS
from modic.tables.schema import KEYS, OLDEST, SCHEMAS
from modic.tables.store import with_column


def attributes(series: Series, keys: Pseudonyms) -> dict[str, Any]:
    """The columns of `studies` that come from a header."""
    header = series.header
    then = study_date(header)
    return {
        "study_year": then.year if then else None,
        "age_years": age_years(header),
        "sex": identity_value(header, "PatientSex"),
        "manufacturer": _scanner(header.get("Manufacturer"), keys),
        "scanner_model": _scanner(header.get("ManufacturerModelName"), keys),
        "field_strength_t": _number(header.get("MagneticFieldStrength")),
    }


def age_years(header: dict[str, Any]) -> int | None:
    """Completed years at the study, OLDEST at most; None if unknown or not to be believed."""
    age, _ = patient_identity.age_years(header)
    return None if age is None else min(age, OLDEST)


def identity_warnings(header: dict[str, Any], run_id: str) -> tuple[str, ...]:
    """Why the age, the date or the patient of a study is null or its own, though the header names one.

    A date after the run stays, since de-identified archives shift all dates of a patient: days and ages are right then.
    `run_id`: of the run, which tells its day.
    """
    _, age = patient_identity.age_years(header)
    date_, then, day = "", study_date(header), header.get("StudyDate")
    if not then:
        date_ = "StudyDate is a placeholder" if dicom_date(day) else "StudyDate is no date" if is_no_date(day) else ""
    elif then > began(run_id).date() + timedelta(days=1):  # it is tomorrow already elsewhere
        date_ = "StudyDate is after the day of the run"
    named = str(header.get("PatientID") or "").strip() and not identity_value(header, "PatientID")
    return tuple(filter(None, (age, date_, "PatientID is a placeholder" if named else "")))


def _scanner(value: Any, keys: Pseudonyms) -> str | None:
    text = " ".join(str(value or "").split())
    return (text if is_scanner_name(text) else keys.scanner(text)) if text else None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def study_rows(
    found: Iterable[tuple[Pair | Excluded, Series]], graded: dict[str, dict[str, Any]], keys: Pseudonyms, run_id: str
) -> list[dict[str, Any]]:
    """One row a study of the archive; `days_since_first_study` is counted by modic.run.memory.

    Args:
        found: the outcome of pairing for each study, and the series that its attributes are read from.
        graded: study key → row of the ledger (modic.run.ledger.SCHEMA and run_id) for every pair.
    """
    return [_study_row(outcome, series, graded, keys, run_id) for outcome, series in found]


def _study_row(
    outcome: Pair | Excluded, series: Series, graded: dict[str, dict[str, Any]], keys: Pseudonyms, run_id: str
) -> dict[str, Any]:
    key = keys.study(outcome.study_uid)
    if isinstance(outcome, Pair):
        outcome = replace(graded_pair(outcome, graded[key]), warnings=outcome.warnings)
    row = {"study_key": key, "patient_key": keys.patient(outcome.patient_id), **attributes(series, keys)}
    row |= {"pairing_rule": outcome.rule or None, "in_archive": True}
    warned = identity_warnings(series.header, run_id)
    if isinstance(outcome, Excluded):
        return row | _refusal(outcome.rejected) | {"warnings": "; ".join(warned) or None, "run_id": run_id}
    entry = graded[key]
    levels = [level["status"] for level in entry["levels"]]
    return row | {
        **{field.name: entry[field.name] for field in STUDY_FIELDS},
        "t1_series_key": series_key(outcome.t1, keys),
        "t2_series_key": series_key(outcome.t2, keys) if "t2" in outcome.contrasts else None,
        "stir_series_key": series_key(outcome.stir, keys) if outcome.stir else None,
        "overlap_fraction": outcome.overlap_fraction,
        "n_levels_graded": levels.count("graded"),
        "warnings": "; ".join((*warned, *outcome.warnings, *entry["warnings"])) or None,
        "run_id": entry["run_id"],
    }


def graded_pair(pair: Pair, entry: dict[str, Any]) -> Pair:
    """Which of the study's pairs its row of the ledger is about."""
    return pair.choices[entry["choice"] or 0]


def _refusal(rejected: Rejected) -> dict[str, Any]:
    return {
        "status": rejected.study_status,
        "reason": str(rejected.reason),
        "detail": rejected.detail or None,
        "n_levels_graded": 0,
    }


def series_key(series: Series, keys: Pseudonyms) -> str:
    """The pseudonym of a stack. Archives hold one series UID in two studies or of two patients, so both are in it."""
    return keys.series(" ".join((series.study_uid, series.series_uid, series.patient_id)), series.stack)


def series_rows(series: Iterable[Series], used: set[str], keys: Pseudonyms, run_id: str) -> list[dict[str, Any]]:
    """One row a stack; `used` holds the series keys of all pairs."""
    return [_series_row(stack, used, keys, run_id) for stack in series]


def _series_row(series: Series, used: set[str], keys: Pseudonyms, run_id: str) -> dict[str, Any]:
    key = series_key(series, keys)
    reason = series.rejected.reason if series.rejected else Reason.SERIES_NOT_CHOSEN
    row_mm, column_mm = series.pixel_spacing_mm or (None, None)
    return {
        "series_key": key,
        "study_key": keys.study(series.study_uid),
        "role": series.contrast,
        "role_evidence": series.contrast_evidence or None,
        "plane": series.plane,
        "repetition_time_ms": series.repetition_time_ms,
        "echo_time_ms": series.echo_time_ms,
        "inversion_time_ms": series.inversion_time_ms,
        "pixel_spacing_row_mm": row_mm,
        "pixel_spacing_column_mm": column_mm,
        "slice_spacing_mm": series.slice_spacing_mm,
        "slice_thickness_mm": series.slice_thickness_mm,
        "n_slices": series.n_slices,
        "status": "used" if key in used else "not_used",
        "reason": None if key in used else str(reason),
        "detail": (series.rejected.detail or None) if series.rejected else None,
        "warnings": "; ".join(map(str, series.warnings)) or None,
        "run_id": run_id,
    }


def level_rows(graded: pa.Table, patients: dict[str, str]) -> pa.Table:
    """Six rows for every graded study of the ledger rows `graded`; `patients`: study key → patient key."""
    graded = _with_versions(graded.filter(pc.equal(graded["status"], "graded"))).combine_chunks()
    lists = graded["levels"].combine_chunks() if len(graded) else pa.array([], graded.schema.field("levels").type)
    levels = pa.Table.from_struct_array(pc.list_flatten(lists))
    names = sorted(set(SCHEMAS["levels"].names) - {"patient_key", *levels.column_names})
    studies = graded.select(names).take(pc.list_parent_indices(lists))
    for name in names:
        levels = levels.append_column(name, studies[name])
    keys = [patients[key] for key in levels["study_key"].to_pylist()]
    return levels.append_column("patient_key", pa.array(keys, pa.string())).select(SCHEMAS["levels"].names)


def _with_versions(graded: pa.Table) -> pa.Table:
    """Rows from before the ledger held the grading version are of version 1."""
    return with_column(graded, "grading_version", pc.fill_null(graded["grading_version"], 1))


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table of `SCHEMAS[name]`; keys that a row lacks are null."""
    return pa.Table.from_pylist(rows, schema=SCHEMAS[name])


def keep_run_ids(name: str, new: pa.Table, old: pa.Table) -> pa.Table:
    """`new`, with the run id of `old` for each row that is equal in every other column."""
    old = old.cast(new.schema)
    before = old.take(pc.index_in(new[KEYS[name][0]], old[KEYS[name][0]]))
    same = pc.is_valid(before["run_id"])
    for column in set(new.column_names) - {"run_id"}:
        a, b = new[column], before[column]
        equal = pc.fill_null(pc.equal(a, b), False)
        same = pc.and_(same, pc.or_(equal, pc.and_(pc.is_null(a), pc.is_null(b))))
    return with_column(new, "run_id", pc.if_else(same, before["run_id"], new["run_id"]))


def with_gone(studies: pa.Table, old: pa.Table, stay: pa.Array) -> pa.Table:
    """`studies`, and the rows of `old` of every study that is gone from the archive, or that the run was not asked for.

    `stay`: keys of studies that are in the archive, but not in `studies`.
    """
    gone = pc.invert(pc.is_in(old["study_key"], studies["study_key"].combine_chunks()))
    kept = old.filter(gone).cast(studies.schema)
    return pa.concat_tables([studies, with_column(kept, "in_archive", pc.is_in(kept["study_key"], stay))])
