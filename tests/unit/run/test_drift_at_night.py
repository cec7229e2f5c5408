"""What a night with a site's own grader says of images that look unlike those that the site read."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from made_site import MadeSite, made_site
from modic.adapt.site import adapt_site
from modic.cli.main import main
from modic.cohort import Cohort
from modic.decode import decode_json
from modic.models.card import model_id, read_card
from modic.report.page import gather
from modic.run.drift import DRIFT, drifting
from modic.run.ledger import read_ledger
from modic.run.publish import Summary
from modic.statistics.drift import Baseline
from modic.tables.store import read_table


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> MadeSite:
    return made_site(tmp_path_factory.mktemp("drift") / "cohort", studies=80, shift=(0.3, -1.5, 1.2))


@pytest.fixture(scope="module")
def grader(site: MadeSite) -> Path:
    """The folder of the site's grader."""
    folder = site.root.parent / "site"
    adapt_site(site.root, [site.read(folder.parent / "readings.csv", 200)], folder)
    return folder


def said(site: MadeSite, classifier: str) -> str:
    """What a night with that classifier says of the cohort."""
    cohort = Cohort(site.root)
    run: Any = SimpleNamespace(
        config=SimpleNamespace(classifier=classifier), cohort=cohort,
        classifier_id=model_id(read_card("classifier", "classifier")[0]),
    )  # fmt: skip
    ledger: pa.Table = read_ledger(cohort)
    return drifting(run, ledger, read_table(site.root, "studies"))


def moved(grader: Path, read: dict[str, dict[str, int]], to: Path) -> str:
    """A grader for which other images were read, 5 SD away, so many of each group."""
    to.mkdir()
    (to / "classifier.safetensors").touch()
    of = decode_json(Baseline, (grader / DRIFT).read_bytes(), DRIFT)
    other = replace(of, center=tuple(value + 5 for value in of.center), read=read)
    (to / DRIFT).write_text(json.dumps(asdict(other)))
    return str(to)


def test_images_like_those_that_were_read_are_no_news(site: MadeSite, grader: Path) -> None:
    assert said(site, str(grader)) == ""
    kept = json.loads((grader / DRIFT).read_text())
    assert sum(kept["read"]["scanner"].values()) == 200
    assert not any(key in (grader / DRIFT).read_text() for key, _ in site.truth)


def test_a_scanner_that_looks_otherwise_is_named_with_the_cure(site: MadeSite, grader: Path, tmp_path: Path) -> None:
    sentence = said(site, moved(grader, {}, tmp_path / "site"))
    studies = read_table(site.root, "studies").to_pylist()
    name = f"{studies[0]['manufacturer']} {studies[0]['scanner_model']} {studies[0]['field_strength_t']:g} T"
    assert f"{name} (" in sentence and "SD away, 0 discs read)" in sentence
    assert "modic review COHORT --sample 60 --by scanner,grade" in sentence and "modic adapt again" in sentence
    assert str(site.root) not in sentence  # manifests name no path


def test_a_group_that_was_read_is_no_news_though_it_lies_apart(site: MadeSite, grader: Path, tmp_path: Path) -> None:
    kept = json.loads((grader / DRIFT).read_text())["read"]
    every = {what: dict.fromkeys(names, 20) for what, names in kept.items()}
    assert said(site, moved(grader, every, tmp_path / "all")) == ""
    only_years = said(site, moved(grader, every | {"year": {}}, tmp_path / "years"))
    assert "--by year,grade" in only_years


def test_without_a_sites_grader_nothing_is_read(
    site: MadeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modic.run.drift.newest_features", None)
    assert said(site, "classifier") == ""
    assert said(site, str(tmp_path)) == ""  # somebody's weights, without a baseline


def test_a_damaged_baseline_is_said(site: MadeSite, grader: Path, tmp_path: Path) -> None:
    folder = moved(grader, {}, tmp_path / "site")
    (tmp_path / "site" / DRIFT).write_text("{")
    assert "damaged" in said(site, folder)
    of = decode_json(Baseline, (grader / DRIFT).read_bytes(), DRIFT)
    (tmp_path / "site" / DRIFT).write_text(json.dumps(asdict(replace(of, directions=of.directions[:5]))))
    assert "damaged" in said(site, folder)  # of another network


def test_the_last_line_status_and_report_say_it(site: MadeSite, capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = {f"studies_{name}": 1 for name in ("found", "graded", "excluded", "failed")}
    assert Summary("r", row, [], 0, drift="images look unlike").line().endswith("; images look unlike")
    (run,) = Cohort(site.root).runs()
    (run / "manifest.json").write_text(json.dumps({"drift": "images look unlike those of B"}))
    main(["status", str(site.root)])
    assert "drift      images look unlike those of B" in capsys.readouterr().out
    assert gather(site.root)["drift"] == "images look unlike those of B"
