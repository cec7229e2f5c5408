"""Configuration: defaults are the documented ones, and what is unknown or wrong is named."""

import hashlib
import json
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest

from modic.config import GRADING_SECTIONS, Config, GradingOptions, load_config
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


def test_a_default_risk_regrades_nothing() -> None:
    """The hash is that of versions before [grading]."""
    plain = Config()
    assert replace(plain, grading=GradingOptions(alpha=0.2)).grading_hash() != plain.grading_hash()
    sections = {name: asdict(getattr(plain, name)) for name in ("identify", "pair", "levels")}
    before = hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()[:12]
    assert plain.grading_hash() == before


def test_the_cards_own_risk_is_as_good_as_none() -> None:
    card = {"alpha": 0.1, "conformal_q": [0.5] * 3, "thresholds": {"alpha": [0.05], "q": [[0.9] * 3]}}
    chosen = [with_alpha(Config(grading=GradingOptions(alpha)), card).grading.alpha for alpha in (0.0, 0.1, 0.07)]
    assert chosen == [0.0, 0.0, 0.07]
    with pytest.raises(UsageError, match=r"below 0\.05"):
        with_alpha(Config(grading=GradingOptions(0.01)), card)
