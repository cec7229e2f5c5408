"""Put finished folds together: the tables of a study, and all comparisons of normalizations."""

import json
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modic.errors import UsageError
from modic.experiment import significance
from modic.experiment.design import Fold
from modic.experiment.fold import COSTS, PREDICTIONS
from modic.experiment.folder import Study, fold_path
from modic.grades import GRADES, P
from modic.statistics.metrics import Key, grade_metrics
from modic.tables.described import Columns, write_rows

FOLDS: Columns = {
    "normalization": PREDICTIONS["normalization"], "repeat": PREDICTIONS["repeat"], "fold": PREDICTIONS["fold"],
    "metric": ("string", "what was measured in this fold; epochs, best_epoch and minutes are those of its training"),
    "which": ("string", "of which type or average: balanced accuracy and macro F1 are means over the types that occur, "
              "weighted F1 weighs them by how often they occur"),
    "value": ("float64", "the number; rates are 0-1"),
    "n": ("int64", "regions of the fold"),
    "n_patients": ("int64", "patients of the fold"),
}  # fmt: skip
"""One row a normalization, repeat, fold and metric."""

COMPARISONS: Columns = {
    "metric": FOLDS["metric"],
    "which": FOLDS["which"],
    "a": ("string", "normalization A"),
    "b": ("string", "normalization B, which A is compared with"),
    "n_folds": ("int64", "repeats × folds that both have finished"),
    "difference": ("float64", "mean over folds of the metric with A minus that with B"),
    "p_t": ("float64", "paired t-test over folds, not corrected: too small, folds share patients"),
    "p_wilcoxon": ("float64", "Wilcoxon signed-rank test over folds, not corrected: too small for the same reason"),
    "p_corrected": ("float64", "corrected resampled t-test (Nadeau & Bengio 2003)"),
    "p_corrected_holm": ("float64", "the same, adjusted for all pairs of normalizations of this metric (Holm 1979)"),
    "p_worse": ("float64", f"posterior probability that A is worse than B by more than {significance.ROPE:g}"),
    "p_equivalent": ("float64", f"posterior probability that both differ by no more than {significance.ROPE:g}"),
    "p_better": ("float64", f"posterior probability that A is better than B by more than {significance.ROPE:g}"),
    "bootstrap_low": ("float64", "lower end of the 95 % interval of A - B, patients drawn again; pooled over folds"),
    "bootstrap_high": ("float64", "upper end of this interval"),
    "p_bootstrap": ("float64", "two-sided p of the paired bootstrap of patients"),
    "verdict": ("string", "survives | does not survive | found only by the corrected test | no difference found"),
}
"""One row a metric and pair of normalizations."""

SURVIVES, FALLS, NONE = "survives", "does not survive", "no difference found"
REVEALED = "found only by the corrected test"
"""Verdicts on a difference: what remains of it after the correction."""


@dataclass(frozen=True, eq=False)
class Results:
    """The tables of a study in memory."""

    study: Study
    finished: tuple[Fold, ...]
    columns: dict[str, np.ndarray]  # of the out-of-fold table: one row a region, normalization and repeat
    folds: list[dict[str, Any]]  # rows of `FOLDS`
    comparisons: list[dict[str, Any]]  # rows of `COMPARISONS`
    trained_with: tuple[dict[str, str], ...]  # all versions and devices that occur

    def of(self, normalization: str) -> np.ndarray:
        """Which rows of `columns` are of a normalization, bool (rows,)."""
        return self.columns["normalization"] == normalization

    def values(self, normalization: str, key: Key) -> np.ndarray:
        """The values of a metric (folds,), in the order of repeats and folds."""
        return np.array([
            row["value"] for row in self.folds
            if row["normalization"] == normalization and (row["metric"], row["which"]) == key
        ])  # fmt: skip

    def confusion(self, normalization: str) -> np.ndarray:
        """Counts (3 true, 3 graded) over all folds and repeats."""
        rows = self.of(normalization)
        labels, graded = self.columns["label"][rows], self.columns["mc"][rows]
        return significance.patient_tables(labels, graded, np.zeros(len(labels)))[0]


def gather(study: Study) -> Results:
    """Read the finished folds and compute everything.

    Folds that are not finished for all normalizations are left out, so that all are compared on the same ones. Raises
    UsageError if none is left.
    """
    design = study.design
    done = [fold for fold in design.every_fold if fold_path(design.out, fold).is_file()]
    per_split: dict[tuple[int, int], list[Fold]] = defaultdict(list)
    for fold in done:
        per_split[fold.repeat, fold.fold].append(fold)
    complete = [folds for folds in per_split.values() if len(folds) == len(design.normalizations)]
    whole = tuple(fold for folds in complete for fold in folds)
    if not whole:
        raise UsageError(f"{design.out}: no fold is finished for all normalizations yet")
    tables = [pq.read_table(fold_path(design.out, fold), partitioning=None) for fold in whole]
    folds = [row for table in tables for row in fold_rows(table, study.classes)]
    joined = pa.concat_tables(tables)
    columns = {name: joined[name].to_numpy(zero_copy_only=False) for name in PREDICTIONS}
    trained_with = tuple(map(json.loads, joined["trained_with"].unique().to_pylist()))
    results = Results(study, whole, columns, folds, [], trained_with)
    return replace(results, comparisons=compare(results))


def write(results: Results) -> None:
    """STUDY/folds.parquet, out_of_fold.parquet and comparisons.parquet."""
    out = results.study.design.out
    write_rows(out / "folds.parquet", results.folds, FOLDS)
    write_rows(out / "comparisons.parquet", results.comparisons, COMPARISONS)
    names = list(PREDICTIONS)
    rows = [
        dict(zip(names, row, strict=True)) for row in zip(*(results.columns[n].tolist() for n in names), strict=True)
    ]
    for row in rows:
        row |= {key: None for key, value in row.items() if isinstance(value, float) and math.isnan(value)}
    write_rows(out / "out_of_fold.parquet", rows, PREDICTIONS)


def fold_rows(table: pa.Table, classes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Rows of `FOLDS` for one finished fold; metrics of types that the study does not have are left out.

    `table`: the fold's file, columns PREDICTIONS | COSTS.
    """
    first = table.slice(0, 1).to_pylist()[0]
    p = np.stack([table[name].to_numpy(zero_copy_only=False) for name in P], axis=1).astype(float)
    labels = table["label"].to_numpy()
    numbers: dict[Key, float] = grade_metrics(np.nan_to_num(p), labels)
    numbers |= {(name, "training"): float(first[name]) for name in COSTS}
    shared = {name: first[name] for name in ("normalization", "repeat", "fold")}
    counts = {"n": len(labels), "n_patients": len(set(table["patient"].to_pylist()))}
    return [
        {**shared, "metric": metric, "which": which, "value": value, **counts}
        for (metric, which), value in numbers.items()
        if math.isfinite(value) and not (which[:2] == "MC" and int(which[2]) not in classes)
    ]


def primary(classes: tuple[int, ...]) -> list[Key]:
    """The metrics that are compared: those of the paper's Table 2, with F1 in each of its definitions."""
    types = [GRADES[k] for k in classes]
    return [
        ("balanced accuracy", "all"), *(("sensitivity", mc) for mc in types), ("F1", "weighted"), ("F1", "macro"),
        *(("F1", mc) for mc in types),
    ]  # fmt: skip


def compare(results: Results) -> list[dict[str, Any]]:
    """Rows of `COMPARISONS`: of every metric, all pairs of normalizations."""
    design, rows = results.study.design, []
    pairs = list(combinations(design.normalizations, 2))
    tables = {
        name: significance.patient_tables(*(results.columns[c][results.of(name)] for c in ("label", "mc", "patient")))
        for name in design.normalizations
    }
    drawn = {pair: significance.paired_bootstrap(tables[pair[0]], tables[pair[1]], seed=design.seed) for pair in pairs}
    for key in primary(results.study.classes):
        of_metric = [_row(results, key, pair, drawn[pair].get(key)) for pair in pairs]
        adjusted = significance.holm([row["p_corrected"] for row in of_metric])
        for row, p in zip(of_metric, adjusted, strict=True):
            row["p_corrected_holm"] = p
            row["verdict"] = verdict(row)
        rows += of_metric
    return rows


def _row(results: Results, key: Key, pair: tuple[str, str], drawn: significance.Bootstrap | None) -> dict[str, Any]:
    a, b = (results.values(normalization, key) for normalization in pair)
    differences, share = a - b, 1 / results.study.design.folds
    worse, same, better = significance.bayes(differences, test_share=share)
    return {
        "metric": key[0], "which": key[1], "a": pair[0], "b": pair[1], "n_folds": len(differences),
        "difference": float(differences.mean()), "p_t": significance.t_test(differences),
        "p_wilcoxon": significance.wilcoxon(differences),
        "p_corrected": significance.corrected_t_test(differences, test_share=share),
        "p_worse": worse, "p_equivalent": same, "p_better": better,
        "bootstrap_low": drawn.low if drawn else None, "bootstrap_high": drawn.high if drawn else None,
        "p_bootstrap": drawn.p if drawn else None,
    }  # fmt: skip


def verdict(row: dict[str, Any]) -> str:
    """Whether a difference that an uncorrected test finds is also found by the corrected one with Holm's adjustment.

    `row`: of `COMPARISONS`.
    """
    naive = min(row["p_t"], row["p_wilcoxon"]) < significance.ALPHA
    corrected = row["p_corrected_holm"] < significance.ALPHA
    return (SURVIVES if corrected else FALLS) if naive else (REVEALED if corrected else NONE)
