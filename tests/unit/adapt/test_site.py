"""`modic adapt` on a made-up site: what it decides, refuses and writes."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from made_site import MadeSite, made_site
from modic.adapt.site import adapt_site
from modic.cli.main import main
from modic.errors import UsageError
from modic.grading.classify import calibration_of, grade_output
from modic.grading.network_output import joined
from modic.grading.site_correction import site_correction_of
from modic.models.card import read_card
from modic.tables.features import read_features

SHIFT = (0.3, -1.2, 0.9)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> MadeSite:
    return made_site(tmp_path_factory.mktemp("shifted") / "cohort", shift=SHIFT)


@pytest.fixture(scope="module")
def adapted(shifted: MadeSite) -> Path:
    """The folder that the command wrote from 300 readings."""
    folder = shifted.root.parent
    readings = shifted.read(folder / "readings.csv", 300)
    assert main(["adapt", str(shifted.root), "--labels", str(readings), "--out", str(folder / "site")]) == 0
    return folder / "site"


def test_a_site_whose_types_are_mistaken_gets_its_shift_undone(adapted: Path) -> None:
    card, weights = read_card(str(adapted), "classifier")
    correction = site_correction_of(card["calibration"])
    assert correction is not None and weights == adapted / "classifier.safetensors"
    undone = np.array(correction.shift) + np.array(SHIFT)
    assert np.ptp(undone) < 0.5 < np.ptp(SHIFT)
    assert card["adapted"]["update"].startswith("intercept")
    assert card["adapted"]["from"] == read_card("classifier", "classifier")[0]["sha256"][:12]
    shares = card["adapted"]["type_shares_of_cohort"]
    assert shares == pytest.approx([0.6, 0.15, 0.25], abs=0.09)


def test_coverage_by_type_comes_back_on_discs_that_nobody_read(adapted: Path, shifted: MadeSite) -> None:
    with (adapted.parent / "readings.csv").open() as file:
        read = {(row["study_key"], row["level"]) for row in csv.DictReader(file)}
    shares = []
    for name in ("classifier", str(adapted)):
        card, held = read_card(name, "classifier")[0], dict[int, list[bool]]()
        (path,) = (shifted.root / "private" / "features").glob("*/*.parquet")
        for key, levels in read_features(path):
            for grade in grade_output(list(levels), joined(list(levels.values())), calibration=calibration_of(card)):
                k = shifted.truth[key, grade.level]
                if (key, grade.level) not in read:
                    held.setdefault(k, []).append(k in grade.prediction_set)
        shares.append([np.mean(held[k]) for k in range(3)])
    before, after = shares
    assert before[1] < 0.5 and before[2] > 0.9
    assert after == pytest.approx([0.8] * 3, abs=0.12)


def test_before_and_after_are_compared_with_intervals(adapted: Path) -> None:
    rows = {(row["what"], row["which"]): row for row in pq.read_table(adapted / "comparison.parquet").to_pylist()}
    assert rows["coverage", "MC1"]["before"] < 0.5 < rows["coverage", "MC1"]["after"]
    assert rows["calibration error", "types counted alike"]["difference"] < -0.05
    assert all(row["low"] <= row["difference"] <= row["high"] for row in rows.values() if row["low"] == row["low"])
    assert {row["n"] for (what, _), row in rows.items() if what == "abstained" and row["which"] == "all"} == {300}


def test_the_page_says_what_was_decided_and_needs_no_other_file(adapted: Path, shifted: MadeSite) -> None:
    page = (adapted / "report.html").read_text()
    assert "A grader of this site&#39;s own" in page or "A grader of this site's own" in page
    assert "300 readings" in page and "Updated: intercept" in page and "points (SD" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert not any(key in page for key, _ in shifted.truth)  # no key of a study


def test_where_nothing_is_wrong_the_shipped_grader_is_left_alone(tmp_path: Path) -> None:
    site = made_site(tmp_path / "cohort", studies=40, seed=3)
    card, _ = read_card("classifier", "classifier")
    readings = site.read(tmp_path / "readings.csv", 45)
    made = adapt_site(site.root, [readings], tmp_path / "site")
    assert made.adapted.unchanged and not (tmp_path / "site" / "classifier.json").exists()
    assert "better left alone" in (tmp_path / "site" / "report.html").read_text()
    assert made.adapted.update.temperature == card["calibration"]["temperature"]
    made_again = adapt_site(site.root, [readings], tmp_path / "site")  # its own folder may be written again
    assert made_again.adapted.unchanged


@pytest.mark.parametrize(
    ("discs", "change", "says"),
    [
        (12, None, "adapting needs 20 discs"),
        (60, lambda text: text.replace(",1,R1", ",0,R1").replace(",2,R1", ",0,R1"), "readings of two types"),
        (60, lambda text: text + "s_00000000000000ff,L4/L5,2,R1\n", "has no study of this study_key"),
        (60, lambda text: text + "s_0000000000000001,L9/S7,2,R1\n", "level"),
        (60, lambda text: text + "s_0000000000000001,L4/L5,7,R1\n", "mc"),
    ],
)
def test_readings_that_cannot_serve_are_refused_in_a_line(
    discs: int, change: object, says: str, shifted: MadeSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readings = shifted.read(tmp_path / "readings.csv", discs)
    if callable(change):
        readings.write_text(change(readings.read_text()))
    code = main(["adapt", str(shifted.root), "--labels", str(readings), "--out", str(tmp_path / "site")])
    error = capsys.readouterr().err
    assert code == 2 and says in error and error.count("\n") == 1
    assert not (tmp_path / "site").exists()


def test_a_cohort_without_kept_features_is_refused_with_the_cure(tmp_path: Path) -> None:
    site = made_site(tmp_path / "cohort", studies=30)
    readings = site.read(tmp_path / "readings.csv", 60)
    for path in (site.root / "private" / "features").glob("*/*.parquet"):
        path.unlink()
    with pytest.raises(UsageError, match=r"keeps no features of 60 of 60 discs.*features = true"):
        adapt_site(site.root, [readings], tmp_path / "site")


def test_a_folder_with_other_things_and_an_adapted_grader_are_refused(
    adapted: Path, shifted: MadeSite, tmp_path: Path
) -> None:
    readings = shifted.read(tmp_path / "readings.csv", 60)
    with pytest.raises(UsageError, match="something else"):
        adapt_site(shifted.root, [readings], tmp_path)
    with pytest.raises(UsageError, match="already a site's own"):
        adapt_site(shifted.root, [readings], tmp_path / "twice", classifier=str(adapted))


def test_the_card_is_taken_by_the_next_night(adapted: Path) -> None:
    from modic.config import load_config
    from modic.run.prepare import check_networks

    text = f'classifier = "{adapted}"\n'
    (adapted.parent / "cohort.toml").write_text(text)
    config = load_config(adapted.parent / "cohort.toml")
    names = {
        "detector": "detector",
        "classifier": config.classifier,
        "segmenter": "endplates",
        "steps": "count_from_c2",
    }
    cards = [read_card(name, kind)[0] for kind, name in names.items()]
    check_networks(config, *cards)  # loads the weights too
    assert json.loads((adapted / "classifier.json").read_text())["results"]["why"].startswith("of the grader that")
