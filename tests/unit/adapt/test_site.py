"""`modic adapt` on a made-up site: what it decides, refuses and writes."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from made_site import MadeSite, made_site
from modic.adapt.site import adapt_site, facts
from modic.cli.main import main
from modic.errors import UsageError
from modic.grading.classify import calibration_of, grade_output
from modic.grading.network_output import joined
from modic.grading.site_correction import site_correction_of
from modic.models.card import read_card
from modic.records import LEVELS
from modic.tables.features import read_features

SHIFT = (0.3, -1.2, 0.9)


def write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


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
    assert "<code>modic validate</code>" in page and "`" not in page
    assert "A grader of this site&#39;s own" in page or "A grader of this site's own" in page
    assert "300 discs of" in page and "Updated: intercept" in page and "points (SD" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert not any(key in page for key, _ in shifted.truth)  # no key of a study


def test_several_readings_of_a_disc_are_one_disc(shifted: MadeSite, tmp_path: Path) -> None:
    """Two readers, a repeat and an arbiter: 60 discs, not 190 readings."""
    one = shifted.read(tmp_path / "one.csv", 60)
    lines = one.read_text().splitlines()
    keys = [line.split(",")[:3] for line in lines[1:]]
    wrong = {0: "2", 1: "0", 2: "0"}
    second = [[key, level, wrong[int(mc)] if i < 20 else mc, "R2"] for i, (key, level, mc) in enumerate(keys)]
    write(tmp_path / "two.csv", ["study_key", "level", "mc", "reader"], second)
    again = [[*key, "R1", "1"] for key in keys[:10]]
    write(tmp_path / "again.csv", ["study_key", "level", "mc", "reader", "repeat"], again)
    arbiter = [[*key, "A", "arbiter"] for key in keys[:20]]
    write(tmp_path / "arbiter.csv", ["study_key", "level", "mc", "reader", "role"], arbiter)
    files = [tmp_path / f"{name}.csv" for name in ("two", "again", "arbiter")]
    alone = adapt_site(shifted.root, [one], tmp_path / "alone")
    everybody = adapt_site(shifted.root, [one, *files], tmp_path / "everybody")
    for site in (alone, everybody):
        assert site.data.read.discs.count() == 60
    assert len(everybody.data.read) == 60  # who agree are one row, and the arbiter decided on the others
    np.testing.assert_array_equal(everybody.data.read.discs.types, alone.data.read.discs.types)
    assert everybody.adapted.update.shift == pytest.approx(alone.adapted.update.shift, abs=1e-3)
    assert "60 discs of" in facts(everybody)[0] and "(100 readings; a disc counts once" in facts(everybody)[0]
    assert {row.n for row in everybody.compared if row.what == "abstained" and row.which == "all"} == {60}
    apart = adapt_site(shifted.root, [one, tmp_path / "two.csv"], tmp_path / "apart")
    assert len(apart.data.read) == 80 and apart.data.read.discs.count() == 60  # 20 discs of two types each
    assert apart.data.read.discs.types.sum() == 60
    assert {row.n for row in apart.compared if row.what == "abstained" and row.which == "all"} == {60}


def test_twelve_discs_of_two_readers_are_too_few(shifted: MadeSite, tmp_path: Path) -> None:
    one = shifted.read(tmp_path / "one.csv", 12)
    two = tmp_path / "two.csv"
    two.write_text(one.read_text().replace(",R1", ",R2"))
    with pytest.raises(UsageError, match=r"^12 discs of \d+ patients were read"):
        adapt_site(shifted.root, [one, two], tmp_path / "site")


def test_coverage_of_each_type_at_each_level_stands_on_the_page(adapted: Path) -> None:
    page = (adapted / "report.html").read_text()
    rows = re.findall(r"<tr><td>([TLS0-9/]+)</td><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", page)
    table = {level: cells for level, *cells in rows[:6]}
    assert list(table) == list(LEVELS) and table["T12/L1"] == ["", "", ""]  # never graded here
    numbers = [re.fullmatch(r"\d\.\d\d → (\d\.\d\d) \((.*)–(.*)\), (\d+) read", cell) for cell in table["L4/L5"]]
    given = [found for found in numbers if found]
    assert len(given) >= 2 and all(float(f[2]) <= float(f[1]) <= float(f[3]) for f in given)
    compared = pq.read_table(adapted / "comparison.parquet").to_pylist()
    of = {row["which"]: row for row in compared if row["what"] == "coverage by level and type"}
    assert int(given[0][4]) == of["L4/L5 MC0"]["n"] and f"{of['L4/L5 MC0']['after']:.2f}" == given[0][1]
    few = [cell for cells in table.values() for cell in cells if re.fullmatch(r"\d read", cell)]
    assert few or min(row["n"] for row in of.values()) >= 10


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
        (
            60,
            lambda text: text.replace(",1,R1", ",0,R1").replace(",2,R1", ",0,R1"),
            "discs or more of each of two types",
        ),
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
