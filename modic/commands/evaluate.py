"""`modic evaluate`."""

from typing import Any

from modic.commands.adding import add_command, add_models


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic evaluate detector --data spider=DIR --out evaluation
  modic evaluate classifier --data spider=DIR --weights mine/classifier.safetensors --out evaluation
  modic evaluate classifier --data spider=DIR --out thin --slices 1 --jitter 0.1"""
    evaluate = add_command(
        commands, "evaluate", None, "measure a detector or a classifier on labelled patients", examples
    )
    if not wanted:
        return
    from modic.train import evaluate_classifier, evaluate_detector

    add_models(evaluate, "evaluate", {"detector": evaluate_detector, "classifier": evaluate_classifier})
