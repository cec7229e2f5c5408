"""The model against readers: `modic validate COHORT --labels FILE.csv`, the external validation of any site.

Every reading counts: if several readers read a disc, they share its weight, so that no consensus hides their
disagreement, unless an arbiter decided. Each reader alone, and the discs on which all agree, are shown as well. What a
reader read for the second time tells only how far the reader agrees with himself or herself. Weights are those of the
sample (`modic review`): rare grades may be read more often, and the numbers are still about the whole cohort.

Written to COHORT/validation (or --out):

| file                | one row is                                                                         |
|---------------------|------------------------------------------------------------------------------------|
| readings.parquet    | one reading of one disc, with the model's answer (`predicted` null: it abstained)  |
| confusion.parquet   | one cell of the confusion matrix: truth, predicted, n readings, weight             |
| metrics.parquet     | one number with its interval                                                       |
| calibration.parquet | one bin of the reliability diagram                                                 |
| validation.md       | the same numbers as text                                                           |
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from modic.errors import UsageError
from modic.files import write_whole
from modic.grades import GRADES, P
from modic.reader_study.judged import (
    Judged,
    about_images,
    against_model,
    between_readers,
    calibration,
    confusion,
    endplates,
    of_patients,
    with_themselves,
)
from modic.reader_study.readings import ENDPLATES, Reading, Readings, read_readings
from modic.reader_study.weights import RANDOM
from modic.statistics.metric_tables import METRICS, Table, cell, count
from modic.statistics.metrics import DRAWS
from modic.tables.described import Columns, write_rows
from modic.text import plain_markdown

FEW_PATIENTS = 20
READINGS: Columns = {
    "study_key": ("string", "pseudonym of the study"),
    "patient_key": ("string", "pseudonym of the patient"),
    "level": ("string", "level of the disc"),
    "reader": ("string", "name of the reader"),
    "truth": ("int64", "the reader's Modic type, 0-2; null if the reader gave none"),
    "verdict": ("string", "the reader's verdict beside or instead of a grade"),
    "predicted": ("int64", "the model's grade (levels.mc); null if it abstained"),
    **{column: ("float64", f"the model's calibrated probability of type {k}") for k, column in enumerate(P)},
    "weight": ("float64", "number of graded discs of the cohort that the disc stands for; 1 if it was not sampled"),
    "blind": ("bool", "true if the reader did not see the model's grade"),
    "sample_id": ("string", "sample of modic review; blank if the disc was not sampled"),
    "unit": ("string", "what was drawn: level, or patient with all discs of a study; blank if not sampled"),
    "drawn": ("string", "random; why it was chosen: uncertain, rare, unlike; or blank if the disc was not sampled"),
    "role": ("string", "reader, or arbiter between readers"),
    "repeat": ("bool", "true if the reader read the disc for the second time"),
    "reference": ("bool", "true if the reading counts as the truth: no repeat, and not overruled by an arbiter"),
    "mc_upper": ("string", "the reader's type at the upper endplate: 0, 1, 2, 3, 1/2 (both); null if not read"),
    "udby_upper": (
        "string",
        "how high that reaches into its vertebra: A under 25 %, B 25-50 %, C over 50 %; may be null",
    ),
    "mc_lower": ("string", "the reader's type at the lower endplate"),
    "udby_lower": ("string", "how high that reaches into its vertebra"),
    "mixed": ("bool", "true if types 1 and 2 lie side by side; truth is the larger"),
    "note": ("string", "the reader's note"),
    "seconds": ("float64", "time that the reading took, in seconds; null if not measured"),
}
CONFUSION: Columns = {
    "truth": ("int64", "the reader's Modic type"),
    "predicted": ("int64", "the model's grade; null if it abstained"),
    "n": ("int64", "number of readings"),
    "weight": ("float64", "number of graded discs of the cohort that they stand for; readers share a disc's weight"),
}
CALIBRATION: Columns = {
    "which": ("string", "most probable: of the model's most probable grade; MC0-MC2: of that type"),
    "mean_p": ("float64", "mean probability that the model gave, 0-1"),
    "share": ("float64", "share of readings that gave this type, 0-1"),
    "weight": ("float64", "number of graded discs of the cohort in this bin"),
}


def validate(cohort_root: Path, files: list[Path], out: Path) -> list[Table]:
    """Measure, write everything to `out`, and return the tables to print. Raises UsageError as `read_readings` does."""
    readings = read_readings(cohort_root, files)
    judged = Judged([reading for reading in readings.rows if reading.reference and reading.truth is not None])
    if not judged.rows:
        raise UsageError(f"{', '.join(map(str, files))}: no disc has a grade that counts: all are repeats or overruled")
    by_readers = Judged([reading for reading in readings.by_readers if reading.truth is not None])
    rows = [_row(reading) for reading in readings.rows]
    shares, notes = of_patients(cohort_root, [row for row in rows if row["reference"]])
    metrics = [*against_model(judged, by_readers), *between_readers(by_readers), *endplates(readings)]
    metrics += [*with_themselves(readings), *about_images(readings), *shares]
    tables = tables_of(metrics, judged)
    write_rows(out / "readings.parquet", rows, READINGS)
    write_rows(out / "confusion.parquet", confusion(judged), CONFUSION)
    write_rows(out / "metrics.parquet", metrics, METRICS)
    write_rows(out / "calibration.parquet", calibration(judged), CALIBRATION)
    lines = [
        "# Validation by readers",
        "",
        *(f"- {plain_markdown(fact)}" for fact in (*facts(readings, judged), *notes)),
        "",
    ]
    write_whole(out / "validation.md", "\n".join([*lines, *(table.markdown() for table in tables)]))
    return tables


def facts(readings: Readings, judged: Judged) -> list[str]:
    """What one must know to interpret the numbers, as lines of text."""
    discs = {reading.disc: reading for reading in judged.rows}
    patients = len(set(judged.patient))
    types = Counter(judged.truth.tolist())
    by_type = ", ".join(f"{grade} {types[k]}" for k, grade in enumerate(GRADES))
    weighted = sum(bool(reading.sample_id) for reading in judged.rows)
    in_sight = sum(not reading.blind for reading in judged.rows)
    no_grade = sum(reading.reference and reading.truth is None for reading in readings.rows)
    aside = sum(not reading.reference for reading in readings.rows)
    chosen = sum(reading.drawn not in ("", RANDOM) for reading in judged.rows)
    times = [reading.seconds for reading in readings.rows if reading.seconds is not None]
    return [
        f"{len(judged.rows)} readings of {len(discs)} discs of {patients} patients, readers: "
        f"{', '.join(judged.readers())}; readings by type: {by_type}",
        f"left out: {no_grade} readings without a grade of 0-2, {readings.not_graded} of discs that the model did not "
        f"find or could not grade, {readings.other_levels} of other levels",
        f"weighted by a sample of modic review: {weighted} of {len(judged.rows)} readings"
        + (
            "" if weighted else "; unless the discs were drawn at random, the numbers are about them and not the cohort"
        ),
        *(
            [f"{aside} readings are no reference: read for the second time, or overruled by an arbiter"]
            if aside
            else []
        ),
        *(
            [f"{chosen} readings of discs that were chosen and not drawn at random: each stands for itself alone"]
            if chosen
            else []
        ),
        *(
            [
                f"no reading of sample {name}, whose discs a later sample left out: the numbers are not about them"
                for name in readings.left_out
            ]
        ),
        *([f"median time of a reading: {np.median(times):.0f} s (of {len(times)})"] if times else []),
        *([f"{in_sight} readings made with the model's grade in sight overestimate agreement"] if in_sight else []),
        *([f"only {patients} patients: the intervals are too narrow"] if patients < FEW_PATIENTS else []),
        f"intervals: 95 %, from {DRAWS} draws of patients with all their discs; 0.00–0.00 and 1.00–1.00 mean that "
        "these discs had no exception, not that there is none",
        "F1 of a type is 2 TP / (2 TP + FP + FN); macro: mean over the types that readers gave; weighted: by frequency",
        "the model's probabilities assume that the types are equally frequent; calibration in a cohort is off by that",
    ]


def tables_of(metrics: list[dict[str, Any]], judged: Judged) -> list[Table]:
    """The tables that are printed and that validation.md holds."""
    names = (*GRADES, "abstained")
    cells = confusion(judged)
    body = [
        (grade, *(str(cell["n"]) for cell in cells if cell["truth"] == k)) for k, grade in enumerate(GRADES)
    ]  # fmt: skip
    tables = [Table("Confusion (readings, not weighted)", ("reader", *names), body)]
    for group, condition in dict.fromkeys((row["group"], row["condition"]) for row in metrics):
        rows = [row for row in metrics if (row["group"], row["condition"]) == (group, condition)]
        tables += _by_class(f"{group}: {condition}", rows) + _overall(f"{group}: {condition}", rows)
    return tables


def _by_class(title: str, rows: list[dict[str, Any]]) -> list[Table]:
    what = ("sensitivity", "specificity", "F1", "abstained", "coverage")
    shown = [metric for metric in what if any(row["metric"] == metric for row in rows)]
    body = [
        (grade, count(rows, "sensitivity", grade), *(cell(rows, metric, grade) for metric in shown))
        for grade in GRADES
        if count(rows, "sensitivity", grade) != "0"
    ]
    return [Table(title, ("type", "readings", *shown), body)] if body else []


def _overall(title: str, rows: list[dict[str, Any]]) -> list[Table]:
    body = [
        (f"{r['metric']}, {r['which']}", cell(rows, r["metric"], r["which"])) for r in rows if r["which"] not in GRADES
    ]
    return [Table(f"{title}, overall", ("number", "value (95 % interval)"), body)] if body else []


def _row(reading: Reading) -> dict[str, Any]:
    model = {"predicted": reading.model["mc"], **{column: reading.model[column] for column in P}}
    names = ("study_key", "level", "reader", "truth", "verdict", "weight", "blind", "drawn", "repeat", "reference")
    own = {name: getattr(reading, name) for name in (*names, "mixed", "note", "seconds")} | {"role": str(reading.role)}
    drawn = {"sample_id": reading.sample_id, "unit": reading.unit}
    own |= {name: reading.endplates.get(name) for name in ENDPLATES}
    return {**own, **model, "patient_key": reading.model["patient_key"], **drawn}
