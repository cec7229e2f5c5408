"""The report: one page that needs nothing else, whose numbers are the tables' numbers."""

import base64
import hashlib
import itertools
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_cohort import RUN, as_tables, key, make_cohort, make_rows

from modic.epidemiology import wilson
from modic.errors import UsageError
from modic.query import connect, rows_of
from modic.report import write_report
from modic.schemas import SCHEMAS
from modic.strobe import lay_out, steps
from modic.tables import publish


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def page(cohort: Path) -> Page:
    return Page(write_report(cohort, RUN))


def test_it_lies_with_its_run_and_nothing_else_is_left(cohort: Path, page: Page) -> None:
    assert sorted(path.name for path in (cohort / "runs" / RUN).iterdir()) == ["methods.md", "report.html"]


def test_it_needs_nothing_from_outside_and_runs_no_script_but_its_own(cohort: Path, page: Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "form"}
    assert not [attrs for _, attrs in page.tags if {"src", "href", "xlink:href"} & attrs.keys()]
    assert [attrs.get("type") for tag, attrs in page.tags if tag == "script"] == ["application/json", None]
    text = (cohort / "runs" / RUN / "report.html").read_text(encoding="utf-8")
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a] == [
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src 'self' file:"
    ]


def test_what_comes_from_headers_is_escaped(cohort: Path, page: Page) -> None:
    text = (cohort / "runs" / RUN / "report.html").read_text(encoding="utf-8")
    assert "Aperto <Lucent>" in page.text and "<Lucent>" not in text


def test_it_says_what_the_grades_are_not(page: Page) -> None:
    assert "not for diagnosis" in page.text
    assert re.search(r"never been\s+validated on real lesions", page.text)


def test_studies_to_look_at_are_named(page: Page) -> None:
    for number in (0, 7, 4, 10):  # uncertain, uncertain, abstained, failed
        assert key("s", number) in page.text
    assert "study.worker_died" in page.text


def test_the_flow_adds_up_from_box_to_box(cohort: Path) -> None:
    with connect(cohort) as connection:
        found = steps(rows_of(connection, "FROM strobe_flow"), patients=6)
    main = {step.main.head: step.main.n for step in found}
    assert main["MR studies"] == 11 and main["Levels of graded studies, six each"] == 6 * main["Studies graded"]
    for here, after in itertools.pairwise(found):
        if here.out:
            assert here.main.n == after.main.n + sum(box.n for box in here.out)
            assert all(box.n == sum(n for _, n in box.lines) for box in here.out if box.lines)
    assert sum(n for _, n in found[-1].main.lines) == found[-1].main.n


def test_boxes_do_not_overlap(cohort: Path) -> None:
    with connect(cohort) as connection:
        chart = lay_out(steps(rows_of(connection, "FROM strobe_flow"), patients=6))
    for x in {place.x for place in chart.boxes}:
        column = sorted((p.y, p.y + p.box.height) for p in chart.boxes if p.x == x)
        assert all(above[1] < below[0] for above, below in itertools.pairwise(column))
        assert column[-1][1] <= chart.height


def test_the_methods_text_is_one_paragraph_with_the_runs_numbers(cohort: Path, page: Page) -> None:
    text = (cohort / "runs" / RUN / "methods.md").read_text(encoding="utf-8")
    assert text.count("\n") == 1
    assert "Of 11 studies of 6 patients, 8 were graded, 2 excluded by rule and 1 failed." in text
    assert "0123456789ab" in text and "standardize" in text and text.strip() in page.text


def test_it_can_be_written_where_nothing_was_graded(tmp_path: Path) -> None:
    rows = make_rows(graded=0)
    publish(tmp_path, as_tables(rows), RUN)
    assert "No study was graded" in Page(write_report(tmp_path)).text


def test_a_page_about_another_run_than_the_last_is_refused(cohort: Path) -> None:
    with pytest.raises(UsageError, match="not 20200101T000000Z-0000"):
        write_report(cohort, "20200101T000000Z-0000")


def test_without_a_finished_run_there_is_no_report(tmp_path: Path) -> None:
    publish(tmp_path, {name: schema.empty_table() for name, schema in SCHEMAS.items()}, RUN)
    with pytest.raises(UsageError, match="no run has finished"):
        write_report(tmp_path)


def test_wilson_ends_where_the_score_test_rejects() -> None:
    for k, n in ((5, 50), (1, 7), (399, 400)):
        for end in wilson(k, n):
            assert abs(k / n - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n))
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no proportion"):
        wilson(2, 1)
