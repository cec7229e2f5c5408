"""The report of a study: one HTML page that needs nothing else, and the same in Markdown.

The paper's tables and its figure are repeated, with the paper's own numbers beside them. The contents are made once, as
`Section`s, and rendered twice.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modic.errors import WeightsError
from modic.experiment import findings, published, significance, simulation
from modic.experiment.figure import figure
from modic.experiment.folder import open_study
from modic.experiment.results import Results, gather, write
from modic.files import write_whole
from modic.grades import GRADES, TYPES
from modic.models.card import model_id, read_card
from modic.records import LEVELS
from modic.statistics.intervals import wilson
from modic.statistics.metric_tables import Table
from modic.statistics.metrics import Key
from modic.templates.render import template
from modic.versions import versions

TRUE_SHARES = ((0.80, 0.05, 0.15), (0.90, 0.01, 0.09), (0.70, 0.15, 0.15))
"""Populations in which the measured confusion matrix is applied; the paper's first."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report."""

    title: str
    text: tuple[str, ...] = ()  # paragraphs
    tables: tuple[Table, ...] = ()
    figure: bool = False  # whether the figure belongs here
    quoted: str = ""  # text to copy


@dataclass(frozen=True, slots=True)
class Outcome:
    """The report that was written."""

    page: Path
    answer: str  # in one paragraph
    warnings: tuple[str, ...]


def write_study(out: Path) -> Outcome:
    """Write tables and report of the folds that are finished. Raises UsageError if there are none."""
    results = gather(open_study(out))
    write(results)
    answer, drawn, cautions = findings.answer(results), figure(results), warnings(results)
    facts = {
        "answer": answer, "warnings": cautions, "sections": sections(results), "line": results.study.line(),
        "figure": drawn, "citation": published.CITATION,
    }  # fmt: skip
    write_whole(out / "figure2.svg", drawn)
    write_whole(out / "report.md", template("study.md").render(facts))
    page = write_whole(out / "report.html", template("study.html").render(facts))
    return Outcome(page, answer, tuple(cautions))


def warnings(results: Results) -> list[str]:
    """Sentences that a reader must know before any number."""
    study, design = results.study, results.study.design
    cautions = []
    if len(results.finished) < len(design.every_fold):
        n = len(results.finished)
        cautions.append(f"Not finished: {n} of {len(design.every_fold)} folds; the same command trains the rest.")
    if short := design.distance():
        cautions.append(f"Not the full design. {'; '.join(short)}.")
    if design.synthetic:
        cautions.append("Synthetic spines: these numbers compare normalizations on simulated images, not on patients.")
    missing = [GRADES[k] for k in TYPES if k not in study.classes]
    if missing:
        cautions.append(f"The data hold no {' and no '.join(missing)}: numbers are of the other types only.")
    return cautions


def sections(results: Results) -> list[Section]:
    """All sections, in the order of the report."""
    return [
        Section("Which differences hold", (
            "A fold shares most of its training patients with every other fold, and repeats share all of them. So "
            "folds are not independent, and tests that assume it find differences although there are none. For each "
            "metric:",
            *findings.survival(results),
        )),
        table_2(results),
        Section("Figure 2: folds by normalization", (
            "Boxes are quartiles over folds, whiskers reach to the last fold within 1.5 interquartile ranges. A solid "
            "bracket marks a difference that holds after correction and Holm's adjustment; a dashed one, a difference "
            "that only uncorrected tests find. Stars: * p < 0.05, ** p < 0.01, *** p < 0.001.",
        ), figure=True),
        comparisons(results), confusion(results), prevalence(results), table_1(results.study.design.detector),
        simulated(results),
        Section("Definitions", (
            "Sensitivity of a type: share of its discs that are graded so. Balanced accuracy: unweighted mean of the "
            "sensitivities of the types that occur. F1 of a type: 2 × right / (discs of the type + discs graded so). "
            "Macro F1: unweighted mean over types. Weighted F1: mean weighted by how often types occur. The grade is "
            "the most probable type; nothing is left ungraded here. SD is over folds. The paper defines neither its F1 "
            "nor its averages; its F1 stands beside our weighted F1, which is nearest.",
        )),
        Section("Methods, to paste", quoted=findings.methods(results)),
        what_ran(results),
    ]  # fmt: skip


def mean_sd(values: np.ndarray) -> str:
    """Mean and standard deviation as text: `0.800 ± 0.020`."""
    if not len(values):
        return "–"
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


def table_2(results: Results) -> Section:
    """Sensitivities, balanced accuracy and F1 as mean ± SD over folds, each beside the paper's."""
    keys: list[Key] = [("sensitivity", GRADES[k]) for k in results.study.classes]
    keys += [("balanced accuracy", "all"), ("F1", "weighted"), ("F1", "macro")]
    header: list[str] = ["normalization"]
    for key in keys:
        header += [findings.metric_name(*key)] + ([] if key == ("F1", "macro") else ["paper"])
    rows = []
    for name in results.study.design.normalizations:
        row: list[str] = [name]
        for key in keys:
            row.append(mean_sd(results.values(name, key)))
            if key != ("F1", "macro"):
                papers = published.RESULTS[name].get(("F1", "not defined") if key[0] == "F1" else key)
                row.append("–" if papers is None else f"{papers:.2f}")
        rows.append(tuple(row))
    text = (
        "Mean ± SD over folds. The paper's numbers are of its own patients and networks: they are beside ours for "
        "reference, not to be beaten.",
    )
    return Section("Table 2: sensitivity, balanced accuracy, F1", text, (Table("", tuple(header), rows),))


def comparisons(results: Results) -> Section:
    """All pairs under all tests, one table for each metric."""
    header = (
        "A – B", "difference", "t-test", "Wilcoxon", "corrected", "corrected, Holm", "P(worse)", "P(equivalent)",
        "P(better)", "bootstrap 95 %", "finding",
    )  # fmt: skip
    tables: dict[str, list[tuple[str, ...]]] = {}
    for row in results.comparisons:
        cells = [findings.number(row[k]) for k in ("p_t", "p_wilcoxon", "p_corrected", "p_corrected_holm")]
        cells += [findings.number(row[k]) for k in ("p_worse", "p_equivalent", "p_better")]
        drawn = "–" if row["bootstrap_low"] is None else f"{row['bootstrap_low']:+.3f} to {row['bootstrap_high']:+.3f}"
        line = (f"{row['a']} – {row['b']}", f"{row['difference']:+.3f}", *cells, drawn, row["verdict"])
        tables.setdefault(findings.metric_name(row["metric"], row["which"]), []).append(line)
    text = (
        "p-values: paired t-test and Wilcoxon's signed-rank test over folds, as such studies usually have them, and "
        "the corrected resampled t-test, alone and adjusted by Holm's method over the pairs of one metric.",
        f"Probabilities: that A is worse than B by more than {significance.ROPE:g}, equivalent, or better (Bayesian "
        "correlated t-test). Bootstrap: interval of the difference if patients were drawn again, all folds and repeats "
        "pooled; networks stay as they were trained, so it does not hold the uncertainty of training.",
    )
    return Section("All comparisons", text, tuple(Table(name, header, rows) for name, rows in tables.items()))


def confusion(results: Results) -> Section:
    """Counts over all folds and repeats, and shares of the true type."""
    classes = results.study.classes
    tables = []
    for name in results.study.design.normalizations:
        counts = results.confusion(name)
        rows = []
        for k in classes:
            of_class = counts[k].sum()
            rows.append((GRADES[k], *(f"{int(counts[k, j])} ({counts[k, j] / of_class:.1%})" for j in classes)))
        tables.append(Table(name, ("true type", *(f"graded {GRADES[j]}" for j in classes)), rows))
    text = ("Predictions out of fold; each disc is counted once a repeat. In brackets the share of the true type.",)
    return Section("Confusion matrices", text, tuple(tables))


def prevalence(results: Results) -> Section:
    """Shares of grades in three populations, with the measured confusion matrices and the paper's sensitivities."""
    classes = list(results.study.classes)
    rows = []
    for true in TRUE_SHARES:
        shares = np.array(true) * np.isin(TYPES, classes)
        shares = shares / shares.sum()
        for name, matrix in _matrices(results).items():
            graded, right = significance.apparent(matrix, shares)
            rows.append((
                ", ".join(f"{GRADES[k]} {shares[k]:.1%}" for k in classes), name,
                *(f"{graded[k]:.1%}" for k in classes), *(two(right[k]) for k in classes),
            ))  # fmt: skip
    header = (
        "true shares", "graded by", *(f"graded {GRADES[k]}" for k in classes),
        *(f"of {GRADES[k]} grades right" for k in classes),
    )  # fmt: skip
    text = (
        "Counting grades does not count lesions: where a type is rare, the false grades of the frequent ones outnumber "
        "it. Shares of grades, and how many of them are right (positive predictive value), that each confusion matrix "
        "gives in three populations. The paper prints sensitivities only; its errors are divided equally between the "
        "other two types here.",
    )
    return Section("What prevalence does", text, (Table("", header, rows),))


def _matrices(results: Results) -> dict[str, np.ndarray]:
    """Name → confusion matrix (3 true, 3 graded) in shares of the true type."""
    matrices: dict[str, np.ndarray] = {}
    for name in results.study.design.normalizations:
        counts = results.confusion(name)
        matrices[name] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    if results.study.classes == TYPES:
        matrices["standardize, paper"] = published.confusion("standardize")
    return matrices


def table_1(detector: str = "") -> Section:
    """IoU and confidence by level of the detectors at hand, as their cards have them, beside the paper's.

    `detector`: the weights that boxed the study's discs, if any did; weights that have gone since are left out.
    """
    cards: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, title in (("detector", "shipped"), ("paper", "paper's design"), (detector, "this study's")):
        with suppress(WeightsError):
            card = read_card(name, "detector")[0] if name else {}
            cards.setdefault(model_id(card) if name else "", (title, card))
    groups = {f"{title}: {of}": part for title, card in cards.values() for of, part in card.get("results", {}).items()}
    rows = []
    for level, papers in zip(LEVELS, published.TABLE_1, strict=True):
        cells = [two(part[level][key]) for part in groups.values() for key in ("iou", "score", "named_right")]
        rows.append((level, *cells, *papers))
    header = [column for name in groups for column in (f"{name}: IoU", "confidence", "named right")]
    text = (
        "From the detectors' cards: of what is shipped, of the paper's design (ResNet50) where it is installed, and of "
        "the weights that boxed this study's discs if they are others. The paper's are of its 152 test patients. "
        "`modic evaluate detector` measures the same on your own boxes.",
    )
    table = Table("", ("level", *header, "paper: IoU", "paper: confidence"), rows)
    return Section("Table 1: finding the levels", text, (table,))


def two(value: float | None) -> str:
    """With two decimals; a dash where there is nothing to count, such as a type that nobody graded."""
    return "–" if value is None or np.isnan(value) else f"{value:.2f}"


def simulated(results: Results) -> Section:
    """The results of `modic study simulate --out STUDY`, if it was run."""
    path = results.study.design.out / "simulation.parquet"
    title = "How often the tests are wrong"
    if not path.is_file():
        return Section(title, (f"`modic study simulate --out {path.parent.name}` measures it and adds it here.",))
    return Section(title, (simulation.INTRODUCTION,), (simulation_table(pq.read_table(path).to_pylist()),))


def simulation_table(rows: list[dict[str, Any]]) -> Table:
    """Type I error of each test with its 95 % interval (Wilson)."""

    def share(column: str) -> str:
        if not column:
            return "–"
        k, n = simulation.false_findings(rows, column), len(rows)
        low, high = wilson(k, n)
        return f"{k / n:.1%} ({low:.1%}–{high:.1%})"

    lines = [(name, share(one_pair), share(any_pair)) for name, one_pair, any_pair in simulation.TESTS]
    title = f"Type I error at 5 %, {len(rows)} simulations"
    return Table(title, ("test", "one pair", "any of six pairs"), lines)


def what_ran(results: Results) -> Section:
    """Data, folds, seed, times, versions, and the names of the tables."""
    design = results.study.design
    minutes, epochs = (
        [row["value"] for row in results.folds if row["metric"] == metric] for metric in ("minutes", "epochs")
    )
    sources = ", ".join(source if source in design.synthetic else source.split("=")[0] for source in design.data)
    if "synthetic" in sources:
        sources += f"; lesions {design.lesion_depth:g} times as deep as the phantom's"
    facts = (
        ("data", sources), ("folds", f"{len(results.finished)} of {len(design.every_fold)}"),
        ("seed", str(design.seed)), ("batches an epoch", str(design.epoch_steps or "all regions")),
        ("epochs, mean", f"{np.mean(epochs):.1f}"), ("training, minutes a fold", f"{np.mean(minutes):.2f}"),
        *(("trained with", _listed(versions_of)) for versions_of in results.trained_with),
        ("tables and report", _listed(versions())),
        ("tables", "folds.parquet, out_of_fold.parquet, comparisons.parquet; every column is described in its schema"),
    )  # fmt: skip
    return Section("What ran", (), (Table("", ("what", "value"), facts),))


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
