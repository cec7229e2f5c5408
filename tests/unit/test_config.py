"""Configuration: defaults are the documented ones, and what is unknown or wrong is named."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from modic import versions
from modic.config import GRADING_SECTIONS, Config, GradingOptions, LevelOptions, RegistrationOptions, load_config
from modic.errors import UsageError
from modic.run.prepare import with_alpha

EXAMPLE = Path(__file__).parents[2] / "deployments" / "cohort.toml"


def test_the_example_holds_every_option_at_its_default():
    assert load_config(EXAMPLE) == Config()
    text = EXAMPLE.read_text(encoding="utf-8")
    for section in fields(Config):
        if is_dataclass(section.default):
            assert f"[{section.name}]" in text
            for option in fields(section.default):
                assert f"\n{option.name} = " in text
                assert option.metadata["help"]


def test_the_example_tells_the_numbers_that_the_options_tell():
    """Its comments are worded anew here and there, so the numbers in them are compared."""
    text = re.sub(r"\n +#", "", EXAMPLE.read_text(encoding="utf-8"))
    for section in fields(Config):
        for option in fields(section.default) if is_dataclass(section.default) else ():
            (comment,) = re.findall(rf"^{option.name} = [^#\n]*#(.*)$", text, re.MULTILINE)
            told, said = (re.findall(r"\d+(?:\.\d+)?", words) for words in (option.metadata["help"], comment))
            assert told == said, option.name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[levels]\nslice = 3\n",
            "unknown key `slice`; known here: apart_high_reject_mm, .*, slices, transitional",
        ),
        ("[lewels]\nslices = 3\n", "unknown key `lewels`"),
        ("[levels]\nslices = 'three'\n", "levels: slices must be int, not str"),
        ("levels = 3\n", "must be a section"),
        ("[run]\nshard_size = 0\n", "run: shard_size must be from 1 to 100000, not 0"),
        ("[run]\nstudy_time_limit_s = nan\n", "study_time_limit_s must be from 0.1 to 1e\\+06, not nan"),
        ("[identify]\nspacing_reject = inf\n", "spacing_reject must be from 0 to 1, not inf"),
        ("[pair]\noverlap_reject = 90\n", "overlap_reject must be from 0 to 1, not 90"),
        ("[levels\n", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    path = tmp_path / "cohort.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        load_config(path)


def test_only_what_changes_a_grade_changes_the_hash(tmp_path):
    path = tmp_path / "cohort.toml"
    path.write_text("[run]\nshard_size = 4\n", encoding="utf-8")
    assert load_config(path).grading_hash() == Config().grading_hash()
    path.write_text("[pair]\noverlap_reject = 1\n", encoding="utf-8")  # a whole number serves as a float
    assert load_config(path).grading_hash() != Config().grading_hash()
    assert "run" not in GRADING_SECTIONS


FIRST = "a8f1dec193f8"
"""The hash of the defaults before the grading had versions."""


def of_the_first_version(monkeypatch: pytest.MonkeyPatch, **sections: Any) -> Config:
    """The options as grading version 1 had them; `numbering_min` asked two questions then."""
    monkeypatch.setattr(versions, "GRADING_VERSION", 1)
    return Config(**{"levels": LevelOptions(numbering_min=0.96), **sections})


def test_a_default_risk_regrades_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is that of versions before [grading]."""
    assert of_the_first_version(monkeypatch, grading=GradingOptions(alpha=0.0)).grading_hash() == FIRST
    assert of_the_first_version(monkeypatch, grading=GradingOptions(alpha=0.2)).grading_hash() != FIRST


def test_the_cards_own_risk_is_as_good_as_none() -> None:
    card = {"alpha": 0.1, "conformal_q": [0.5] * 3, "thresholds": {"alpha": [0.05], "q": [[0.9] * 3]}}
    chosen = [with_alpha(Config(grading=GradingOptions(alpha)), card).grading.alpha for alpha in (0.0, 0.1, 0.07)]
    assert chosen == [0.0, 0.0, 0.07]
    with pytest.raises(UsageError, match=r"below 0\.05"):
        with_alpha(Config(grading=GradingOptions(0.01)), card)


def test_cohorts_graded_before_limits_became_options_keep_their_hash(monkeypatch: pytest.MonkeyPatch):
    assert of_the_first_version(monkeypatch).grading_hash() == FIRST
    same = {"levels": LevelOptions(numbering_min=0.96, height_reject_mm=550.0)}
    same["registration"] = RegistrationOptions(clarity_reject=0.1)
    assert of_the_first_version(monkeypatch, **same).grading_hash() == FIRST
    for other in (
        {"levels": LevelOptions(numbering_min=0.96, slices=5)},
        {"levels": LevelOptions(numbering_min=0.96, height_reject_mm=600.0)},
        {"registration": RegistrationOptions(clarity_reject=0.2)},
    ):
        assert of_the_first_version(monkeypatch, **other).grading_hash() != FIRST


def test_a_later_grading_version_is_another_configuration(monkeypatch: pytest.MonkeyPatch):
    first = of_the_first_version(monkeypatch)
    assert first.grading_hash() == FIRST
    monkeypatch.setattr(versions, "GRADING_VERSION", 2)
    assert first.grading_hash() != FIRST
