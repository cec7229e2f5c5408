"""The model against readers: `modic validate COHORT --labels FILE.csv`, the external validation of any site.

Every reading counts: where several readers read a disc, they share its weight, so that their disagreement is not hidden
in a consensus; each reader alone, and the discs on which all agree, are shown beside. Weights are those of the sample
(`modic review`), so that rare grades may be read more often and the numbers are still about the whole cohort.

Written to COHORT/validation (or --out):

| file              | one row is                                                                                    |
|-------------------|-----------------------------------------------------------------------------------------------|
| readings.parquet  | one reader's word on one disc, with what the model said (`predicted` null: it abstained)      |
| confusion.parquet | one cell of the confusion matrix: truth, predicted, n readings, weight                        |
| metrics.parquet   | one number with its interval                                                                  |
| calibration.parquet | one bin of the reliability diagram                                                          |
| validation.md     | all of it to read                                                                             |
"""

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from modic.reader_study.readings import Reading, Readings, read_readings
from modic.statistics.metric_tables import METRICS, Table, cell, count, with_intervals
from modic.statistics.metrics import (
    DRAWS,
    Numbers,
    agreement_metrics,
    counted,
    grade_metrics,
    kappas,
    mc,
    probability_metrics,
    reliability,
)
from modic.tables.described import Columns, write_rows

ALL, AGREED = "all readers", "discs on which all readers agree"
ANY, GIVEN = "most probable grade", "where a grade was given"
FEW_PATIENTS = 20
READINGS: Columns = {
    "study_key": ("string", "pseudonym of the study"),
    "patient_key": ("string", "pseudonym of the patient"),
    "level": ("string", "level of the disc"),
    "reader": ("string", "who read it"),
    "truth": ("int64", "the reader's Modic type, 0-2; null where the reader gave none"),
    "verdict": ("string", "what the reader said besides or instead"),
    "predicted": ("int64", "the model's grade (levels.mc); null where it abstained"),
    **{f"p_mc{k}": ("float64", f"the model's calibrated probability of type {k}") for k in range(3)},
    "weight": ("float64", "graded discs of the cohort that the disc stands for; 1 where it was not sampled"),
    "blind": ("bool", "whether the reader did not see the model's grade"),
    "sample_id": ("string", "sample of modic review; blank where there was none"),
}
CONFUSION: Columns = {
    "truth": ("int64", "the reader's Modic type"),
    "predicted": ("int64", "the model's grade; null where it abstained"),
    "n": ("int64", "readings"),
    "weight": ("float64", "graded discs of the cohort they stand for; readers of one disc share its weight"),
}
CALIBRATION: Columns = {
    "which": ("string", "most probable: the probability of the grade; MC0-MC2: of that type"),
    "mean_p": ("float64", "mean probability that the model gave"),
    "share": ("float64", "share of readings that said so"),
    "weight": ("float64", "graded discs of the cohort in this bin"),
}


def validate(cohort_root: Path, files: list[Path], out: Path) -> list[Table]:
    """Measure, write everything to `out`, and return the tables to print. Raises UsageError as `read_readings`."""
    readings = read_readings(cohort_root, files)
    judged = Judged([one for one in readings.rows if one.truth is not None])
    metrics = [*against_model(judged), *between_readers(judged), *about_images(readings)]
    tables = tables_of(metrics, judged)
    write_rows(out / "readings.parquet", [_row(one) for one in readings.rows], READINGS)
    write_rows(out / "confusion.parquet", confusion(judged), CONFUSION)
    write_rows(out / "metrics.parquet", metrics, METRICS)
    write_rows(out / "calibration.parquet", calibration(judged), CALIBRATION)
    lines = ["# Validation by readers", "", *(f"- {fact}" for fact in facts(readings, judged)), ""]
    (out / "validation.md").write_text("\n".join([*lines, *(table.markdown() for table in tables)]), encoding="utf-8")
    return tables


class Judged:
    """Readings that gave a grade, as arrays (n,)."""

    def __init__(self, rows: list[Reading]) -> None:
        self.rows = rows
        readers = Counter((one.study_key, one.level) for one in rows)
        self.truth = np.array([one.truth for one in rows], int)
        self.p = np.array([[one.model[f"p_mc{k}"] for k in range(3)] for one in rows], float).reshape(-1, 3)
        self.predicted = np.array([-1 if one.model["mc"] is None else one.model["mc"] for one in rows], int)
        self.covered = np.array([one.truth in (one.model["prediction_set"] or ()) for one in rows], bool)
        self.weight = np.array([one.weight / readers[one.study_key, one.level] for one in rows])
        self.patient = [one.model["patient_key"] for one in rows]
        self.reader = np.array([one.reader for one in rows])

    def readers(self) -> list[str]:
        """In order of name."""
        return sorted(set(self.reader.tolist()))

    def some(self, keep: np.ndarray) -> "Judged":
        """The readings of a mask; readers who remain share weights anew."""
        return Judged([one for one, kept in zip(self.rows, keep, strict=True) if kept])


def against_model(judged: Judged) -> list[dict[str, Any]]:
    """Rows of METRICS: all readers, each alone, and where they agree."""
    groups = {ALL: judged}
    if len(judged.readers()) > 1:
        groups |= {f"reader {name}": judged.some(judged.reader == name) for name in judged.readers()}
        agreed = judged.some(_agreed(judged))
        groups |= {AGREED: agreed} if agreed.rows else {}
    return [row for name, some in groups.items() for row in _group(name, some)]


def _group(name: str, judged: Judged) -> list[dict[str, Any]]:
    truth, p, weight = judged.truth, judged.p, judged.weight

    def of_all(rows: np.ndarray) -> Numbers:
        return (
            grade_metrics(p[rows], truth[rows], weight[rows])
            | probability_metrics(p[rows], truth[rows], weight[rows])
            | _sets(judged, rows)
        )

    found = _measured(of_all, judged, group=name, condition=ANY)
    given = judged.some(judged.predicted >= 0)
    if given.rows:
        found += _measured(
            lambda rows: agreement_metrics(given.truth[rows], given.predicted[rows], given.weight[rows]),
            given, group=name, condition=GIVEN,
        )  # fmt: skip
    return found


def _sets(judged: Judged, rows: np.ndarray) -> Numbers:
    """Share of discs on which the model abstained, and whose prediction set holds the reader's grade."""
    numbers: Numbers = {}
    for name, of in (("all", rows), *((mc(k), rows[judged.truth[rows] == k]) for k in range(3))):
        for what, values in (("abstained", judged.predicted < 0), ("coverage", judged.covered)):
            numbers[what, name] = float(np.average(values[of], weights=judged.weight[of])) if len(of) else float("nan")
    return numbers


def _measured(statistic: Callable[[np.ndarray], Numbers], judged: Judged, **shared: str) -> list[dict[str, Any]]:
    return with_intervals(statistic, judged.patient, lambda key: counted(key, judged.truth), **shared)


def _agreed(judged: Judged) -> np.ndarray:
    """Readings of discs that several readers read and all graded alike (bool mask)."""
    said: dict[tuple[str, str], list[int | None]] = {}
    for one in judged.rows:
        said.setdefault((one.study_key, one.level), []).append(one.truth)
    alike = {disc for disc, grades in said.items() if len(grades) > 1 and len(set(grades)) == 1}
    return np.array([(one.study_key, one.level) in alike for one in judged.rows], bool)


def between_readers(judged: Judged) -> list[dict[str, Any]]:
    """Rows of METRICS: κ of every two readers over the discs that both graded."""
    of: dict[str, dict[tuple[str, str], Reading]] = {name: {} for name in judged.readers()}
    for one in judged.rows:
        of[one.reader][one.study_key, one.level] = one
    pairs = combinations(judged.readers(), 2)
    return [row for first, second in pairs for row in _two(first, second, of[first], of[second])]


def _two(
    first: str, second: str, a: dict[tuple[str, str], Reading], b: dict[tuple[str, str], Reading]
) -> list[dict[str, Any]]:
    both = sorted(a.keys() & b.keys())
    if not both:
        return []
    first_said, second_said = (np.array([of[disc].truth for disc in both], int) for of in (a, b))
    weight, every = np.array([a[disc].weight for disc in both]), np.ones(len(both), bool)
    patients = [a[disc].model["patient_key"] for disc in both]
    shared = {"group": f"readers {first} and {second}", "condition": "between readers"}
    return with_intervals(_kappas(first_said, second_said, weight), patients, lambda key: every, **shared)


def _kappas(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> Callable[[np.ndarray], Numbers]:
    def statistic(rows: np.ndarray) -> Numbers:
        same = float(np.average(a[rows] == b[rows], weights=weight[rows]))
        return kappas(a[rows], b[rows], weight[rows]) | {("same grade", "all"): same}

    return statistic


def about_images(readings: Readings) -> list[dict[str, Any]]:
    """Rows of METRICS: how often readers said that the level is wrong, or the images unusable."""
    rows = [one for one in readings.rows if one.verdict or one.sample_id]  # other files may have had no such question
    if not rows:
        return []
    weight = np.array([one.weight for one in rows])
    said = {what: np.array([one.verdict == what for one in rows]) for what in ("wrong level", "unusable")}

    def statistic(some: np.ndarray) -> Numbers:
        return {(what, "all"): float(np.average(hit[some], weights=weight[some])) for what, hit in said.items()}

    patients = [one.model["patient_key"] for one in rows]
    every = np.ones(len(rows), bool)
    return with_intervals(statistic, patients, lambda key: every, group=ALL, condition="verdicts")


def confusion(judged: Judged) -> list[dict[str, Any]]:
    """Rows of CONFUSION, all twelve cells."""
    cells = []
    for truth in range(3):
        for predicted in (0, 1, 2, -1):
            of = (judged.truth == truth) & (judged.predicted == predicted)
            shown = None if predicted < 0 else predicted
            n, weight = int(of.sum()), float(judged.weight[of].sum())
            cells.append({"truth": truth, "predicted": shown, "n": n, "weight": weight})
    return cells


def calibration(judged: Judged) -> list[dict[str, Any]]:
    """Rows of CALIBRATION."""
    curves = [("most probable", judged.p.max(1), judged.p.argmax(1) == judged.truth)]
    curves += [(mc(k), judged.p[:, k], judged.truth == k) for k in range(3)]
    return [
        {"which": name, "mean_p": mean, "share": share, "weight": weight}
        for name, said, happened in curves
        for mean, share, weight in reliability(said, happened, judged.weight)
    ]


def facts(readings: Readings, judged: Judged) -> list[str]:
    """What must be known to read the numbers."""
    discs = {(one.study_key, one.level): one for one in judged.rows}
    patients = len(set(judged.patient))
    types = Counter(judged.truth.tolist())
    weighted = sum(bool(one.sample_id) for one in judged.rows)
    seen = sum(not one.blind for one in judged.rows)
    no_grade = len(readings.rows) - len(judged.rows)
    return [
        f"{len(judged.rows)} readings of {len(discs)} discs of {patients} patients, readers: "
        f"{', '.join(judged.readers())}; readings by type: {', '.join(f'MC{k} {types[k]}' for k in range(3))}",
        f"left out: {no_grade} readings without a grade of 0-2, {readings.not_graded} of discs that the model did not "
        f"find or could not grade, {readings.other_levels} of other levels",
        f"weighted by a sample of modic review: {weighted} of {len(judged.rows)} readings"
        + (
            "" if weighted else "; the discs stand for themselves, not for the cohort, unless they were drawn at random"
        ),
        *([f"{seen} readings were given with the model's grade in sight: agreement is overestimated"] if seen else []),
        *([f"only {patients} patients: the intervals are too narrow"] if patients < FEW_PATIENTS else []),
        f"intervals: 95 %, from {DRAWS} draws of patients with all their discs; 0.00–0.00 and 1.00–1.00 say that these "
        "discs had no exception, not that there is none",
        "F1 of a type is 2 TP / (2 TP + FP + FN); macro: the mean over types that readers saw, weighted: by frequency",
        "the model's probabilities assume the three types equally frequent: calibration in a cohort is off by that",
    ]


def tables_of(metrics: list[dict[str, Any]], judged: Judged) -> list[Table]:
    """What is printed and in validation.md."""
    names = ("abstained", *(mc(k) for k in range(3)))
    body = [
        (mc(k), *(str(row["n"]) for row in confusion(judged)[4 * k : 4 * k + 4])) for k in range(3)
    ]  # fmt: skip
    found = [Table("Confusion (readings, not weighted)", ("reader", *names[1:], names[0]), body)]
    for group, condition in dict.fromkeys((row["group"], row["condition"]) for row in metrics):
        rows = [row for row in metrics if (row["group"], row["condition"]) == (group, condition)]
        found += _by_class(f"{group}: {condition}", rows) + _overall(f"{group}: {condition}", rows)
    return found


def _by_class(title: str, rows: list[dict[str, Any]]) -> list[Table]:
    what = ("sensitivity", "specificity", "F1", "abstained", "coverage")
    shown = [metric for metric in what if any(row["metric"] == metric for row in rows)]
    body = [
        (mc(k), count(rows, "sensitivity", mc(k)), *(cell(rows, metric, mc(k)) for metric in shown))
        for k in range(3)
        if count(rows, "sensitivity", mc(k)) != "0"
    ]
    return [Table(title, ("type", "readings", *shown), body)] if body else []


def _overall(title: str, rows: list[dict[str, Any]]) -> list[Table]:
    types = {mc(k) for k in range(3)}
    body = [
        (f"{r['metric']}, {r['which']}", cell(rows, r["metric"], r["which"])) for r in rows if r["which"] not in types
    ]
    return [Table(f"{title}, overall", ("number", "value (95 % interval)"), body)] if body else []


def _row(one: Reading) -> dict[str, Any]:
    model = {"predicted": one.model["mc"], **{f"p_mc{k}": one.model[f"p_mc{k}"] for k in range(3)}}
    said = {
        name: getattr(one, name) for name in ("study_key", "level", "reader", "truth", "verdict", "weight", "blind")
    }
    return {**said, **model, "patient_key": one.model["patient_key"], "sample_id": one.sample_id}
