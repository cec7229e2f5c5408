"""Configuration: defaults are the documented ones, and what is unknown or wrong is named."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from modic.config import GRADING_SECTIONS, Config, load_config
from modic.errors import UsageError

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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[levels]\nslice = 3\n", "unknown key `slice`; known here: numbering_min, score_min, slices"),
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
