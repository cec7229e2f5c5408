"""The cases of the report: outliers first, and the page in a real browser, also with hostile headers."""

import csv
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import chromium, opened
from made_cases import pictures
from made_cohort import RUN, as_tables, key, make_rows
from made_cohort import study as made_study
from modic.cases import outliers
from modic.cases.outliers import (
    CONTRADICTIONS,
    DISAGREEMENT,
    KINDS,
    LITTLE_OVERLAP,
    SCORE,
    Flag,
    flags_of,
    gather_cases,
    odd_acquisition,
    rank,
    study_for_page,
)
from modic.records import LEVELS
from modic.report.page import write_report
from modic.tables.query import connect, rows_of, statements
from modic.tables.store import publish

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=2>\u2028"
STUDIES = 230


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many studies, one scanner with a hostile name; two studies have pictures."""
    root = tmp_path_factory.mktemp("cohort")
    rows = make_rows(graded=STUDIES)
    for row in rows["studies"]:
        if row["scanner_model"] == "Aera":
            row["scanner_model"] = HOSTILE
    next(row for row in rows["levels"] if row["study_key"] == key("s", 1) and row["level"] == "L4/L5")[
        "slice_disagreement"
    ] = 0.8
    publish(root, as_tables(rows), RUN)
    pictures(root, 0)
    pictures(root, 1)
    write_report(root)
    return root


def study(**more: Any) -> dict[str, Any]:
    return {**made_study(1), "warnings": None, "t1": {}, "t2": {}, **more}


def level(name: str = "L4/L5", **more: Any) -> dict[str, Any]:
    fine = {"status": "graded", "mc": 0, "abstained": False, "level_score": 0.9, "slice_disagreement": 0.1}
    fine |= {"p_mc0": 0.8, "p_mc1": 0.1, "p_mc2": 0.1, "abstained_reason": None}
    return {"level": name, **fine, **more}


def kinds(study: Any, levels: list[Any], *, pictures: bool = True) -> list[str]:
    return [flag.kind for flag in flags_of(study, levels, pictures)]


def test_what_makes_a_study_an_outlier() -> None:
    assert kinds(study(), [level()]) == []
    assert kinds(study(level_numbering="uncertain"), [level()]) == ["numbering"]
    assert kinds(study(), [level(mc=1)]) == ["MC1"]
    unsure = {"mc": None, "abstained": True, "abstained_reason": "set.several_types"}
    assert kinds(study(), [level(**unsure)]) == []  # abstentions are counted, not listed
    assert kinds(study(), [level(**unsure, p_mc0=0.3, p_mc1=0.5, p_mc2=0.2)]) == ["MC1"]
    assert kinds(study(), [level(**unsure | {"abstained_reason": "marrow.t1_dark"})]) == ["measured"]
    assert kinds(study(), [level(**unsure | {"abstained_reason": "marrow.no_band"})]) == []
    nothing = dict.fromkeys(("p_mc0", "p_mc1", "p_mc2", "mc", "abstained", "level_score"))
    assert kinds(study(), [level(status="not_found", **nothing)]) == []
    assert kinds(study(), [level(slice_disagreement=0.7)]) == ["slices"]
    assert kinds(study(), [level(slice_disagreement=0.69)]) == []
    assert kinds(study(), [level(slice_disagreement=None)]) == []
    assert kinds(study(), [level(level_score=0.59)]) == ["score"]
    assert kinds(study(warnings="T2: slice spacing varies by 3 %"), [level()]) == ["acquisition"]
    assert kinds(study(warnings="no pictures: ValueError in pictures.py:3"), [level()], pictures=False) == ["pictures"]
    bad = level(mc=None, abstained=True, abstained_reason="marrow.t1_bright", level_score=0.1, slice_disagreement=1.0)
    bad |= {"p_mc0": 0.2, "p_mc1": 0.7}
    assert kinds(study(level_numbering="uncertain", overlap_fraction=0.9), [bad]) == [
        "MC1",
        "measured",
        "numbering",
        "slices",
        "score",
        "acquisition",
    ]
    assert kinds(study(status="failed"), [], pictures=False) == []


def test_odd_acquisitions_are_listed_with_their_number() -> None:
    coarse = {"pixel_spacing_row_mm": 1.3, "pixel_spacing_column_mm": 0.9, "slice_spacing_mm": 6.5, "n_slices": 8}
    assert odd_acquisition(study(t2=coarse, overlap_fraction=0.95)) == [
        "T2 in-plane spacing 1.30 mm", "T2 slice spacing 6.5 mm", "T2 only 8 slices", "T1 covers 95% of T2",
    ]  # fmt: skip
    assert odd_acquisition(study(t1={"n_slices": 9, "slice_spacing_mm": 6.0}, t2=None)) == []


def test_the_worst_come_first() -> None:
    def ranked(kind: str, by: float) -> Any:
        return rank([Flag(kind, by, "")], study())

    order = [ranked("MC1", 0.9), ranked("MC1", 0.6), ranked("measured", 2), ranked("numbering", 0.9)]
    order += [rank([], study(status=status)) for status in ("failed", "graded", "excluded")]
    assert order == sorted(order)


def test_every_study_is_there_once(cohort: Path) -> None:
    text = (cohort / "runs" / RUN / "report.html").read_text(encoding="utf-8")
    data = json.loads(text.split('id="cases-data">')[1].split("</script>")[0])
    assert sorted(study["key"] for study in data["studies"]) == sorted(key("s", n) for n in range(STUDIES + 3))
    with_pictures = [study for study in data["studies"] if "path" in study]
    assert [study["path"] for study in with_pictures] == [f"../{RUN}/cases/{key('s', n)}" for n in (0, 1)]
    assert data["n"] == STUDIES + 3


def unlike(studies: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of studies that are outliers of every kind, or of none, at random; many lie just at a limit."""
    draw = random.Random(1)
    rows = make_rows(graded=studies)
    for row in rows["levels"]:
        graded = row["status"] == "graded"
        if graded:
            row |= {"mc": 0, "p_mc0": 0.8, "p_mc1": 0.1, "p_mc2": 0.1, "abstained": False, "abstained_reason": None}
            row["level_score"] = draw.choice([0.9] * 19 + [SCORE, 0.59])
            row["slice_disagreement"] = draw.choice([None] + [0.1] * 38 + [DISAGREEMENT, 0.75])
        if graded and draw.random() < 0.02:
            row |= {"mc": 1, "p_mc0": 0.2, "p_mc1": draw.choice((0.55, 0.6)), "p_mc2": 0.2}
        if graded and draw.random() < 0.05:
            why = draw.choice(("set.several_types", *map(str, CONTRADICTIONS)))
            p_mc1 = draw.choice((0.1, 0.1, 0.3, 0.4))
            row |= {"mc": None, "abstained": True, "abstained_reason": why, "p_mc0": 0.3, "p_mc1": p_mc1, "p_mc2": 0.3}
    for row in rows["studies"]:
        if row["status"] == "graded":
            row["overlap_fraction"] = draw.choice((1.0, 1.0, 1.0, LITTLE_OVERLAP, 0.97))
            row["warnings"] = draw.choice([None] * 4 + ["no pictures: full disk", "T2 odd; no pictures", "odd; odder"])
            row["level_numbering"] = draw.choice(["ok"] * 9 + ["uncertain"])
    for row in rows["series"]:
        spacing = draw.choice((None, 0.9, 0.9, 0.9, 1.2))
        row |= {"pixel_spacing_row_mm": spacing, "pixel_spacing_column_mm": draw.choice([spacing] * 9 + [1.25])}
        row |= {"slice_spacing_mm": draw.choice([4.0] * 8 + [6.0, 6.5]), "n_slices": draw.choice([15] * 8 + [8, 9])}
    return rows


def test_the_database_ranks_studies_as_their_flags_do(tmp_path: Path) -> None:
    publish(tmp_path, as_tables(unlike(200)), RUN)
    with_pictures = {key("s", number) for number in range(0, 200, 3)}
    for number in range(0, 200, 3):
        pictures(tmp_path, number)
    with connect(tmp_path) as connection:
        studies = rows_of(connection, statements("cases")["studies"])
        shown = {most: json.loads(gather_cases(connection, tmp_path, most)) for most in (1, 30, 100, 170, 203)}
    flags = {s["study_key"]: flags_of(s, s["levels"] or [], s["study_key"] in with_pictures) for s in studies}
    assert {flag.kind for of in flags.values() for flag in of[:1]} == set(KINDS)
    order = [s["study_key"] for s in sorted(studies, key=lambda s: rank(flags[s["study_key"]], s))]
    for most, cases in shown.items():
        assert [study["key"] for study in cases["studies"]] == order[:most]
        assert cases["n"] == len(order) == 203, "which the page says"


def test_a_study_keeps_the_pictures_of_the_run_that_graded_it(tmp_path: Path) -> None:
    rows = make_rows(graded=1)
    earlier = "20250101T000000Z-0000"
    rows["studies"][0]["run_id"] = earlier
    publish(tmp_path, as_tables(rows), RUN)
    folder = tmp_path / "runs" / earlier / "cases" / key("s", 0)
    folder.mkdir(parents=True)
    (folder / "case.json").write_text('{"size": [4, 3], "slices": 5, "levels": {}}')
    with connect(tmp_path) as connection:
        studies = json.loads(gather_cases(connection, tmp_path))["studies"]
    (shown,) = [study for study in studies if study["key"] == key("s", 0)]
    assert shown["path"] == f"../{earlier}/cases/{key('s', 0)}" and shown["size"] == [4, 3]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any, cohort: Path) -> Iterator[Any]:
    page, trouble = opened(browser, cohort / "runs" / RUN / "report.html")
    yield page
    assert page.evaluate("window.pwned") is None
    assert trouble == []
    page.evaluate("localStorage.clear()")
    page.close()


def count(page: Any) -> str:
    return str(page.inner_text(".pager span"))


def test_names_from_headers_are_shown_and_not_run(page: Any) -> None:
    assert "<script>window.pwned=1</script>" in page.inner_text("#filter-scanner")
    page.select_option("#filter-scanner", label=page.inner_text("#filter-scanner option >> nth=-1"))
    assert "of" in count(page)


def test_a_script_that_got_into_the_page_would_not_run(browser: Any, cohort: Path) -> None:
    whole = cohort / "runs" / RUN / "report.html"
    broken = whole.with_name("injected.html")
    broken.write_text(whole.read_text(encoding="utf-8").replace("<h2>Cases</h2>", f"<h2>Cases</h2>{HOSTILE}"), "utf-8")
    page, trouble = opened(browser, broken)
    assert page.evaluate("window.pwned") is None
    assert any("Content Security Policy" in line for line in trouble)
    page.close()
    broken.unlink()


def test_pictures_are_loaded_only_of_the_study_that_is_looked_at(page: Any) -> None:
    assert page.inner_text(".cases h3") == key("s", 0)
    page.locator(".cases canvas").nth(9).wait_for()
    page.wait_for_timeout(300)
    names = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(names) <= 8
    assert page.evaluate("[...document.querySelectorAll('.cases svg image')].map((i) => i.getBBox().width)") == [
        448,
        448,
    ]
    painted = (
        "(c) => { try { c.getContext('2d').getImageData(0, 0, 1, 1); return 'blank'; } catch { return 'drawn'; } }"
    )
    assert set(page.eval_on_selector_all(".cases .tiles canvas", f"(all) => all.map({painted})")) == {"drawn"}


def test_filters_by_status_level_grade_confidence_scanner_and_kind(page: Any) -> None:
    assert count(page) == f"1–100 of {STUDIES + 3}"
    page.select_option("#filter-status", "failed")
    assert count(page) == "1–1 of 1" and "study.worker_died" in page.inner_text(".view")
    page.select_option("#filter-status", "graded")
    page.select_option("#filter-level", "T12/L1")
    page.select_option("#filter-grade", "MC1")
    assert count(page) == "none"
    page.select_option("#filter-level", "L4/L5")
    rows = [row for n in range(STUDIES) for row in make_rows_of(n) if row["level"] == "L4/L5" and row["mc"] == 1]
    assert count(page).endswith(f"of {len(rows)}")
    assert "on" in page.get_attribute(".cases tr.level:has-text('L4/L5')", "class")
    page.select_option("#filter-confidence", "0.8")
    assert count(page) == "none"
    page.select_option("#filter-confidence", "0.9")
    assert count(page).endswith(f"of {len(rows)}")
    for name in ("status", "level", "grade", "confidence"):
        page.select_option(f"#filter-{name}", "")
    page.select_option("#filter-kind", "slices")
    assert count(page) == "1–1 of 1" and page.inner_text(".cases h3") == key("s", 1)
    assert "slices disagree at L4/L5" in page.inner_text(".view") and "80 %" in page.inner_text(".cases tr.on")


def make_rows_of(number: int) -> list[dict[str, Any]]:
    from made_cohort import levels

    return [row | {"mc": row.get("mc")} for row in levels(number)]


def test_keys_move_and_judge_and_the_export_holds_it(page: Any, cohort: Path) -> None:
    page.focus("#cases")
    page.keyboard.press("j")
    second = page.inner_text(".cases h3")
    assert second != key("s", 0)
    page.keyboard.press("k")
    assert page.inner_text(".cases h3") == key("s", 0)
    start = page.inner_text(".cases tr.on td:first-child")
    page.keyboard.press("ArrowDown")
    chosen = page.inner_text(".cases tr.on td:first-child")
    assert LEVELS.index(chosen) == LEVELS.index(start) + 1
    page.keyboard.press("2")
    page.keyboard.press("t")
    page.keyboard.type('=a "strange" spot, j')
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("a")
    page.fill("#reader", "AB")
    page.reload()
    page.wait_for_selector(".cases .done")
    assert "2 verdicts kept" in page.inner_text("#kept")
    page.fill("#reader", "AB")
    with page.expect_download() as download:
        page.click("#export")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    verdicts = {row["level"]: row for row in rows}
    assert set(verdicts) == {start, chosen} and {row["study_key"] for row in rows} == {key("s", 0)}
    assert (verdicts[chosen]["mc"], verdicts[chosen]["verdict"]) == ("2", "mc2")
    assert verdicts[chosen]["note"] == '\'=a "strange" spot, j'
    assert (verdicts[start]["verdict"], verdicts[start]["mc"], verdicts[start]["reader"]) == ("agree", "1", "AB")
    assert {row["blind"] for row in rows} == {"no"}


def test_a_verdict_is_taken_back_by_giving_it_again(page: Any) -> None:
    page.click("[data-verdict=unusable]")
    assert "1 verdicts" in page.inner_text("#kept")
    page.keyboard.press("u")
    assert "0 verdicts" in page.inner_text("#kept")


def test_a_click_that_ends_a_note_still_counts(page: Any) -> None:
    page.focus("#cases")
    page.keyboard.press("t")
    page.keyboard.type("Schmorl")
    page.click("[data-verdict=mc1]")
    assert "on" in page.get_attribute("[data-verdict=mc1]", "class")
    assert page.input_value("#note") == "Schmorl"


def test_each_reader_exports_only_their_own_verdicts(page: Any) -> None:
    page.fill("#reader", "AB")
    page.click("[data-verdict=mc1]")  # the click that ends the initials counts
    page.reload()
    page.locator("#kept", has_text="1 verdicts of AB").wait_for()
    assert page.input_value("#reader") == "AB"
    page.fill("#reader", "CD")
    page.click(".pager span")
    assert "0 verdicts of CD" in page.inner_text("#kept") and page.query_selector(".cases .done") is None
    page.click("[data-verdict=mc2]")
    verdicts = {}
    for reader in ("CD", "AB"):
        page.fill("#reader", reader)
        with page.expect_download() as download:
            page.click("#export")
        (row,) = csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8")))
        verdicts[row["reader"]] = row["mc"]
    assert verdicts == {"AB": "1", "CD": "2"}


def test_agreement_without_pictures_is_with_the_grade(page: Any) -> None:
    for number in (40, 41):  # nothing but rows is left of them
        page.evaluate(f"location.hash = '{key('s', number)}'")
        page.locator(".cases h3", has_text=key("s", number)).wait_for()
        assert "no pictures" in page.inner_text(".view")
        for key_ in ("a", "ArrowUp", "a"):
            page.keyboard.press(key_)
    with page.expect_download() as download:
        page.click("#export")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    graded = {(row["study_key"], row["level"]): row for number in (40, 41) for row in make_rows_of(number)}
    assert len(rows) == 4
    for row in rows:
        of = graded[row["study_key"], row["level"]]
        assert row["mc"] == str(max(range(3), key=lambda k: of[f"p_mc{k}"]) if of["mc"] is None else of["mc"])


def test_two_pages_at_once_keep_the_verdicts_of_both(page: Any) -> None:
    with page.expect_popup() as popup:
        page.evaluate("void window.open(location.href)")
    other = popup.value
    other.locator(".cases h3").wait_for()
    page.focus("#cases")
    for key_ in ("j", "1"):
        page.keyboard.press(key_)
    other.click("[data-verdict=mc2]")
    other.close()
    page.reload()
    page.locator("#kept", has_text="2 verdicts").wait_for()


def test_the_page_is_moved_through_before_anything_was_clicked(page: Any) -> None:
    for key_ in ("2", "j"):  # from elsewhere on the page nothing is judged
        page.keyboard.press(key_)
    assert page.inner_text(".cases h3") != key("s", 0) and "0 verdicts" in page.inner_text("#kept")
    page.keyboard.press("2")
    assert "1 verdicts" in page.inner_text("#kept")


def test_a_link_leads_to_its_study(browser: Any, cohort: Path) -> None:
    page = browser.new_page()
    page.goto((cohort / "runs" / RUN / "report.html").as_uri() + f"#{key('s', 33)}")
    page.wait_for_selector(".cases .view")
    assert page.inner_text(".cases h3") == key("s", 33)
    page.close()


def test_a_list_and_the_head_of_the_page_lead_to_the_cases(page: Any) -> None:
    page.click("nav >> text=Studies to look at")
    page.click(f"a[href='#{key('s', 1)}']:visible >> nth=0")
    page.locator(".cases h3", has_text=key("s", 1)).wait_for()
    targets = page.eval_on_selector_all("nav a", "(all) => all.map((a) => a.getAttribute('href').slice(1))")
    assert "cases" in targets and all(page.query_selector(f"#{name}") for name in targets)
    page.click("nav >> text=Cases")
    assert page.inner_text(".cases h3") == key("s", 1)
    page.select_option("#filter-status", "excluded")  # hides it
    for _ in range(2):  # the second time the address stays the same
        page.click(f"a[href='#{key('s', 1)}']:visible >> nth=0")
        page.locator(".cases h3", has_text=key("s", 1)).wait_for()
        page.focus("#cases")
        page.keyboard.press("j")
    assert page.input_value("#filter-status") == ""


def test_the_oldest_are_shown_as_90_or_older() -> None:
    assert study_for_page(study(age_years=90), [], None, [], Path())["about"].startswith("90 y or older, ")
    assert study_for_page(study(age_years=89), [], None, [], Path())["about"].startswith("89 y, ")


IN_VIEW = """() => [...document.querySelectorAll('.verdict button, #note, .top figure, tr.level')].every((node) => {
    const box = node.getBoundingClientRect();
    return box.top >= 0 && box.bottom <= innerHeight + 1 && box.right <= innerWidth + 1;
})"""


def test_a_case_is_in_one_view_and_keys_scroll_nothing(page: Any) -> None:
    for width, height in ((1440, 900), (1280, 720)):
        page.set_viewport_size({"width": width, "height": height})
        page.locator("#cases").evaluate("(node) => node.scrollIntoView()")
        page.focus("#cases")
        before = page.evaluate("scrollY")
        for key_ in ("ArrowDown", "m", "z", "z", "]", "0", "ArrowUp"):
            page.keyboard.press(key_)
            assert page.evaluate(IN_VIEW), (width, key_)
            assert (
                page.evaluate("scrollY") == before and page.evaluate("document.querySelector('.view').scrollTop") == 0
            )


def test_the_window_is_set_while_looking_and_a_tile_shown_at_full_height(page: Any) -> None:
    page.locator("#cases").evaluate("(node) => node.scrollIntoView()")
    page.focus("#cases")
    slope = "() => ['0', '1'].map((n) => Number(document.querySelector(`#window-${n} feFuncR`).getAttribute('slope')))"
    assert page.evaluate(slope) == [1, 1]  # as wide as the signal
    page.keyboard.press("]")
    assert page.evaluate(slope) == pytest.approx([1.2, 1.2])
    box = page.locator(".tiles .tile").nth(7).bounding_box()  # T2, slice 3
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 20, steps=5)
    page.mouse.up()
    t1, t2 = page.evaluate(slope)
    assert t1 == pytest.approx(1.2) and t2 < 1.1 and page.locator(".large").count() == 0
    page.keyboard.press("r")
    assert page.evaluate(slope) == [1, 1]
    page.locator(".tiles .tile").nth(1).click()
    assert page.locator(".large .tile").count() == 2 and "slice 2 of 5" in page.inner_text(".large")
    assert page.locator(".large .tile").nth(0).bounding_box()["height"] > 500
    page.locator(".large").hover()
    page.mouse.wheel(0, 100)
    page.locator(".large figcaption", has_text="T2 slice 3 of 5").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".tiles .tile").count() == 10


def regraded(rows: dict[str, list[dict[str, Any]]]) -> set[str]:
    row = next(row for row in rows["levels"] if row["status"] == "graded" and row["mc"] == 0)
    row |= {"mc": 1, "p_mc0": 0.1, "p_mc1": 0.8, "p_mc2": 0.1}
    return {row["study_key"]}


def other_numbering(rows: dict[str, list[dict[str, Any]]]) -> set[str]:
    rows["studies"][4] |= {"level_numbering": "uncertain", "level_numbering_probability": 0.25}
    return {rows["studies"][4]["study_key"]}


def other_series(rows: dict[str, list[dict[str, Any]]]) -> set[str]:
    row = next(row for row in rows["series"] if row["series_key"] == rows["studies"][5]["t1_series_key"])
    row["n_slices"] = 3
    return {rows["studies"][5]["study_key"]}


def a_study_that_failed(rows: dict[str, list[dict[str, Any]]]) -> set[str]:
    gone = rows["studies"][6]["study_key"]
    rows["studies"][6] |= {"status": "failed", "reason": "study.out_of_memory", "n_levels_graded": 0}
    rows["levels"] = [row for row in rows["levels"] if row["study_key"] != gone]
    return {gone}


def a_study_less(rows: dict[str, list[dict[str, Any]]]) -> set[str]:
    gone = rows["studies"].pop(7)["study_key"]
    for name in ("levels", "series"):
        rows[name] = [row for row in rows[name] if row["study_key"] != gone]
    return set()


def nothing(rows: dict[str, list[dict[str, Any]]]) -> set[str]:
    return set()


CHANGES = (nothing, regraded, other_numbering, other_series, a_study_that_failed, a_study_less)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_page_after_a_change_is_that_of_a_first_report_and_only_what_changed_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    rows = unlike(20)
    publish(tmp_path, as_tables(rows), RUN)
    (tmp_path / "private").mkdir()
    for number in range(0, 20, 3):
        pictures(tmp_path, number)
    made: list[str] = []
    whole = outliers.study_for_page
    monkeypatch.setattr(
        outliers, "study_for_page", lambda study, *more: made.append(study["study_key"]) or whole(study, *more)
    )
    assert len(shown_now(tmp_path)["studies"]) == len(made) == 23
    made.clear()
    changed = change(rows)
    publish(tmp_path, as_tables(rows), RUN)
    after = shown_now(tmp_path)
    assert set(made) == changed
    (tmp_path / "private" / "report_cases.parquet").unlink()
    assert shown_now(tmp_path) == after


def shown_now(cohort: Path) -> Any:
    with connect(cohort) as connection:
        return json.loads(gather_cases(connection, cohort))


@pytest.mark.parametrize("what", ["pictures gone", "other pictures", "new pictures", "another code", "a damaged file"])
def test_what_the_last_report_showed_counts_only_with_the_same_pictures_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    publish(tmp_path, as_tables(unlike(20)), RUN)
    (tmp_path / "private").mkdir()
    pictures(tmp_path, 0)
    before = shown_now(tmp_path)
    case = tmp_path / "runs" / RUN / "cases" / key("s", 0) / "case.json"
    kept = tmp_path / "private" / "report_cases.parquet"
    if what == "pictures gone":
        case.unlink()
    elif what == "other pictures":
        case.write_text(json.dumps(json.loads(case.read_text()) | {"size": [77, 7]}))
    elif what == "new pictures":
        pictures(tmp_path, 1)
    elif what == "another code":
        monkeypatch.setattr("modic.cases.remembered.code_hash", lambda *_: "another")
        monkeypatch.setattr(outliers, "UNKNOWN", "no name")
        monkeypatch.setattr(outliers, "scanner_name", lambda *_, **__: "")
    else:
        kept.write_bytes(kept.read_bytes()[:-50])
    after = shown_now(tmp_path)
    assert (after == before) == (what == "a damaged file")
    kept.unlink()
    assert shown_now(tmp_path) == after
