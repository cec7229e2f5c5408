"""`modic evaluate`."""

from typing import Any

from modic.cli.options import add_command, add_models

DETECTOR = """\
  modic evaluate detector --data archive=/archive/lumbar --labels boxes.csv --part all --out mine/levels

Per level: overlap with the given boxes (IoU) and confidence, beside those of the paper; the share of discs, slices and
patients whose names are right; and whether the numbering of the others was flagged uncertain."""
CLASSIFIER = """\
  modic evaluate classifier --data archive=/archive/lumbar --labels readings.csv --part all --out mine/grades
  modic evaluate classifier --data archive=/archive/lumbar --labels readings.csv --part all --slices 1 --out mine/thin
  modic evaluate classifier --data spider=DIR --detector detector --audit DIR/gradings.csv --out mine/audit

Sensitivity, specificity, F1, Cohen's kappa, ROC areas, calibration, abstention and coverage, each with a 95 % interval
by patient. Real discs, real discs with a painted type 1 and synthetic discs are measured apart and never pooled."""


def add(commands: Any, wanted: bool) -> None:
    examples = f"{DETECTOR.splitlines()[0]}\n{CLASSIFIER}"
    evaluate = add_command(
        commands, "evaluate", None, "measure a detector or a classifier on labelled patients", examples
    )
    if not wanted:
        return
    from modic.train import evaluate_classifier, evaluate_detector
    from modic.train.audit import AUDIT_HELP
    from modic.train.data import COCO_HELP, DATA_HELP

    modules = {"detector": evaluate_detector, "classifier": evaluate_classifier}
    about = {
        "detector": f"{DETECTOR}\n\n{DATA_HELP}\n\n{COCO_HELP}",
        "classifier": f"{CLASSIFIER}\n\n{AUDIT_HELP}\n\n{DATA_HELP}",
    }
    add_models(evaluate, "evaluate", modules, about)
