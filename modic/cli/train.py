"""`modic train`."""

from typing import Any

from modic.cli.options import add_command, add_models

DETECTOR = """\
  modic train detector --data coco=boxes.json --data phantom=300 --init imagenet --out mine/detector

Of the patients, 70 % train, 10 % decide when to stop and which epoch to keep, 20 % are the test set of the card. The
defaults are the paper's (Adam at 0.001, patience 5, rotations of 10 degrees).

"""
CLASSIFIER = """\
  modic train classifier --data archive=/archive/lumbar --labels readings.csv --data phantom=200 --out mine/classifier

Of the patients, 20 % are the test set; of the others some decide when to stop and some fit the calibration. The
defaults are the paper's (Adam at 0.001, patience 5). Types are drawn equally often; type 1, which is rare, is also
painted into real discs.

"""
ENDPLATES = """\
  modic train endplates --data space=DIR --data spider=DIR --data phantom=120 --out mine/endplates

By patient, 70 % train, 10 % decide which epoch is kept, 20 % are kept for the test in the card. The network finds
vertebral bodies, discs and the canal; along the endplates between them the marrow is measured.

"""


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic train classifier --data archive=/archive/lumbar --labels readings.csv --data phantom=200 --out mine/classifier
  modic train detector --data coco=boxes.json --data phantom=300 --out mine/detector
  modic train classifier --help                               # all options, and the formats of data and labels

The defaults are the paper's recipe. After a training was stopped or killed, the same command goes on.
Use the result with `classifier = "mine/classifier/classifier.safetensors"` in cohort.toml."""
    train = add_command(commands, "train", None, "train the detector, the classifier or the endplate network", examples)
    if not wanted:
        return
    from modic.train import classifier, detector, endplates
    from modic.train.data import COCO_HELP, DATA_HELP

    about = {"detector": f"{DETECTOR}{DATA_HELP}\n\n{COCO_HELP}", "classifier": f"{CLASSIFIER}{DATA_HELP}"}
    about["endplates"] = ENDPLATES
    add_models(train, "train", {"detector": detector, "classifier": classifier, "endplates": endplates}, about)
