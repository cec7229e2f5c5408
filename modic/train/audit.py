"""`modic evaluate classifier --audit GRADES.csv`: what the grader adds to how degenerate a disc is.

The grades come from a file in the format of SPIDER's gradings (`AUDIT_HELP`); what is measured of them is in
modic/statistics/audit.py. Only real discs are audited, as they are, without painted lesions.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import UsageError
from modic.grading.classify import prediction_set, softmax
from modic.records import LEVELS
from modic.statistics.audit import (
    ADDED,
    BASE,
    JOINED,
    SHORT_CUT,
    WITHIN,
    Audited,
    audit_metrics,
    nested_scores,
    used,
)
from modic.statistics.metric_tables import Table, cell, count, with_intervals
from modic.train.augment.lesions import disc_frame
from modic.train.augment.regions import Example
from modic.train.data.disc_geometry import DiscGeometry

if TYPE_CHECKING:
    from modic.models.weights import Model
    from modic.train.options import ClassifierTraining

AUDIT_HELP = """\
--audit GRADES.csv, in the format of SPIDER's radiological_gradings.csv, one row a disc:
  Patient          as the data name the patient
  IVD label        1 is L5/S1, 2 is L4/L5, and so on upwards to 6, T12/L1; others are passed over
  Pfirrman grade   1-5 (or "Pfirrmann grade", "Pfirrmann"); rows without one are passed over
  Disc narrowing   0 or 1 (optional; or "narrowing")
  Modic            0-3 (optional): rows of another type than the label in --data are passed over and counted
Upper and lower case are alike; other columns (endplates, herniation, …) are ignored."""
NAMES = {
    "patient": ("patient",), "disc": ("ivd label",),
    "pfirrmann": ("pfirrman grade", "pfirrmann grade", "pfirrmann"),
    "narrowing": ("disc narrowing", "narrowing"), "modic": ("modic",),
}  # fmt: skip
GROUP = "real, audited"
ON_ENDPLATES: tuple[str, str] = ("share of the map on the endplates", "MC2 called MC2")
BAND = (-0.04, 0.35)  # disc widths from the endplate: the endplate and the marrow where Modic changes lie
INSIDE = 0.56  # disc widths to either side of its middle: front and back of the vertebral body


@dataclass(frozen=True, slots=True)
class DiscGrades:
    """A row of GRADES.csv. `narrowing` and `modic` are None if the file does not say."""

    pfirrmann: int
    narrowing: int | None = None
    modic: int | None = None


def read_grades(path: Path) -> dict[tuple[str, str], DiscGrades]:
    """Patient and level → grades. Raises UsageError naming the file if it cannot be read or lacks a column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = _columns(reader.fieldnames or (), path)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--audit {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    grades = {}
    for line, row in enumerate(rows, 2):
        value = {
            name: _number(row[column], column, path, line) for name, column in columns.items() if name != "patient"
        }
        disc, pfirrmann = value["disc"], value["pfirrmann"]
        if disc is not None and 1 <= disc <= len(LEVELS) and pfirrmann is not None and 1 <= pfirrmann <= 5:
            key = (row[columns["patient"]].strip(), LEVELS[-disc])
            grades[key] = DiscGrades(pfirrmann, value.get("narrowing"), value.get("modic"))
    return grades


def _columns(header: Sequence[str], path: Path) -> dict[str, str]:
    known = {name.strip().lower(): name for name in header}
    columns = {ours: known[name] for ours, names in NAMES.items() for name in names if name in known}
    lacking = [NAMES[ours][0] for ours in ("patient", "disc", "pfirrmann") if ours not in columns]
    if lacking:
        raise UsageError(f"--audit {path} lacks a column `{lacking[0]}`; `modic evaluate classifier --help` says which")
    return columns


def _number(text: str | None, column: str, path: Path, line: int) -> int | None:
    try:
        return int(float(text)) if text and text.strip() else None
    except ValueError as error:
        raise UsageError(f"--audit {path}, line {line}: `{column}` is {text!r}, no number") from error


def audited_discs(
    examples: list[Example], p: np.ndarray, quantiles: np.ndarray, grades: dict[tuple[str, str], DiscGrades]
) -> tuple[Audited, list[int]]:
    """Real discs with a grade of degeneration, and which examples they are.

    Args:
        examples: of the evaluation; painted and synthetic ones are passed over.
        p: float (n, 3), calibrated probabilities of the examples.
        quantiles: of the conformal sets, (3,).

    Raises UsageError if there is none.
    """
    keys = [(e.disc.patient, e.disc.level) for e in examples]
    rows = [
        i for i, (e, key) in enumerate(zip(examples, keys, strict=True))
        if e.real and key in grades and grades[key].modic in (None, e.label)
    ]  # fmt: skip
    if not rows:
        raise UsageError("--audit: no disc of these data is in the file; it names patients and discs as --data does")
    known, chosen = [grades[keys[i]] for i in rows], [examples[i] for i in rows]
    sets = [prediction_set(p[i], quantiles) for i in rows]
    return Audited(
        p[rows], np.array([e.label for e in chosen]), np.array([g.pfirrmann for g in known]),
        np.array([np.nan if g.narrowing is None else g.narrowing for g in known], float),
        [e.disc.level for e in chosen], [e.disc.patient for e in chosen],
        np.array([one[0] if len(one) == 1 else -1 for one in sets]),
    ), rows  # fmt: skip


def measure_audit(audited: Audited, **shared: str) -> list[dict[str, Any]]:
    """Rows of metrics (modic.statistics.metric_tables.METRICS) with intervals by patient."""
    statistic = partial(audit_metrics, audited, nested_scores(audited))
    return with_intervals(statistic, list(audited.patients), partial(used, audited), **shared)


def audit_tables(rows: list[dict[str, Any]]) -> list[Table]:
    """What is told from degeneration, and what happens to discs without a change by their grade."""
    overall = [
        (
            metric if which in ("all", "MC1") else f"{metric}, {which}",
            cell(rows, metric, which), count(rows, metric, which),
        )
        for metric, which in (
            ("ROC AUC", "MC0 vs MC2"), WITHIN, BASE, JOINED, ADDED, SHORT_CUT, ON_ENDPLATES,
            ("levels surely graded", "all"), ("sure grades that are right", "all"),
            ("MC1 surely called MC2", "MC1"), ("MC1 surely called MC0", "MC1"),
        )
        if cell(rows, metric, which) != "–"
    ]  # fmt: skip
    metrics = ("ROC AUC", "mean P(MC2) of MC0", "MC0 called MC2", "MC0 surely called MC2")
    grades = sorted({row["which"] for row in rows if row["which"].startswith("Pfirrmann")})
    by_grade = [
        (grade, count(rows, "mean P(MC2) of MC0", grade), *(cell(rows, metric, grade) for metric in metrics))
        for grade in grades
    ]
    return [
        Table("audit: what is told from degeneration", ("metric", "value", "discs"), overall),
        Table("audit: by grade of degeneration", ("grade", "MC0 discs", *metrics), by_grade),
    ]


def audit_facts(examples: list[Example], rows: list[int], grades: dict[tuple[str, str], DiscGrades]) -> list[str]:
    """Which discs were audited, and what a reader must know."""
    real = [e for e in examples if e.real]
    known = [grades.get((e.disc.patient, e.disc.level)) for e in real]
    other = sum(g is not None and g.modic not in (None, e.label) for g, e in zip(known, real, strict=True))
    return [
        f"Audit: {len(rows)} of {len(real)} real discs have a grade of degeneration"
        + (f"; {other} with another Modic type in the file than in the data are passed over." if other else "."),
        "Within a grade: pairs of MC0 and MC2 of equal Pfirrmann grade (Janes & Pepe, Biometrika 2009). Added to "
        "degeneration: nested logistic regressions on grade, narrowing and level, patients apart.",
    ]


def share_on_endplates(maps: np.ndarray, disc: DiscGeometry) -> float:
    """Share of a saliency map (2, slices, n, n) that lies on the endplates and the marrow beside them; NaN if empty."""
    u, v = disc_frame(maps.shape[-1], disc)
    depth = np.abs(v) - disc.thickness / 2
    there = (np.abs(u) < INSIDE) & (depth > BAND[0]) & (depth < BAND[1])
    total = float(maps.sum())
    return float(maps[..., there].sum()) / total if total > 0 else float("nan")


def measure_maps(
    examples: list[Example], rows: list[int], p: np.ndarray, model: "Model", options: "ClassifierTraining",
    **shared: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """The share of the maps of discs of type 2 that are called type 2 on the endplates, with its interval."""
    from modic.grading.saliency import explain
    from modic.records import Grade, Region
    from modic.train.augment.regions import measuring_view

    shares, patients = [], []
    for i in rows:
        example = examples[i]
        if example.label == 2 and p[i].argmax() == 2:
            t1, t2 = measuring_view(
                example, i, size=options.region_size, method=options.normalization, repeats=options.repeats
            )
            a, b, c = p[i].tolist()
            grade = Grade(example.disc.level, (a, b, c), (2,), 2, False, ())
            evidence = explain([Region(example.disc.level, {"t1": t1, "t2": t2})], [grade], classifier=model)[0]
            maps = np.stack(list(evidence.maps.values()))
            shares.append(share_on_endplates(maps, example.disc.geometry))
            patients.append(example.disc.patient)
    values = np.array(shares)
    if not len(values):
        return []
    return with_intervals(
        lambda drawn: {ON_ENDPLATES: float(np.nanmean(values[drawn]))}, patients,
        lambda _: np.ones(len(values), bool), **shared,
    )  # fmt: skip


def audit(
    path: Path, examples: list[Example], logits: np.ndarray, model: "Model", options: "ClassifierTraining",
    **shared: str,
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """Rows of metrics and facts of the audit of an evaluation."""
    grades, calibration = read_grades(path), model.card["calibration"]
    p = softmax(logits / calibration["temperature"])
    audited, rows = audited_discs(examples, p, np.asarray(calibration["conformal_q"], float), grades)
    shared = {"group": GROUP, **shared}
    numbers = measure_audit(audited, **shared) + measure_maps(examples, rows, p, model, options, **shared)
    return numbers, audit_facts(examples, rows, grades)
