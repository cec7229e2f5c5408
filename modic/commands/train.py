"""`modic train`."""

from typing import Any

from modic.commands.adding import add_command, add_models


def add(commands: Any, wanted: bool) -> None:
    examples = "  modic train detector --help\n  modic train classifier --help"
    train = add_command(commands, "train", None, "train the detector or the classifier", examples)
    if not wanted:
        return
    from modic.train import classifier, detector

    add_models(train, "train", {"detector": detector, "classifier": classifier})
