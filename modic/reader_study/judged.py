"""Readings and the model's answers → numbers with intervals: rows of METRICS, and of the tables of validation.py."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modic.grades import CLASSES, GRADES, P
from modic.reader_study.readings import Reading, Readings, Role, Verdict
from modic.reader_study.sample import PATIENT
from modic.reader_study.weights import Disc
from modic.records import SIDES
from modic.statistics.metric_tables import with_intervals
from modic.statistics.metrics import (
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
from modic.tables.query import connect, statements

ALL, AGREED = "all readers", "discs on which all readers agree"
ARBITRATED = "all readers, disagreements arbitrated"
ANY, GIVEN = "most probable grade", "where a grade was given"
TWICE, SINGLE = "read twice", "types of single endplates"


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
