"""A made-up cohort, published as a run would: no images, no models, every status and several reasons."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from modic.records import LEVELS
from modic.tables.schema import SCHEMAS
from modic.tables.store import publish

RUN = "20261123T200000Z-1f0c"
MODELS = {"detector_id": "0123456789ab", "classifier_id": "ba9876543210"}
NOT_GRADED = [
    ("excluded", "study.no_sagittal_t1"),
    ("excluded", "study.little_overlap"),
    ("failed", "study.worker_died"),
]
SCANNERS = [
    ("SIEMENS", "Aera", 1.5),
    ("Philips", "Ingenia", 3.0),
    ("HITACHI", "Aperto <Lucent>", 0.4),
    (None, None, None),
]


def key(kind: str, number: int) -> str:
    """A key as modic.deidentify.pseudonyms makes them."""
    return f"{kind}_{number:016x}"


def study(number: int, status: str = "graded", reason: str | None = None, **more: Any) -> dict[str, Any]:
    """One row of `studies`; two studies in a row are of one patient."""
    manufacturer, model, field = SCANNERS[number % len(SCANNERS)]
    graded = status == "graded"
    return {
        "study_key": key("s", number), "patient_key": key("p", number // 2),
        "study_year": 2015 + number // 2 % 8 + number % 2,
        "days_since_first_study": 400 * (number % 2), "age_years": 30 + number % 50, "sex": "FM"[number % 2],
        "manufacturer": manufacturer, "scanner_model": model, "field_strength_t": field,
        "status": status, "reason": reason,
        "t1_series_key": key("r", 2 * number) if graded else None,
        "t2_series_key": key("r", 2 * number + 1) if graded else None,
        "overlap_fraction": 1.0 if graded else None, "n_levels_graded": 5 if graded else 0,
        "level_numbering": ("uncertain" if number % 7 == 0 else "ok") if graded else None,
        "level_numbering_probability": (0.62 if number % 7 == 0 else 0.98) if graded else None,
        "numbering_basis": "sacrum" if graded else None, "transitional_suspected": number % 5 == 0 if graded else None,
        "transitional_probability": (0.7 if number % 5 == 0 else 0.05) if graded else None,
        "transitional_reason": "disc more" if graded and number % 5 == 0 else None, "in_archive": True,
        "run_id": RUN, **more,
    }  # fmt: skip


def series(number: int, *, used: bool = True) -> list[dict[str, Any]]:
    """The T1 and T2 of one study."""
    return [
        {
            "series_key": key("r", 2 * number + index),
            "study_key": key("s", number),
            "role": role,
            "plane": "sagittal",
            "role_evidence": f"SE → {role}",
            "repetition_time_ms": 500.0,
            "echo_time_ms": 12.0,
            "n_slices": 15,
            "status": "used" if used else "not_used",
            "reason": None if used else "series.not_chosen",
            "run_id": RUN,
        }
        for index, role in enumerate(("t1", "t2"))
    ]


def levels(number: int) -> list[dict[str, Any]]:
    """Six rows: T12/L1 not found, one abstention now and then, the rest MC0, MC1 or MC2."""
    return [_level(number, place, name) for place, name in enumerate(LEVELS)]


def _level(number: int, place: int, name: str) -> dict[str, Any]:
    row = {"study_key": key("s", number), "patient_key": key("p", number // 2), "level": name, **MODELS, "run_id": RUN}
    row["normalization"] = "standardize"
    if place == 0:
        return row | {"status": "not_found", "reason": "level.not_detected"}
    mc = (number * 5 + place) % 11 % 4 % 3
    abstained = (number + place) % 9 == 0
    p = [0.1, 0.1, 0.1]
    p[mc] = 0.8
    top = -35.0 * place
    return row | {
        "status": "graded", "mc": None if abstained else mc, "confidence": 0.8,
        "p_mc0": p[0], "p_mc1": p[1], "p_mc2": p[2],
        "prediction_set": [0, mc or 1] if abstained else [mc], "abstained": abstained, "slice_disagreement": 0.1,
        "level_score": 0.97,
        "t2_x0": 200.0, "t2_y0": 60.0 * place, "t2_x1": 260.0, "t2_y1": 60.0 * place + 30, "t2_slice": 7,
        "t1_x0": 100.0, "t1_y0": 30.0 * place, "t1_x1": 130.0, "t1_y1": 30.0 * place + 15, "t1_slice": 7,
        "mm_x0": 1.0, "mm_y0": -20.0, "mm_z0": top, "mm_x1": 1.0, "mm_y1": 20.0, "mm_z1": top - 12,
    }  # fmt: skip


def run(studies: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The row of `runs` that counts `studies`."""
    counts = {status: sum(row["status"] == status for row in studies) for status in ("graded", "excluded", "failed")}
    reasons = [row["reason"] for row in studies if row["reason"]]
    return {
        "run_id": RUN, "started": datetime(2026, 11, 23, 20, 0, tzinfo=UTC), "code_version": "0.1.0", "device": "cpu",
        "finished": datetime(2026, 11, 23, 23, 12, tzinfo=UTC), "configuration_hash": "c0ffee123456", **MODELS,
        "files_seen": 1000, "files_read": 900, "files_unchanged": 40, "files_rejected": 60,
        "files_rejected_by_reason": json.dumps({"file.not_dicom": 41, "file.truncated": 19}),
        "studies_found": len(studies), **{f"studies_{status}": n for status, n in counts.items()},
        "studies_by_reason": json.dumps({reason: reasons.count(reason) for reason in sorted(set(reasons))}), **more,
    }  # fmt: skip


def make_rows(graded: int = 8) -> dict[str, list[dict[str, Any]]]:
    """Rows of all four tables: `graded` graded studies and one of each of NOT_GRADED."""
    studies = [study(number) for number in range(graded)]
    studies += [study(graded + i, *status) for i, status in enumerate(NOT_GRADED)]
    return {
        "studies": studies,
        "series": [row for n in range(len(studies)) for row in series(n, used=n < graded)],
        "levels": [row for n in range(graded) for row in levels(n)],
        "runs": [run(studies)],
    }


def as_tables(rows: dict[str, list[dict[str, Any]]]) -> dict[str, pa.Table]:
    """Rows as tables of the published types."""
    return {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in SCHEMAS.items()}


def make_cohort(root: Path, graded: int = 8) -> Path:
    """Publish `make_rows` at `root`; returns `root`."""
    publish(root, as_tables(make_rows(graded)), RUN)
    return root
