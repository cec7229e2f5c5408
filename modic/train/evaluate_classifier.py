"""How well weights grade: `modic evaluate classifier --data … --weights classifier --out DIR`.

Measured are sensitivity, specificity, F1, Cohen's κ, ROC areas, calibration before and after the temperature, coverage
and abstention of the prediction sets, each with a 95 % interval by patient. Real discs, real discs with a painted
type 1, and phantoms are three separate groups; real discs are also shown by manufacturer and field strength.
`--jitter`, `--misregister-mm` and `--slices` measure how grades suffer if boxes are inaccurate, T1 and T2 do not lie on
each other, or a stack has few slices (modic/train/augment/regions.py, `Stress`).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from modic.errors import UsageError
from modic.grades import CLASSES
from modic.grading.classify import prediction_set
from modic.grading.measured import measured_of
from modic.statistics.metric_tables import Table, cell, count, with_intervals
from modic.statistics.metrics import (
    OEDEMA_FOUND,
    Numbers,
    counted,
    grade_metrics,
    mc,
    oedema_found,
    probability_metrics,
    set_metrics,
)
from modic.tables.described import Columns
from modic.train.audit import audit, audit_tables
from modic.train.augment.regions import Example, Stress
from modic.train.classifier import read_sources
from modic.train.command_line import options_of
from modic.train.evaluation import data_sentence, write_evaluation
from modic.train.frozen import with_marrow
from modic.train.inference import predict
from modic.train.options import ClassifierTraining, add_evaluation_arguments
from modic.train.sampling import examples_by_part

MOST_JITTER, MOST_MM = 0.2, 5.0  # the margin of the cached regions has no room for more
BEFORE = " before temperature"
MADE_UP = "MC1 was judged on synthetic and painted lesions only, never on real ones"
PREDICTIONS: Columns = {
    "patient": ("string", "the patient, as the data name them"),
    "level": ("string", "level of the disc"),
    "source": ("string", "data source; painted: type 1 was painted into a real disc of type 0; phantom: synthetic"),
    "condition": ("string", "as trained, or how the images were made harder"),
    "label": ("int64", "Modic type 0, 1, 2; type 1 of the sources painted and phantom is no real lesion"),
    **{f"logit{k}": ("float64", f"the network's output for type {k}") for k in range(CLASSES)},
    **{f"p_mc{k}": ("float64", f"calibrated probability of type {k}, 0-1") for k in range(CLASSES)},
    "mc": ("int64", "most probable type"),
    "prediction_set": ("list<int8>", "types that cannot be ruled out (conformal prediction); may be empty"),
    "abstained": ("bool", "whether the prediction set is not a single type: a cohort's table would then have no grade"),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `modic evaluate classifier`."""
    add_evaluation_arguments(parser, ClassifierTraining, model="classifier")
    parser.add_argument(
        "--jitter", type=float, default=0.0, metavar="SHARE",
        help=f"move and scale boxes by up to this share of their width (0.1: ±10 %%), at most {MOST_JITTER}",
    )  # fmt: skip
    parser.add_argument(
        "--misregister-mm", type=float, default=0.0, metavar="MM",
        help=f"shift T1 against T2 by this much (a disc taken for 35 mm), at most {MOST_MM:g}",
    )  # fmt: skip
    parser.add_argument(
        "--slices", type=int, default=5, choices=(1, 3, 5),
        help="show so many different slices of a disc; the others repeat the nearest (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--audit", type=Path, metavar="GRADES.csv",
        help="what the grader adds to degeneration: Pfirrmann grades and more of the discs; see below",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """`modic evaluate classifier`."""
    from modic.models.weights import load_classifier
    from modic.train.loop import prepare

    stress = stress_of(args)
    model = load_classifier(args.weights, device=prepare(args.device, seed=0, threads=args.threads))
    options = options_of(ClassifierTraining, args, **(model.card["preprocessing"] | {"device": model.device}))
    calibration = model.card["calibration"]
    if "marrow" in calibration:
        options = replace(options, segmenter=args.segmenter or "endplates")
    parts = examples_by_part(read_sources(options))
    examples = parts["test"] if args.part == "test" else [e for part in parts.values() for e in part]
    if not examples:
        raise UsageError("no labelled patient of these data is in the test part; --part all takes all of them")
    logits = predict(model.net, examples, options, seed=1, stress=stress)
    logits = with_marrow(logits, examples, measured_of(calibration))
    groups = grouped(examples)
    metrics = {
        name: measure_group(name, [examples[i] for i in rows], logits[rows], calibration, stress)
        for name, rows in groups.items()
    }
    rows = predictions(examples, logits, calibration, stress)
    tables = [table for name, numbers in metrics.items() for table in _tables(name, numbers)]
    metric_rows = [row for numbers in metrics.values() for row in numbers]
    _save_diagram(args.out, examples, logits, calibration["temperature"], groups)
    facts = _facts(args, model.id, examples, stress)
    if args.audit:
        audited, more = audit(args.audit, examples, logits, model, options, condition=condition(stress), note="")
        tables, metric_rows, facts = [*tables, *audit_tables(audited)], [*metric_rows, *audited], [*facts, *more]
    write_evaluation(args.out, "Evaluation of the classifier", facts, tables, metric_rows, rows, PREDICTIONS)
    return 0


def stress_of(args: argparse.Namespace) -> Stress:
    """The robustness options. Raises UsageError if they ask for more than the margin of the regions has room for."""
    if not 0 <= args.jitter <= MOST_JITTER:
        raise UsageError(f"--jitter {args.jitter:g}: give 0 to {MOST_JITTER}")
    if not 0 <= args.misregister_mm <= MOST_MM:
        raise UsageError(f"--misregister-mm {args.misregister_mm:g}: give 0 to {MOST_MM:g}")
    return Stress(args.jitter, args.misregister_mm, args.slices)


def condition(stress: Stress) -> str:
    """The stress in words, for tables."""
    words = [f"boxes ±{stress.jitter:.0%}"] if stress.jitter else []
    words += [f"T1 {stress.misregister_mm:g} mm off T2"] if stress.misregister_mm else []
    words += [f"slices shown: {stress.slices}"] if stress.slices != Stress().slices else []
    return ", ".join(words) or "as trained"


def about_mc1(examples: list[Example]) -> str:
    """The note beside every number about type 1, if some of its examples are not real; else empty."""
    of_type1 = [e for e in examples if e.label == 1]
    n = sum(e.real for e in of_type1)
    if not of_type1 or n == len(of_type1):
        return ""
    return f"MC1: {n} real discs, {len(of_type1) - n} synthetic or painted ones" if n else MADE_UP


def grouped(examples: list[Example]) -> dict[str, list[int]]:
    """Name of each group → indices of its examples; an example may be in two groups.

    If the real discs are of several scanners, there is also a group for each scanner.
    """
    groups = {
        "real": [i for i, e in enumerate(examples) if e.real],
        "real and painted MC1": [i for i, e in enumerate(examples) if e.disc.source != "phantom"],
        "phantom": [i for i, e in enumerate(examples) if e.disc.source == "phantom"],
    }
    if groups["real and painted MC1"] == groups["real"]:
        del groups["real and painted MC1"]
    scanners = sorted({e.disc.scanner for e in examples if e.real and e.disc.scanner})
    for scanner in scanners if len(scanners) > 1 else ():
        groups[f"real, {scanner}"] = [i for i, e in enumerate(examples) if e.real and e.disc.scanner == scanner]
    return {name: rows for name, rows in groups.items() if rows}


def measure_group(
    name: str, examples: list[Example], logits: np.ndarray, calibration: dict[str, Any], stress: Stress
) -> list[dict[str, Any]]:
    """The metrics of one group, one row each; those of calibration before and after the temperature.

    `calibration`: of the classifier's card.
    """
    labels = np.array([e.label for e in examples])
    raw, p = softmax(logits, axis=-1), softmax(logits / calibration["temperature"], axis=-1)

    def statistic(rows: np.ndarray) -> Numbers:
        before = probability_metrics(raw[rows], labels[rows])
        return (
            grade_metrics(p[rows], labels[rows])
            | oedema_found(p[rows], labels[rows])
            | set_metrics(p[rows], labels[rows], calibration["conformal_q"])
            | probability_metrics(p[rows], labels[rows])
            | {(metric + BEFORE, which): value for (metric, which), value in before.items()}
        )

    shared = {"group": name, "condition": condition(stress), "note": about_mc1(examples)}
    patients = [_patient(e) for e in examples]
    return with_intervals(statistic, patients, lambda key: counted(key, labels), **shared)


def _patient(example: Example) -> str:
    """Source and patient: two sources may use the same name for two patients."""
    return f"{example.disc.source} {example.disc.patient}"


def predictions(
    examples: list[Example], logits: np.ndarray, calibration: dict[str, Any], stress: Stress
) -> list[dict[str, Any]]:
    """Rows of `PREDICTIONS`, one for each example."""
    rows, quantiles = [], np.asarray(calibration["conformal_q"])
    for example, out, p in zip(examples, logits, softmax(logits / calibration["temperature"], axis=-1), strict=True):
        types = prediction_set(p, quantiles)
        rows.append({
            "patient": example.disc.patient, "level": example.disc.level, "source": example.source,
            "condition": condition(stress), "label": example.label,
            **{f"logit{k}": float(out[k]) for k in range(CLASSES)}, **{f"p_mc{k}": float(p[k]) for k in range(CLASSES)},
            "mc": int(p.argmax()), "prediction_set": list(types), "abstained": len(types) != 1,
        })  # fmt: skip
    return rows


def _tables(name: str, rows: list[dict[str, Any]]) -> list[Table]:
    note = rows[0]["note"]
    title = f"{name}{f' ({note})' if note else ''}"
    by_class = ("sensitivity", "specificity", "F1", "ROC AUC", "coverage", "abstained")
    classes = [
        (mc(k), count(rows, "sensitivity", mc(k)),
         *(cell(rows, m, f"{mc(k)} vs rest" if m == "ROC AUC" else mc(k)) for m in by_class))
        for k in range(CLASSES) if count(rows, "sensitivity", mc(k)) != "0"
    ]  # fmt: skip
    overall = [
        (f"{metric}, {which}", cell(rows, metric, which))
        for metric, which in (
            ("balanced accuracy", "all"), ("F1", "macro"), ("F1", "weighted"), ("Cohen's kappa", "all"),
            ("Cohen's kappa", "linear weights"), ("ROC AUC", "MC0 vs MC2"), OEDEMA_FOUND, ("coverage", "all"),
            ("abstained", "all"), ("accuracy where not abstained", "all"),
        )
        if cell(rows, metric, which) != "–"
    ]  # fmt: skip
    kinds = ("calibration error", "Brier")
    calibration = [
        (which, *(cell(rows, f"{kind}{when}", which) for kind in kinds for when in (BEFORE, "")))
        for which in ("all", "classes weighted equally", *map(mc, range(CLASSES)))
        if cell(rows, "Brier", which) != "–"
    ]
    before_after = tuple(f"{kind} {when}" for kind in kinds for when in ("before", "after"))
    return [
        Table(title, ("class", "discs", *("ROC AUC vs rest" if m == "ROC AUC" else m for m in by_class)), classes),
        Table(f"{title}: all", ("metric", "value"), overall),
        Table(f"{title}: calibration before and after the temperature", ("of", *before_after), calibration),
    ]


def _save_diagram(
    out: Path, examples: list[Example], logits: np.ndarray, temperature: float, groups: dict[str, list[int]]
) -> None:
    """OUT/reliability.png, of the real discs if there are some."""
    from modic.train.plots import reliability_diagram, save_png

    name = next(group for group in ("real and painted MC1", "real", "phantom") if group in groups)
    chosen, chosen_logits = [examples[i] for i in groups[name]], logits[groups[name]]
    labels = np.array([e.label for e in chosen])
    before, after = softmax(chosen_logits, axis=-1), softmax(chosen_logits / temperature, axis=-1)
    image = reliability_diagram(before, after, labels, title=name, note=about_mc1(chosen))
    out.mkdir(parents=True, exist_ok=True)
    save_png(out / "reliability.png", image)


def _facts(args: argparse.Namespace, weights: str, examples: list[Example], stress: Stress) -> list[str]:
    """Sentences above the tables."""
    patients = len({_patient(e) for e in examples})
    facts = [
        data_sentence(args.data, args.part, weights, patients),
        f"Images: {condition(stress)}. A shift in mm takes a disc's box for 35 mm, right to about a fifth.",
        "Balanced accuracy and macro F1: mean over the types that occur; weighted F1: by how often they occur. Metrics "
        "of one class are against the other two. Abstained discs are graded by their most probable type here, "
        "except in `accuracy where not abstained`.",
        "Probabilities assume the three types equally frequent; where they are not, calibration is off by that alone: "
        "see `classes weighted equally`.",
    ]
    note = about_mc1(examples)
    return [*facts, f"{note}."] if note else facts
