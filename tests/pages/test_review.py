"""Reader study: the sample, the pages in a real browser, and the numbers of `modic validate`."""

import csv
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archived_cohort import archived_cohort, study_of
from browser import chromium, opened
from made_cases import pictures
from made_cohort import RUN, as_tables, key, levels, make_rows
from modic.cli.main import main
from modic.errors import UsageError
from modic.reader_study.readings import read_readings
from modic.reader_study.sample import allocate, draw, review
from modic.reader_study.validation import READINGS, validate
from modic.reader_study.weights import sample_path
from modic.records import LEVELS
from modic.run.memory import LINKS
from modic.statistics import metric_tables
from modic.statistics.metrics import grade_metrics, kappas
from modic.tables.store import publish

GRADED = 24


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_tables, "DRAWS", 30)


@pytest.fixture(scope="module")
def drawn_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for number in range(GRADED - 1):
        pictures(root, number)
    return root / "runs"


@pytest.fixture
def cohort(tmp_path: Path, drawn_pictures: Path) -> Path:
    """Published tables; all graded studies but the last have pictures; links as a run writes them."""
    root = tmp_path / "cohort"
    publish(root, as_tables(make_rows(graded=GRADED)), RUN)
    shutil.copytree(drawn_pictures, root / "runs", copy_function=os.link)
    (root / "private").mkdir()
    links = [
        {
            "study_key": key("s", n),
            "patient_key": key("p", n // 2),
            "PatientID": f"P{n // 2}",
            "StudyInstanceUID": f"1.2.{n}",
        }
        for n in range(GRADED + 3)
    ]
    pq.write_table(pa.Table.from_pylist(links, schema=LINKS), root / "private" / "links.parquet")
    return root


def graded_levels(number: int) -> list[dict[str, Any]]:
    """The graded levels of one study."""
    return [row for row in levels(number) if row["status"] == "graded"]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def readings(
    reader: str, grade: Callable[[dict[str, Any]], Any], studies: range = range(GRADED)
) -> list[dict[str, Any]]:
    return [
        {"study_key": key("s", n), "level": row["level"], "mc": grade(row), "reader": reader}
        for n in studies
        for row in graded_levels(n)
    ]


def likely(row: dict[str, Any]) -> int:
    return int(np.argmax([row[f"p_mc{k}"] for k in range(3)]))


# --- the sample -------------------------------------------------------------------------------------------------------


def test_strata_give_equally_or_all_they_have() -> None:
    assert allocate({"a": 100, "b": 100, "c": 2}, 12) == {"a": 5, "b": 5, "c": 2}
    assert allocate({"a": 3, "b": 1}, 99) == {"a": 3, "b": 1}
    assert allocate({"a": 9, "b": 9}, 5) == {"a": 3, "b": 2}


def disc(number: int, level: str, mc: int | None) -> dict[str, Any]:
    return {"study_key": f"s_{number}", "level": level, "mc": mc}


def test_weights_take_the_sample_back_to_the_cohort() -> None:
    discs = [[disc(n, level, 1 if n % 10 == 0 else 0)] for n in range(50) for level in LEVELS]
    sample = draw(discs, 60, ["level", "grade"], 0)
    assert len(sample) == 60 and sum(disc["weight"] for disc in sample) == pytest.approx(300)
    assert Counter(disc["mc"] for disc in sample) == {0: 30, 1: 30}
    assert sum(disc["weight"] for disc in sample if disc["mc"] == 1) == pytest.approx(30)
    assert draw(list(reversed(discs)), 60, ["level", "grade"], 0) == sample
    assert draw(discs, 60, ["level", "grade"], 1) != sample
    with pytest.raises(UsageError, match="12 strata"):
        draw(discs, 11, ["level", "grade"], 0)


def test_the_readers_folder_holds_nothing_of_the_model(cohort: Path, tmp_path: Path) -> None:
    drawn = review(cohort, tmp_path / "out", sample=40, by=["level", "grade"], readers=2)
    assert drawn.without_pictures == len(graded_levels(GRADED - 1))
    assert {path.suffix for path in (tmp_path / "out").rglob("*")} == {".html", ".webp"}
    pages = [page.read_text(encoding="utf-8") for page in drawn.pages]
    data = [json.loads(page.split('id="cases-data">')[1].split("</script>")[0]) for page in pages]
    for page in data:
        assert set(page) == {"mode", "levels", "reader", "sample", "endplates", "studies", "items"}
        assert all(set(item) == {"key", "level", "drawn", "places"} for item in page["items"])
        places = [place for item in page["items"] for place in item["places"]]
        assert all(set(place) == {"box", "first", "step", "window", "from"} for place in places)
        assert all(set(study) == {"images", "whole"} for study in page["studies"].values())
    orders = [[(item["key"], item["level"]) for item in page["items"]] for page in data]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    sample = pq.read_table(sample_path(cohort, drawn.sample_id), partitioning=None).to_pylist()
    assert sum(row["weight"] for row in sample) == pytest.approx(sum(len(graded_levels(n)) for n in range(GRADED - 1)))
    assert len(sample) == 40 and all(row["weight"] == row["n_stratum"] / row["n_drawn"] for row in sample)
    assert {(row["drawn"], row["after"]) for row in sample} == {("random", "")}


def test_another_reader_gets_the_discs_of_a_sample_later(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = review(cohort, tmp_path / "first", sample=40, by=["level", "grade"], readers=1)
    command = ["review", str(cohort), "--again", drawn.sample_id]
    assert main([*command, "--readers", "2", "--out", str(tmp_path / "more")]) == 0
    assert f"40 discs of sample {drawn.sample_id}" in capsys.readouterr().out
    names = [tmp_path / "first" / "reader-1.html", *(tmp_path / "more" / f"reader-{n}.html" for n in (2, 3))]
    data = [json.loads(p.read_text(encoding="utf-8").split('id="cases-data">')[1].split("</script>")[0]) for p in names]
    assert {page["sample"] for page in data} == {drawn.sample_id} and len({page["reader"] for page in data}) == 3
    discs = [sorted((item["key"], item["level"]) for item in page["items"]) for page in data]
    assert discs[0] == discs[1] == discs[2]
    assert all(set(item) == {"key", "level", "drawn", "places"} for page in data for item in page["items"])
    assert len(list((cohort / "validation" / "samples").iterdir())) == 1  # no further sample, so no other weights
    rows = [{"study_key": item["key"], "level": LEVELS[item["level"]], "mc": 0, "sample_id": page["sample"],
             "reader": page["reader"]} for page in data[:2] for item in page["items"]]  # fmt: skip
    read = read_readings(cohort, [write_csv(tmp_path / "both.csv", rows)]).rows
    weights = {reading.disc: reading.weight for reading in read}
    assert len(read) == 80 and len(weights) == 40
    assert sum(weights.values()) == pytest.approx(sum(len(graded_levels(n)) for n in range(GRADED - 1)))
    assert main([*command[:3], "20261130T000000Z-0000", "--out", str(tmp_path / "none")]) == 2
    assert "knows no sample" in capsys.readouterr().err


def test_a_wrong_review_is_refused_in_one_line(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for more, message in (
        (["--by", "vendor", "--out", str(tmp_path / "a")], "drawn by level, grade"),
        (["--out", str(tmp_path / "full")], "not an empty folder"),
        (["--sample", "3", "--out", str(tmp_path / "b")], "strata"),
    ):
        assert main(["review", str(cohort), *more]) == 2
        assert message in capsys.readouterr().err


# --- reading ----------------------------------------------------------------------------------------------------------


def test_reading_in_a_browser_from_the_first_disc_to_the_table(cohort: Path, tmp_path: Path) -> None:
    """Keys alone grade every disc; the export goes through `modic validate`, with the sample's weights."""
    assert main(["review", str(cohort), "--sample", "30", "--readers", "1", "--out", str(tmp_path / "out")]) == 0
    with chromium() as browser:
        page, trouble = opened(browser, tmp_path / "out" / "reader-1.html")
        assert "disc 1 of 30" in page.inner_text(".panel h1")
        assert page.locator(".warn").count() == 1  # the made cohort has no archive: tiles are shown
        for number in range(30):
            page.keyboard.press("w" if number == 3 else str(number % 3))
        page.locator("#kept", has_text="all 30 read").wait_for()
        with page.expect_download() as download:
            page.click("#export")
        download.value.save_as(tmp_path / "reader-1.csv")
        assert trouble == []
    assert main(["validate", str(cohort), "--labels", str(tmp_path / "reader-1.csv")]) == 0
    rows = pq.read_table(cohort / "validation" / "readings.parquet", partitioning=None).to_pylist()
    assert len(rows) == 30 and all(row["blind"] for row in rows) and {row["reader"] for row in rows} == {"reader-1"}
    assert sum(row["weight"] for row in rows) == pytest.approx(sum(len(graded_levels(n)) for n in range(GRADED - 1)))
    assert [row["verdict"] for row in rows if row["truth"] is None] == ["wrong level"]


# --- labels -----------------------------------------------------------------------------------------------------------


def test_studies_are_found_by_key_uid_or_patient(cohort: Path, tmp_path: Path) -> None:
    by_uid = write_csv(tmp_path / "uid.csv", [{"study_uid": "1.2.4", "level": "L5S1", "mc": 1}])
    (reading,) = read_readings(cohort, [by_uid]).rows
    assert (reading.study_key, reading.level, reading.reader, reading.weight) == (key("s", 4), "L5/S1", "uid", 1.0)
    last = write_csv(tmp_path / "id.csv", [{"patient_id": "P12", "level": "L4/5", "mc": 1}, *readings("x", likely)[:1]])
    assert read_readings(cohort, [last]).not_graded == 1  # its studies are not graded


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"study_key": "s_none", "level": "L4/L5", "mc": 0}, "line 2: .* has no study of this study_key"),
        ({"study_key": key("s", 1), "level": "L4", "mc": 0}, "line 2: level 'L4' is none"),
        ({"study_key": key("s", 1), "level": "L4/L5", "mc": 4}, "line 2: mc is 4; give 0, 1, 2, 3 or blank"),
        ({"study_key": key("s", 1), "level": "L4/L5", "mc": "two"}, "line 2: mc is 'two'"),
        ({"patient_id": "P3", "level": "L4/L5", "mc": 0}, "2 graded studies; tell them apart by study_uid"),
        ({"study_uid": "9.9", "level": "L4/L5", "mc": 0}, "no study of this study_uid"),
        ({"study_key": key("s", 1), "level": "L4/L5", "mc": 0, "sample_id": "../x"}, "knows no sample"),
        ({"study_key": key("s", 1), "level": "L4/L5", "mc": 3}, "no graded disc of this cohort has a grade"),
        ({"study_key": "", "level": "L4/L5", "mc": 3}, "none of study_key, study_uid, patient_id is given"),
        ({"study_key": key("s", 1), "level": "L4/L5", "modic": 0}, "labels.csv has no column mc"),
        ({"level": "L4/L5", "mc": 0}, "needs the columns study_key or study_uid or patient_id"),
    ],
)
def test_an_error_in_a_label_is_named(cohort: Path, tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_readings(cohort, [write_csv(tmp_path / "labels.csv", [row])])


def test_a_reader_reads_a_disc_once(cohort: Path, tmp_path: Path) -> None:
    row = {"study_key": key("s", 1), "level": "L4/L5", "mc": 0, "reader": "A"}
    files = [write_csv(tmp_path / name, [row]) for name in ("a.csv", "b.csv")]
    with pytest.raises(UsageError, match=r"b.csv line 2 and .*a.csv line 2 are both L4/L5"):
        read_readings(cohort, files)


# --- numbers ----------------------------------------------------------------------------------------------------------


def numbers(folder: Path, group: str, condition: str) -> dict[tuple[str, str], tuple[float, float, float, int]]:
    rows = pq.read_table(folder / "metrics.parquet", partitioning=None).to_pylist()
    return {
        (row["metric"], row["which"]): (row["value"], row["low"], row["high"], row["n"])
        for row in rows
        if (row["group"], row["condition"]) == (group, condition)
    }


def test_a_reader_who_gives_the_models_grades_agrees_fully(cohort: Path, tmp_path: Path) -> None:
    validate(cohort, [write_csv(tmp_path / "a.csv", readings("A", likely))], tmp_path / "out")
    measured = numbers(tmp_path / "out", "all readers", "most probable grade")
    for metric in (("sensitivity", "MC1"), ("specificity", "MC2"), ("balanced accuracy", "all"), ("F1", "macro"),
                   ("Cohen's kappa", "all"), ("Cohen's kappa", "quadratic weights")):  # fmt: skip
        value, low, high, _ = measured[metric]
        assert value == 1 and high in (None, 1) and (low is None or 0.5 < low < 1)
    discs = [row for n in range(GRADED) for row in graded_levels(n)]
    assert measured["abstained", "all"][0] == pytest.approx(np.mean([row["abstained"] for row in discs]))
    assert measured["calibration error", "all"][0] == pytest.approx(0.2, abs=1e-6)  # it says 0.8 and is always right
    text = (tmp_path / "out" / "validation.md").read_text(encoding="utf-8")
    assert "F1 of a type is 2 TP / (2 TP + FP + FN)" in text and f"only {GRADED // 2} patients" in text


def test_numbers_are_those_of_the_confusion_matrix_with_its_weights(cohort: Path, tmp_path: Path) -> None:
    drawn = review(cohort, tmp_path / "pages", sample=60, by=["grade"], readers=1)
    sample = pq.read_table(sample_path(cohort, drawn.sample_id), partitioning=None).to_pylist()
    rng = np.random.default_rng(0)
    rows = [
        {"study_key": s["study_key"], "level": s["level"], "mc": int(rng.integers(3)), "sample_id": drawn.sample_id}
        for s in sample
    ]
    validate(cohort, [write_csv(tmp_path / "r.csv", rows)], tmp_path / "out")
    cells = pq.read_table(tmp_path / "out" / "confusion.parquet", partitioning=None).to_pylist()
    table = {(cell["truth"], cell["predicted"]): cell for cell in cells}
    assert len(cells) == 12 and sum(cell["n"] for cell in cells) == 60
    assert sum(cell["weight"] for cell in cells) == pytest.approx(sum(len(graded_levels(n)) for n in range(GRADED - 1)))
    decided = {k: sum(table[k, predicted]["weight"] for predicted in range(3)) for k in range(3)}
    measured = numbers(tmp_path / "out", "all readers", "where a grade was given")
    for k in range(3):
        assert measured["sensitivity", f"MC{k}"][0] == pytest.approx(table[k, k]["weight"] / decided[k])
        assert (
            measured["sensitivity", f"MC{k}"][1]
            <= measured["sensitivity", f"MC{k}"][0]
            <= measured["sensitivity", f"MC{k}"][2]
        )
    every = numbers(tmp_path / "out", "all readers", "most probable grade")
    assert every["sensitivity", "MC1"][0] != pytest.approx(
        sum(row["mc"] == 1 and s["stratum"] == "MC1" for row, s in zip(rows, sample, strict=True))
        / sum(row["mc"] == 1 for row in rows)
    )


def test_two_readers_share_a_disc_and_are_compared(cohort: Path, tmp_path: Path) -> None:
    second = readings("B", lambda row: 2 if row["level"] == "L4/L5" else likely(row), range(12))
    files = [write_csv(tmp_path / "a.csv", readings("A", likely)), write_csv(tmp_path / "b.csv", second)]
    validate(cohort, files, tmp_path / "out")
    a, b = (
        np.array([f(row) for n in range(12) for row in graded_levels(n)])
        for f in (likely, lambda r: 2 if r["level"] == "L4/L5" else likely(r))
    )
    measured = numbers(tmp_path / "out", "readers A and B", "between readers")
    for name, value in kappas(a, b).items():
        assert measured[name][0] == pytest.approx(value)
    assert measured["same grade", "all"][0] == pytest.approx((a == b).mean()) and measured["same grade", "all"][
        3
    ] == len(a)
    agreed = numbers(tmp_path / "out", "discs on which all readers agree", "most probable grade")
    assert agreed["sensitivity", "MC2"][0] == 1.0
    both = numbers(tmp_path / "out", "all readers", "most probable grade")
    assert numbers(tmp_path / "out", "reader A", "most probable grade")["F1", "macro"][0] == 1.0
    assert numbers(tmp_path / "out", "reader B", "most probable grade")["F1", "macro"][0] < both["F1", "macro"][0] < 1.0
    cells = pq.read_table(tmp_path / "out" / "confusion.parquet", partitioning=None).to_pylist()
    assert sum(cell["n"] for cell in cells) == len(readings("A", likely)) + len(second)
    assert sum(cell["weight"] for cell in cells) == pytest.approx(len(readings("A", likely)))


def test_readings_with_the_grade_in_sight_are_reported(cohort: Path, tmp_path: Path) -> None:
    rows = [row | {"blind": "no", "verdict": "agree"} for row in readings("A", likely)]
    validate(cohort, [write_csv(tmp_path / "v.csv", rows)], tmp_path / "out")
    assert "model's grade in sight" in (tmp_path / "out" / "validation.md").read_text(encoding="utf-8")


def test_the_command_prints_what_it_found_and_where(cohort: Path, tmp_path: Path, capsys: Any) -> None:
    labels = write_csv(tmp_path / "a.csv", readings("A", likely))
    assert main(["validate", str(cohort), "--labels", str(labels)]) == 0
    out = capsys.readouterr().out
    assert "all readers: most probable grade" in out and "validation.md" in out
    assert "wrong level" not in out  # nobody was asked
    assert (cohort / "validation" / "confusion.parquet").is_file()


def test_every_column_of_the_readings_is_described(cohort: Path, tmp_path: Path) -> None:
    rows = readings("A", likely)
    rows = [row | {"verdict": f"mc{row['mc']}"} for row in rows]
    rows[0] |= {"mc": "", "verdict": "unusable"}
    validate(cohort, [write_csv(tmp_path / "v.csv", rows)], tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "readings.parquet", partitioning=None)
    assert table.column_names == list(READINGS) and all(field.metadata[b"description"] for field in table.schema)
    assert table["truth"].null_count == 1
    assert table["predicted"].null_count == sum(row["abstained"] for n in range(GRADED) for row in graded_levels(n))
    assert numbers(tmp_path / "out", "all readers", "verdicts")["unusable", "all"][0] == pytest.approx(1 / len(rows))


def test_a_weight_of_two_is_a_disc_read_twice() -> None:
    rng = np.random.default_rng(1)
    labels, p = rng.integers(0, 3, 40), rng.dirichlet(np.ones(3), 40)
    weights = rng.integers(1, 4, 40)
    weighted, repeated = grade_metrics(p, labels, weights), grade_metrics(p.repeat(weights, 0), labels.repeat(weights))
    assert weighted.keys() == repeated.keys()
    for name, value in weighted.items():
        assert value == pytest.approx(repeated[name])


# --- whole stacks, endplates, repeats, arbitration --------------------------------------------------------------------


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archived")
    cohort = archived_cohort(root)
    for number in range(4):
        pictures(cohort, number)
    return cohort


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


def read_page(browser: Any, path: Path, keys: list[str], saved: Path) -> list[dict[str, str]]:
    """Open a page, press keys, and return the rows of the CSV."""
    page, trouble = opened(browser, path)
    assert " read by " in page.inner_text("#kept")
    for key_ in keys:
        page.keyboard.press(key_)
    if re.search(f"disc {len(keys)} of {len(keys)}$", page.inner_text(".panel h1")):
        assert page.inner_text("#kept").startswith(f"all {len(keys)} read by") and "export" in page.inner_text("#kept")
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(saved)
    page.evaluate("localStorage.clear()")
    page.close()
    assert trouble == []
    with saved.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


IN_VIEW = """() => [...document.querySelectorAll(
    '.panel button, #note, .image, .strip, .scale, .side, .help')].every((node) => {
    const box = node.getBoundingClientRect();
    const inside = box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight + 1 && box.right <= innerWidth + 1;
    return node.hidden || inside;
})"""
SCROLLED = (
    "() => [document.documentElement.scrollTop, document.body.scrollTop, document.querySelector('.panel').scrollTop]"
)


def test_everything_is_in_one_view_and_nothing_scrolls(archived: Path, tmp_path: Path, browser: Any) -> None:
    drawn = review(archived, tmp_path / "out", sample=8, by=["level"], readers=1)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".html", ".webp"}
    assert len(list((tmp_path / "out").glob("*.t2.webp"))) == len(list((tmp_path / "out").glob("*.webp"))) / 2 <= 4
    page, trouble = opened(browser, drawn.pages[0])
    for width, height in ((1440, 900), (1280, 720)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(100)
        for key_ in ("ArrowDown", "e", "v", "v", "]", "1", "b", "0"):
            page.keyboard.press(key_)
            assert page.evaluate(IN_VIEW), (width, key_)
            assert page.evaluate(SCROLLED) == [0, 0, 0]
    assert trouble == []
    page.evaluate("localStorage.clear()")
    page.close()


def test_both_stacks_scroll_together_and_windows_are_set_while_looking(
    archived: Path, tmp_path: Path, browser: Any
) -> None:
    drawn = review(archived, tmp_path / "out", sample=8, by=["level"], readers=1)
    page, trouble = opened(browser, drawn.pages[0])

    def slices() -> list[str]:
        return [text.strip() for text in page.locator(".name span").all_inner_texts()]

    assert slices() == ["slice 5 of 9", "slice 7 of 12"]  # T1's 4.5 mm apart, T2's 4 mm; 2 mm beside each other
    page.keyboard.press("ArrowDown")
    assert slices() == ["slice 6 of 9", "slice 8 of 12"] and "mm to the left" in page.inner_text(".side >> nth=1")
    page.hover(".image >> nth=0")
    for _ in range(3):
        page.mouse.wheel(0, -100)
    page.locator(".name span", has_text="slice 5 of 12").wait_for()
    page.locator(".strip >> nth=1").locator("div").nth(0).click()
    assert slices()[1] == "slice 4 of 12"
    assert "mm to the right" in page.inner_text(".side >> nth=1")
    before = page.inner_text(".window >> nth=0"), page.inner_text(".window >> nth=1")
    box = page.locator(".image").nth(0).bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 130, steps=4)
    page.mouse.up()
    after = page.inner_text(".window >> nth=0"), page.inner_text(".window >> nth=1")
    assert after[0] != before[0] and after[1] == before[1]
    page.keyboard.press("r")
    assert page.inner_text(".window >> nth=0") == before[0]
    page.mouse.move(2, 2)
    slope = float(page.get_attribute("#window-1 feFuncR", "slope"))
    page.hover(".panel h1")
    page.keyboard.press("]")
    assert float(page.get_attribute("#window-1 feFuncR", "slope")) == pytest.approx(1.2 * slope, rel=1e-3)
    page.keyboard.press("z")
    assert page.locator(".pane:visible").count() == 1
    assert page.locator(".image:visible").bounding_box()["height"] == 1000
    page.keyboard.press("z")
    page.keyboard.press("z")
    page.click(".image >> nth=1")
    assert page.locator(".pane.large .name").inner_text().startswith("T2")
    page.keyboard.press("Escape")
    assert page.locator(".pane:visible").count() == 2 and trouble == []
    page.close()


def test_endplates_are_read_by_keys_and_the_disc_follows(archived: Path, tmp_path: Path, browser: Any) -> None:
    drawn = review(archived, tmp_path / "out", sample=8, by=["level"], readers=1, endplates=True)
    plain, apart, larger = ["1", "b", "0"], ["1", "b", "2", "b", "2"], ["m", "a", "2", "c"]
    keys = [*plain, *apart, *larger, "w", "0", "0", "3", "Enter", "0", "1", "Enter", "m", "Enter", "1"]
    rows = read_page(browser, drawn.pages[0], keys, tmp_path / "r.csv")
    columns = ("mc_upper", "udby_upper", "mc_lower", "udby_lower", "mc", "mixed", "verdict")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("1", "B", "0", "", "1", "", "mc1"),
        ("1", "B", "2", "B", "2", "yes", "mc2"),
        ("mixed", "A", "2", "C", "2", "yes", "mc2"),
        ("", "", "", "", "", "", "wrong level"),
        ("0", "", "0", "", "0", "", "mc0"),
        ("3", "", "0", "", "", "", "other"),
        ("1", "", "mixed", "", "1", "yes", "mc1"),
    ]
    assert all(0 <= float(row["seconds"]) < 60 for row in rows) and {row["role"] for row in rows} == {"reader"}
    validate(archived, [tmp_path / "r.csv"], tmp_path / "out2")
    table = pq.read_table(tmp_path / "out2" / "readings.parquet", partitioning=None).to_pylist()
    assert {row["mc_upper"] for row in table} == {"1", "1/2", "0", "3", None} and all(row["reference"] for row in table)
    text = (tmp_path / "out2" / "validation.md").read_text(encoding="utf-8")
    assert "median time of a reading" in text


def test_readers_disagree_and_an_arbiter_decides(archived: Path, tmp_path: Path, browser: Any) -> None:
    """Two readers, one of whom reads four discs again, then the arbiter; `modic validate` takes all three files."""
    drawn = review(archived, tmp_path / "out", sample=8, by=["level"], readers=2, repeats=4)
    files = []
    for page in drawn.pages:
        rows = read_page(browser, page, ["2" if page.stem == "reader-2" else "1"] * 12, tmp_path / f"{page.stem}.csv")
        assert len(rows) == 12 and sum(row["repeat"] == "1" for row in rows) == 4
        assert all(row["repeat"] == "" for row in rows[:4])
        files.append(tmp_path / f"{page.stem}.csv")
    out = tmp_path / "arbiter"
    labels = list(map(str, files))
    assert main(["review", str(archived), "--arbitrate", *labels, "--out", str(out)]) == 0
    text = (out / "arbiter.html").read_text(encoding="utf-8")
    assert "reader-1" not in text.split('id="cases-data">')[1].split("</script>")[0]
    page, trouble = opened(browser, out / "arbiter.html")
    assert "disc 1 of 8" in page.inner_text(".panel h1") and page.locator(".given tr").count() == 3
    assert {"MC1", "MC2"} <= set(page.locator(".given td").all_inner_texts()) and trouble == []
    page.close()
    rows = read_page(browser, out / "arbiter.html", ["1"] * 8, tmp_path / "arbiter.csv")
    assert {row["role"] for row in rows} == {"arbiter"} and {row["sample_id"] for row in rows} == {drawn.sample_id}
    validate(archived, [*files, tmp_path / "arbiter.csv"], tmp_path / "v")
    table = pq.read_table(tmp_path / "v" / "readings.parquet", partitioning=None).to_pylist()
    assert len(table) == 32 and sum(row["reference"] for row in table) == 8
    assert {row["role"] for row in table if row["reference"]} == {"arbiter"}
    measured = numbers(tmp_path / "v", "reader reader-1", "read twice")
    assert measured["same grade", "all"][0] == 1 and measured["same grade", "all"][3] == 4
    assert numbers(tmp_path / "v", "readers reader-1 and reader-2", "between readers")["same grade", "all"][0] == 0
    assert numbers(tmp_path / "v", "all readers, disagreements arbitrated", "most probable grade")
    assert main(["review", str(archived), "--arbitrate", labels[0], "--out", str(tmp_path / "none")]) == 2


def test_links_to_the_sites_viewer_stay_in_the_private_folder(
    archived: Path, tmp_path: Path, browser: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://pacs.example/?study={StudyInstanceUID}&patient={PatientID}"
    command = ["review", str(archived), "--sample", "8", "--by", "level", "--viewer-url"]
    assert main([*command, url, "--out", str(tmp_path / "out")]) == 2 and not (tmp_path / "out").exists()
    for wrong in ("https://pacs.example/", "javascript:alert({PatientID})", "https://x/{Name}", "https://x/{"):
        assert main([*command, wrong]) == 2
        assert "--viewer-url" in capsys.readouterr().err
    assert main([*command, url]) == 0
    (path,) = (archived / "private" / "reading").glob("*/reader-1.html")
    page, trouble = opened(browser, path)
    number = json.loads(page.inner_text("#cases-data") or page.text_content("#cases-data"))["items"][0]["key"]
    patient = f"patient-{[study_of(n) for n in range(4)].index(number)}"
    assert page.get_attribute("#viewer", "href").endswith(f"&patient={patient}") and trouble == []
    page.close()
    shutil.rmtree(archived / "private" / "reading")


def test_what_may_be_sent_names_nobody(archived: Path, tmp_path: Path) -> None:
    drawn = review(archived, tmp_path / "out", sample=8, by=["level"], readers=1)
    whole = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    links = pq.read_table(archived / "private" / "links.parquet", partitioning=None).to_pylist()
    for link in links:
        for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
            assert link[name].encode() not in whole
    assert str(archived).encode() not in whole and drawn.sample_id.encode() in whole


def test_next_discs_are_read_and_weighted_with_the_first(archived: Path, tmp_path: Path, browser: Any) -> None:
    """The page's CSV says which discs were chosen, not why; the table of validation says why."""
    shutil.rmtree(archived / "validation" / "samples")
    assert main(["review", str(archived), "--sample", "6", "--by", "level", "--out", str(tmp_path / "a")]) == 0
    assert (
        main(["review", str(archived), "--next", "8", "--by", "level", "--out", str(tmp_path / "b")]) == 2
    )  # 5 strata
    assert main(["review", str(archived), "--next", "8", "--out", str(tmp_path / "c")]) == 0
    first = read_page(browser, tmp_path / "a" / "reader-1.html", ["0"] * 6, tmp_path / "a.csv")
    then = read_page(browser, tmp_path / "c" / "reader-1.html", ["0"] * 8, tmp_path / "c.csv")
    assert {row["drawn"] for row in first} == {"random"}
    assert Counter(row["drawn"] for row in then) == {"random": 4, "chosen": 4}
    validate(archived, [tmp_path / "a.csv", tmp_path / "c.csv"], tmp_path / "v")
    table = pq.read_table(tmp_path / "v" / "readings.parquet", partitioning=None).to_pylist()
    assert Counter(row["drawn"] for row in table) == {"random": 10, "uncertain": 1, "rare": 1, "unlike": 2}
    assert sum(row["weight"] for row in table) == pytest.approx(sum(len(graded_levels(n)) for n in range(4)))
    assert "4 readings of discs that were chosen" in (tmp_path / "v" / "validation.md").read_text(encoding="utf-8")
    validate(archived, [tmp_path / "c.csv"], tmp_path / "w")
    assert "no reading of sample" in (tmp_path / "w" / "validation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("mc_upper", "4", "mc_upper is '4'; give 0, 1, 2, 3"),
        ("udby_lower", "D", "udby_lower is 'D'; give A, B, C"),
        ("seconds", "soon", "seconds is 'soon'"),
        ("role", "chief", "role is 'chief'; give reader, arbiter"),
    ],
)
def test_columns_of_readings_are_checked(column: str, value: str, message: str, cohort: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"study_key": key("s", 1), "level": "L4/L5", "mc": 1, column: value}])
    with pytest.raises(UsageError, match=re.escape(message)):
        read_readings(cohort, [path])


def test_spellings_of_an_endplate(cohort: Path, tmp_path: Path) -> None:
    for value, kind in (("1/2", "1/2"), ("mixed", "1/2"), ("2.0", "2"), ("", None)):
        path = write_csv(tmp_path / "a.csv", [{"study_key": key("s", 1), "level": "L4/L5", "mc": 1, "mc_lower": value}])
        assert read_readings(cohort, [path]).rows[0].endplates["mc_lower"] == kind
