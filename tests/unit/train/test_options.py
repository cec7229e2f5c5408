"""The options of a training are written once: fields, arguments of the command, and the command line in a card."""

import argparse
import shlex
from pathlib import Path
from typing import Any

import pytest

from modic.train.command_line import add_options, command, declared, options_of
from modic.train.options import ClassifierTraining, DetectorTraining, Training

KINDS = {"classifier": ClassifierTraining, "detector": DetectorTraining}


def parsed(kind: type[Any], *arguments: str) -> Any:
    parser = argparse.ArgumentParser()
    add_options(parser, kind)
    return options_of(kind, parser.parse_args(arguments))


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_command_without_options_has_the_defaults_of_the_class(kind: type[Training]) -> None:
    options = parsed(kind, "--data", "phantom=3", "--out", "x", "--data", "spider=y")
    assert options == kind(data=("phantom=3", "spider=y"), out=Path("x"))  # type: ignore[call-arg]


def test_each_option_is_read_as_its_field_is_typed() -> None:
    options = parsed(
        ClassifierTraining, "--data", "phantom=3", "--out", "x", "--widths", "1,2,3,4", "--freeze-trunk", "--workers",
        "2", "--labels", "a.csv", "--alpha", "0.2", "--normalization", "gamma",
    )  # fmt: skip
    assert options.widths == (1, 2, 3, 4) and options.freeze_trunk and options.workers == 2
    assert options.labels == Path("a.csv") and options.alpha == 0.2 and options.normalization == "gamma"


@pytest.mark.parametrize("widths", ["1,2,3", "1,2,3,x", "0,1,2,3", ""])
def test_wrong_widths_are_refused(widths: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(ClassifierTraining, "--data", "phantom=3", "--out", "x", "--widths", widths)
    assert "four whole numbers" in capsys.readouterr().err


def test_help_says_every_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, ClassifierTraining)
    text = " ".join(parser.format_help().split())
    for words in ("(default: 0.001)", "(default: 16,32,96,192)", "(default: standardize)", "(default: random)"):
        assert text.count(words) == 1
    assert "resnet3d: the paper's (default); efficientnet_lite0: what is shipped" in text


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("classifier", {"backbone": "efficientnet_lite0", "freeze_trunk": True, "folds": 5, "minutes": 3.5}),
        ("classifier", {"widths": (8, 16, 32, 64), "normalization": "clahe", "detector": "detector"}),
        ("detector", {"optimizer": "adamw", "learning_rate": 2e-4, "init": "imagenet", "steps": 17}),
    ],
)
def test_the_command_line_of_a_card_repeats_the_training(name: str, changed: dict[str, Any]) -> None:
    options = KINDS[name](data=("phantom=3",), out=Path("DIR"), **changed)
    words = shlex.split(command(name, options))
    assert words[:3] == ["modic", "train", name]
    assert parsed(KINDS[name], *words[3:]) == options


def test_the_command_line_of_a_card_names_no_folder_no_patient_and_no_machine() -> None:
    options = ClassifierTraining(
        data=("archive=/clinic/mri", "phantom=300"), out=Path("/home/me/x"), labels=Path("/clinic/doe.csv"),
        detector="/home/me/mine.safetensors", init="medicalnet=/home/me/resnet_10.pth", device="cuda", threads=9,
        workers=7,
    )  # fmt: skip
    line = command("classifier", options)
    assert "--data archive=DIR --data phantom=300 --labels FILE.csv --detector NAME.safetensors --out DIR" in line
    assert "--init medicalnet=resnet_10.pth" in line and "--freeze-trunk" not in line
    assert not any(word in line for word in ("clinic", "/home", "doe", "cuda", "--threads", "--workers"))
    lite = command("classifier", ClassifierTraining(data=(), out=Path("x"), backbone="efficientnet_lite0"))
    assert "--depth" not in lite and "--widths" not in lite


def test_every_option_has_one_line_of_help() -> None:
    for kind in KINDS.values():
        for name, _, option in declared(kind):
            assert option.help and "\n" not in option.help, name
