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
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modic.errors import UsageError
from modic.files import write_whole
from modic.grades import CLASSES, GRADES, P
from modic.reader_study.readings import ENDPLATES, Reading, Readings, Role, Verdict, read_readings
from modic.reader_study.sample import PATIENT
from modic.reader_study.weights import RANDOM, Disc
from modic.records import SIDES
from modic.statistics.metric_tables import METRICS, Table, cell, count, with_intervals
from modic.statistics.metrics import (
    DRAWS,
    Numbers,
    agreement_metrics,
    counted,
    grade_metrics,
    kappa,
    kappas,
    probability_metrics,
    reliability,
)
from modic.statistics.patient_shares import OUTCOMES, patient_shares
from modic.tables.described import Columns, write_rows
from modic.tables.query import connect, statements
from modic.text import plain_markdown

ALL, AGREED = "all readers", "discs on which all readers agree"
ARBITRATED = "all readers, disagreements arbitrated"
ANY, GIVEN = "most probable grade", "where a grade was given"
TWICE, SINGLE = "read twice", "types of single endplates"
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


class Judged:
    """Readings that gave a grade, as arrays (n,); `p` is (n, classes), `predicted` is -1 if the model abstained."""

    def __init__(self, rows: list[Reading]) -> None:
        self.rows = rows
        readers = Counter(reading.disc for reading in rows)
        self.truth = np.array([reading.truth for reading in rows], int)
        self.p = np.array([[reading.model[column] for column in P] for reading in rows], float).reshape(-1, CLASSES)
        self.predicted = np.array([-1 if reading.model["mc"] is None else reading.model["mc"] for reading in rows], int)
        self.covered = np.array([reading.truth in (reading.model["prediction_set"] or ()) for reading in rows], bool)
        self.weight = np.array([reading.weight / readers[reading.disc] for reading in rows])
        self.patient = [reading.model["patient_key"] for reading in rows]
        self.reader = np.array([reading.reader for reading in rows])

    def readers(self) -> list[str]:
        """Names of the readers, sorted."""
        return sorted(set(self.reader.tolist()))

    def some(self, keep: np.ndarray) -> "Judged":
        """The readings of a mask (bool, n); the readers who remain share the weight of a disc anew."""
        return Judged([reading for reading, kept in zip(self.rows, keep, strict=True) if kept])


def against_model(judged: Judged, by_readers: Judged) -> list[dict[str, Any]]:
    """Rows of METRICS: all readers (or what the arbiter left of them), each alone, and discs on which they agree."""
    arbitrated = any(reading.role is Role.ARBITER for reading in judged.rows)
    groups = {ARBITRATED if arbitrated else ALL: judged}
    if len(by_readers.readers()) > 1:
        groups |= {f"reader {name}": by_readers.some(by_readers.reader == name) for name in by_readers.readers()}
        agreed = by_readers.some(_agreed(by_readers))
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

    rows = _measured(of_all, judged, group=name, condition=ANY)
    given = judged.some(judged.predicted >= 0)
    if given.rows:
        rows += _measured(
            lambda drawn: agreement_metrics(given.truth[drawn], given.predicted[drawn], given.weight[drawn]),
            given, group=name, condition=GIVEN,
        )  # fmt: skip
    return rows


def _sets(judged: Judged, rows: np.ndarray) -> Numbers:
    """Share of discs on which the model abstained, and of discs whose prediction set holds the reader's grade."""
    numbers: Numbers = {}
    for name, of in (("all", rows), *((GRADES[k], rows[judged.truth[rows] == k]) for k in range(CLASSES))):
        for what, values in (("abstained", judged.predicted < 0), ("coverage", judged.covered)):
            numbers[what, name] = float(np.average(values[of], weights=judged.weight[of])) if len(of) else float("nan")
    return numbers


def _measured(statistic: Callable[[np.ndarray], Numbers], judged: Judged, **shared: str) -> list[dict[str, Any]]:
    return with_intervals(statistic, judged.patient, lambda key: counted(key, judged.truth), **shared)


def _agreed(judged: Judged) -> np.ndarray:
    """Readings of discs that several readers read and all graded alike (bool mask)."""
    grades_of: dict[Disc, list[int | None]] = {}
    for reading in judged.rows:
        grades_of.setdefault(reading.disc, []).append(reading.truth)
    alike = {disc for disc, grades in grades_of.items() if len(grades) > 1 and len(set(grades)) == 1}
    return np.array([reading.disc in alike for reading in judged.rows], bool)


def between_readers(judged: Judged) -> list[dict[str, Any]]:
    """Rows of METRICS: κ of every two readers over the discs that both graded."""
    of: dict[str, dict[Disc, Reading]] = {name: {} for name in judged.readers()}
    for reading in judged.rows:
        of[reading.reader][reading.disc] = reading
    pairs = combinations(judged.readers(), 2)
    return [row for first, second in pairs for row in _two(first, second, of[first], of[second])]


def _two(first: str, second: str, a: dict[Disc, Reading], b: dict[Disc, Reading]) -> list[dict[str, Any]]:
    both = sorted(a.keys() & b.keys())
    if not both:
        return []
    of_first, of_second = (np.array([of[disc].truth for disc in both], int) for of in (a, b))
    statistic = _kappas(of_first, of_second, np.array([a[disc].weight for disc in both]))
    return _agreement(statistic, [a[disc] for disc in both], f"readers {first} and {second}", "between readers")


def with_themselves(readings: Readings) -> list[dict[str, Any]]:
    """Rows of METRICS: κ of each reader's first and second reading, of discs that were read twice."""
    twice = {(*reading.disc, reading.reader): reading for reading in readings.rows if reading.repeat}
    first = {(*reading.disc, reading.reader): reading for reading in readings.by_readers}
    rows = []
    for name in sorted({key[2] for key in twice}):
        pairs = [(first[key], again) for key, again in sorted(twice.items()) if key[2] == name and key in first]
        pairs = [pair for pair in pairs if None not in (pair[0].truth, pair[1].truth)]
        if pairs:
            a, b = (np.array([reading.truth for reading in both], int) for both in zip(*pairs, strict=True))
            rows += _agreement(_kappas(a, b, np.ones(len(pairs))), [pair[0] for pair in pairs], f"reader {name}", TWICE)
    return rows


def endplates(readings: Readings) -> list[dict[str, Any]]:
    """Rows of METRICS: types of single endplates, between every two readers, and of the model against the readers."""
    read = {
        name: {(*r.disc, side): (r, kind) for r in readings.by_readers if r.reader == name
               for side in SIDES if (kind := r.endplates.get(f"mc_{side}"))}
        for name in sorted({reading.reader for reading in readings.by_readers})
    }  # fmt: skip
    rows = []
    for first, second in combinations(read, 2):
        both = [(read[first][key], read[second][key][1]) for key in sorted(read[first].keys() & read[second].keys())]
        rows += _types(f"readers {first} and {second}", both)
    kinds = [
        ((*reading.disc, side), reading, kind, reading.model[f"mc_{side}"])
        for reading in readings.rows
        if reading.reference
        for side in SIDES
        if (kind := reading.endplates.get(f"mc_{side}")) and reading.model[f"mc_{side}"] is not None
    ]
    n = Counter(place for place, *_ in kinds)  # readers of one endplate share its weight
    shared = [((replace(one, weight=one.weight / n[place]), kind), model) for place, one, kind, model in kinds]
    return rows + _types("model", shared)


def _types(group: str, pairs: list[tuple[tuple[Reading, str], str]]) -> list[dict[str, Any]]:
    """Rows about pairs of types of one endplate."""
    if not pairs:
        return []
    kinds, codes = np.unique([[kind, other] for (_, kind), other in pairs], return_inverse=True)
    a, b = codes.reshape(-1, 2).T
    weight = np.array([reading.weight for (reading, _), _ in pairs])

    def statistic(rows: np.ndarray) -> Numbers:
        observed = float(np.average(a[rows] == b[rows], weights=weight[rows]))
        agreement = kappa(a[rows], b[rows], sample=weight[rows], classes=len(kinds))
        return {("same type", "endplates"): observed, ("Cohen's kappa", "endplates"): agreement}

    return _agreement(statistic, [reading for (reading, _), _ in pairs], group, SINGLE)


def _agreement(
    statistic: Callable[[np.ndarray], Numbers], readings: list[Reading], group: str, condition: str
) -> list[dict[str, Any]]:
    patients, every = [reading.model["patient_key"] for reading in readings], np.ones(len(readings), bool)
    return with_intervals(statistic, patients, lambda key: every, group=group, condition=condition)


def _kappas(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> Callable[[np.ndarray], Numbers]:
    def statistic(rows: np.ndarray) -> Numbers:
        same = float(np.average(a[rows] == b[rows], weights=weight[rows]))
        return kappas(a[rows], b[rows], weight[rows]) | {("same grade", "all"): same}

    return statistic


def about_images(readings: Readings) -> list[dict[str, Any]]:
    """Rows of METRICS: how often readers found the level wrong or the images unusable."""
    rows = [reading for reading in readings.by_readers if reading.verdict or reading.sample_id]  # others were not asked
    if not rows:
        return []
    weight = np.array([reading.weight for reading in rows])
    given = {what: np.array([reading.verdict == what for reading in rows]) for what in Verdict}

    def statistic(drawn: np.ndarray) -> Numbers:
        shares = {what: np.average(hit[drawn], weights=weight[drawn]) for what, hit in given.items()}
        return {(what.value, "all"): float(share) for what, share in shares.items()}

    patients = [reading.model["patient_key"] for reading in rows]
    every = np.ones(len(rows), bool)
    return with_intervals(statistic, patients, lambda key: every, group=ALL, condition="verdicts")


def of_patients(cohort_root: Path, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of METRICS: shares of patients, if patients were drawn whole; and what one must know of them."""
    if not any(row["unit"] == PATIENT for row in rows):
        return [], []
    try:
        found = patient_shares(first_graded_levels(cohort_root), pd.DataFrame(rows))
    except ValueError as error:
        return [], [f"no share of patients: {error}"]
    about: dict[str, Any] = {"group": "patients, first graded study", "condition": "corrected share"}
    about |= {"metric": "patients with it", "n": found.n_read, "n_patients": found.n_read}
    shares = [
        {**about, "which": name, "value": value, "low": low, "high": high}
        for name, value, low, high in zip(OUTCOMES, *(v.tolist() for v in found.ends), strict=True)
    ]  # fmt: skip
    return shares, [
        f"shares of patients: difference estimator over {found.n_patients} patients, of whom {found.n_read} were drawn "
        f"whole and read whole; {found.n_not_whole} that were not read whole are left out. About graded levels only"
    ]


def first_graded_levels(cohort_root: Path) -> pd.DataFrame:
    """The graded levels of every patient's first graded study."""
    with connect(cohort_root) as connection:
        return connection.sql(statements("reader_study")["first_graded_levels"]).df()


def confusion(judged: Judged) -> list[dict[str, Any]]:
    """Rows of CONFUSION: every true grade by every answer of the model."""
    cells = []
    for truth in range(CLASSES):
        for predicted in (*range(CLASSES), -1):
            of = (judged.truth == truth) & (judged.predicted == predicted)
            shown = None if predicted < 0 else predicted
            n, weight = int(of.sum()), float(judged.weight[of].sum())
            cells.append({"truth": truth, "predicted": shown, "n": n, "weight": weight})
    return cells


def calibration(judged: Judged) -> list[dict[str, Any]]:
    """Rows of CALIBRATION."""
    curves = [("most probable", judged.p.max(1), judged.p.argmax(1) == judged.truth)]
    curves += [(GRADES[k], judged.p[:, k], judged.truth == k) for k in range(CLASSES)]
    return [
        {"which": name, "mean_p": mean, "share": share, "weight": weight}
        for name, predicted, happened in curves
        for mean, share, weight in reliability(predicted, happened, judged.weight)
    ]


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
