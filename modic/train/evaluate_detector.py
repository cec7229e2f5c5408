"""How well weights find and name the levels: `modic evaluate detector --data … --weights detector --out DIR`.

Measured are IoU and confidence by level, beside those of the paper (its Table 1, of boxes that were found), the share
of discs, slices and patients whose names are right, and whether the numbering of the others was flagged `uncertain`, as
in grading. Each slice is a study of its own here, while grading joins three. A patient is wrong if any slice is wrong,
and a wrong patient counts as flagged if all its wrong slices were. Transitional spines, whose levels have two correct
sets of names, are left out.
"""

import argparse
from typing import Any

import numpy as np

from modic.errors import UsageError
from modic.records import LEVELS
from modic.statistics.metric_tables import Table, cell, count, with_intervals
from modic.statistics.metrics import Key, level_metrics, numbering_metrics
from modic.tables.described import Columns
from modic.train.command_line import options_of
from modic.train.data.split import split_of
from modic.train.detector import samples_of
from modic.train.detector_results import CORNERS, compare, present_discs
from modic.train.evaluation import data_sentence, write_evaluation
from modic.train.options import DetectorTraining, add_evaluation_arguments

PAPER_IOU = ("0.70", "0.80", "0.78", "0.81", "0.82", "0.81")
PAPER_CONFIDENCE = ("0.93", "0.98", "0.98", "0.93", "0.97", "0.98")
"""Cina et al. 2023, Table 1, T12/L1 to L5/S1, on 152 test patients."""

BOXES = {
    f"{kind}_{corner}": ("float64", f"{text}, corner {corner}, px; null without one")
    for kind, text in (("true", "box of the label"), ("found", "box found under this name"))
    for corner in CORNERS
}
PREDICTIONS: Columns = {
    "source": ("string", "name of the data source"),
    "patient": ("string", "the patient, as the data name them"),
    "contrast": ("string", "contrast of the slice"),
    "slice": ("int64", "number of the slice within its source, from 0"),
    "level": ("string", "level of the label, or claimed where there is none"),
    **BOXES,
    "iou": ("float64", "intersection over union of both boxes; 0: nothing there has the name; null: only claimed"),
    "score": ("float64", "the detector's score of the box found, 0-1"),
    "named_right": ("bool", "IoU of at least 0.5 under the right name"),
    "slice_right": ("bool", "all levels of the slice are named right and no other is claimed"),
    "numbering": ("string", "ok, or uncertain: the names of the slice's levels may be shifted"),
    "p_numbering": ("float64", "probability that the slice's names are right, 0-1"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `modic evaluate detector`."""
    add_evaluation_arguments(parser, DetectorTraining, model="detector")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="which synthetic patients phantom=N makes; take that of the training (default: 0)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """`modic evaluate detector`."""
    from modic.models.weights import load_detector
    from modic.train.loop import prepare

    device = prepare(args.device, seed=0, threads=args.threads)
    model = load_detector(args.weights, device=device)
    options = options_of(DetectorTraining, args, device=device)
    rows = []
    for source, samples in samples_of(options).items():
        chosen = [s for s in samples if not s.other and (args.part == "all" or split_of(s.patient) == "test")]
        rows += [{"source": source, **row} for row in compare(chosen, model)]
    if not rows:
        raise UsageError("no labelled patient of these data is in the test part; --part all takes all of them")
    groups = grouped(rows)
    metrics = {name: measure_group(name, group) for name, group in groups.items()}
    facts = _facts(args, model.id, rows)
    tables = [table for name, numbers in metrics.items() for table in _tables(name, numbers)]
    metric_rows = [row for numbers in metrics.values() for row in numbers]
    write_evaluation(args.out, "Evaluation of the level detector", facts, tables, metric_rows, rows, PREDICTIONS)
    return 0


def grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by source, and by source and contrast if a source has several contrasts."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for source in dict.fromkeys(row["source"] for row in rows):
        of_source = [row for row in rows if row["source"] == source]
        groups[source] = of_source
        contrasts = sorted({row["contrast"] for row in of_source})
        for contrast in contrasts if len(contrasts) > 1 else ():
            groups[f"{source}, {contrast}"] = [row for row in of_source if row["contrast"] == contrast]
    return groups


def measure_group(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metrics of one group, one row each: of discs by level, of slices, and of patients."""
    kept, level, overlap, score = present_discs(rows)
    shared = {"group": name, "condition": "as trained", "note": ""}

    def used(key: Key) -> np.ndarray:
        which = level >= 0 if key[1] == "all" else level == LEVELS.index(key[1])
        return which if key[0] == "named right" else which & (overlap > 0)

    measured = with_intervals(
        lambda i: level_metrics(level[i], overlap[i], score[i]), [r["patient"] for r in kept], used, **shared
    )
    slices = {row["slice"]: (row["patient"], row["slice_right"], row["numbering"] == "uncertain") for row in rows}
    measured += _numbering(list(slices.values()), "slices", shared)
    return measured + _numbering(by_patient(list(slices.values())), "patients", shared)


def by_patient(slices: list[tuple[str, bool, bool]]) -> list[tuple[str, bool, bool]]:
    """(patient, right, flagged) of slices → the same of patients.

    A patient is right if all slices are. A wrong patient is flagged if all wrong slices are, a right one if any is.
    """
    patients = []
    for patient in sorted({name for name, _, _ in slices}):
        own = [(right, flagged) for name, right, flagged in slices if name == patient]
        wrong = [flagged for right, flagged in own if not right]
        patients.append((patient, not wrong, all(wrong) if wrong else any(flagged for _, flagged in own)))
    return patients


def _numbering(outcomes: list[tuple[str, bool, bool]], unit: str, shared: dict[str, str]) -> list[dict[str, Any]]:
    """Metrics of the names of whole slices or patients (`unit`); `outcomes`: (patient, right, flagged) of each."""
    right, flagged = (np.array([outcome[i] for outcome in outcomes], bool) for i in (1, 2))

    def used(key: Key) -> np.ndarray:
        return ~right if key[0] == "wrong ones flagged" else np.ones(len(right), bool)

    patients = [patient for patient, _, _ in outcomes]
    return with_intervals(lambda i: numbering_metrics(right[i], flagged[i], unit), patients, used, **shared)


def _tables(name: str, rows: list[dict[str, Any]]) -> list[Table]:
    papers = dict(zip(LEVELS, zip(PAPER_IOU, PAPER_CONFIDENCE, strict=True), strict=True)) | {"all": ("", "")}
    levels = [
        (
            level, count(rows, "named right", level), cell(rows, "IoU", level), paper[0],
            cell(rows, "confidence", level), paper[1], cell(rows, "named right", level),
        )
        for level, paper in papers.items()
    ]  # fmt: skip
    header = ("level", "discs", "IoU", "paper", "confidence", "paper", "named right")
    kinds = ("all names right", "flagged uncertain", "wrong ones flagged", "wrong and not flagged")
    units = [
        (kind, *(f"{cell(rows, kind, unit)} of {count(rows, kind, unit)}" for unit in ("slices", "patients")))
        for kind in kinds
    ]
    spine = Table(f"{name}: names of a whole spine", ("share", "slices", "patients"), units)
    return [Table(name, header, levels), spine]


def _facts(args: argparse.Namespace, weights: str, rows: list[dict[str, Any]]) -> list[str]:
    """Sentences above the tables."""
    patients = len({(row["source"], row["patient"]) for row in rows})
    return [
        data_sentence(args.data, args.part, weights, patients),
        "IoU and confidence are means over boxes found; named right is the share of discs with IoU of at least 0.5 "
        "under their name. The paper's numbers are of its own 152 test patients.",
        "Each slice is judged as a study of its own; grading joins three slices.",
    ]
