"""The report: one page that needs nothing else, whose numbers are the tables' numbers."""

import base64
import hashlib
import itertools
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import modic
from made_cohort import RUN, as_tables, key, make_cohort, make_rows
from modic.analysis.corrected import OWN_READ
from modic.errors import UsageError
from modic.report.flow_diagram import lay_out, steps
from modic.report.front_page import curves
from modic.report.page import write_report
from modic.statistics.intervals import wilson
from modic.tables.query import connect, rows_of
from modic.tables.schema import SCHEMAS
from modic.tables.store import publish


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
    leads = [attrs[name] for _, attrs in page.tags for name in ("src", "href", "xlink:href") if name in attrs]
    assert all(str(where).startswith("#") for where in leads), "to places of the page alone"
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


def test_it_warns_that_grades_are_not_validated(page: Page) -> None:
    assert "not for diagnosis" in page.text
    assert re.search(r"never been\s+validated on real lesions", page.text)


def test_studies_to_look_at_are_named(page: Page) -> None:
    for number in (0, 7, 4, 10):  # uncertain, uncertain, abstained, failed
        assert key("s", number) in page.text
    assert "study.worker_died" in page.text


def test_the_flow_adds_up_from_box_to_box(cohort: Path) -> None:
    with connect(cohort) as connection:
        flow = steps(rows_of(connection, "FROM strobe_flow"), patients=6)
    main = {step.main.head: step.main.n for step in flow}
    assert main["MR studies"] == 11 and main["Levels of graded studies, six each"] == 6 * main["Studies graded"]
    for here, after in itertools.pairwise(flow):
        if here.out:
            assert here.main.n == after.main.n + sum(box.n for box in here.out)
            assert all(box.n == sum(n for _, n in box.lines) for box in here.out if box.lines)
    assert sum(n for _, n in flow[-1].main.lines) == flow[-1].main.n


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
    with pytest.raises(UsageError, match="not of 20200101T000000Z-0000"):
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


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 60 patients, a quarter of whose levels two readers read as the model graded them, but for some."""
    cohort = make_cohort(tmp_path_factory.mktemp("validated"), 120)
    levels = modic.open(cohort).graded()
    read = levels[levels.index % 4 == 0]
    truth = read["p_mc1"].gt(0.5).astype(int) + 2 * read["p_mc2"].gt(0.5)
    truth = truth.where(read.index % 5 > 0, 0)
    rows = read[["study_key", "patient_key", "level"]].assign(
        level=read["level"].astype(str), reader="A", truth=truth, predicted=read["mc"], weight=4.0
    )
    (cohort / "validation").mkdir()
    rows.to_parquet(cohort / "validation" / "readings.parquet")
    return cohort


def test_prevalence_on_the_page_is_what_python_answers(validated: Path) -> None:
    page = Page(write_report(validated, RUN))
    text = " ".join(page.text.split())
    opened = modic.open(validated)
    n_read = len(pd.read_parquet(validated / "validation" / "readings.parquet"))
    for answer in (opened.prevalence(), opened.prevalence(unit="patients"), opened.corrected_prevalence("level")):
        for row in answer[answer["grade"] == "MC1"].to_dict("records"):
            if row["share"] == row["share"]:
                assert f"{100 * row['share']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})" in text
    assert "is not printed beside them" in text, "75 readings are too few for patients"
    assert f"Rogan-Gladen, with {n_read} readings" in text and "readers agree" in text
    assert "Jensen et al." in text and "How to cite" in text
    methods = (validated / "runs" / RUN / "methods.md").read_text(encoding="utf-8")
    assert f"come from {n_read} readings (Rogan-Gladen)" in methods


def test_with_enough_readings_patients_are_corrected_too(validated: Path, tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    shutil.copytree(validated, root, symlinks=True)
    levels = modic.open(root).graded()
    read = levels[levels.index % 2 == 0][["study_key", "patient_key", "level", "mc"]]
    read = read.assign(level=read["level"].astype(str), reader="A", truth=read["mc"].fillna(0), predicted=read["mc"])
    read.assign(weight=2.0).to_parquet(root / "validation" / "readings.parquet")
    text = " ".join(Page(write_report(root, RUN)).text.split())
    row = modic.open(root).imputed().prevalence(unit="patients").set_index("grade").loc["MC1 or MC2"]
    shown = f"{100 * row['share']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"
    assert f"corrected for the grader's errors, {shown} % of patients" in text
    assert f"imputed from {len(read)} levels" in text and "is not printed beside them" not in text


def test_a_level_that_was_read_often_enough_is_corrected_by_its_own_readings(validated: Path, tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    shutil.copytree(validated, root, symlinks=True)
    path = root / "validation" / "readings.parquet"
    levels = modic.open(root).graded().astype({"level": "string"})
    drawn = levels[levels["level"] == "L4/L5"].head(OWN_READ)[["study_key", "patient_key", "level"]]
    assert len(drawn) == OWN_READ
    more = drawn.assign(reader="A", truth=1, predicted=0, weight=1.2, sample_id="one")
    for few in (1, 0):
        read = pd.concat([pd.read_parquet(path).assign(sample_id=""), more.iloc[few:]])
        opened = modic.open(root)
        of_level = opened.corrected_prevalence("level", method="by-group", validation=read)
        of_level = of_level.set_index(["level", "grade"])
        assert set(of_level["method"].drop("L4/L5").dropna()) == {"Rogan-Gladen"}  # no T12/L1 was graded
        own = of_level.loc[("L4/L5", "MC1")]
        assert own["method"] == ("Rogan-Gladen" if few else "prediction-powered inference")
    assert own["n_read"] == OWN_READ and own["share"] > 0.98, "all were read as MC1"
    read.to_parquet(path)
    text = " ".join(Page(write_report(root, RUN)).text.split())
    n_levels = len(read.drop_duplicates(["study_key", "level"]))  # some were read twice
    assert f"{OWN_READ}, own" in text and text.count(f"{n_levels}, all ") == 4


def test_without_a_validation_the_page_says_that_nothing_is_corrected(page: Page) -> None:
    assert "nothing can be corrected" in page.text and "corrected, %" not in page.text
    assert "nothing here is corrected for the grader's errors" in " ".join(page.text.split())
    assert "own share is not printed beside them" in " ".join(page.text.split())


def test_a_validation_that_cannot_correct_is_reported(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path, 20)
    (cohort / "validation").mkdir()
    cells = pd.DataFrame({"truth": [0, 2], "predicted": [0, 2], "n": [50, 40]})
    cells.to_parquet(cohort / "validation" / "confusion.parquet")
    assert "cannot correct these numbers" in Page(write_report(cohort)).text


def test_groups_of_few_people_are_not_drawn() -> None:
    cells = pd.DataFrame(
        {"age_band": ["40-49", "50-59", "60-69", "90+"], "sex": ["F", "F", "F", "M"], "grade": "MC1 or MC2",
         "n": [40, 12, 3, 3], "n_abstained": [0, 0, 9, 1], "share": [0.3, 0.5, np.nan, np.nan],
         "share_at_least": [0.3, 0.5, 0.25, 0.5], "share_at_most": [0.3, 0.5, 1.0, 0.75],
         "low": [0.2, 0.3, 0.1, 0.2], "high": [0.4, 0.7, 1.0, 0.9]}
    )  # fmt: skip
    drawn = curves(cells)
    assert drawn is not None and drawn["left_out"] == 4 and "90+" not in drawn["x"]
    women, men = drawn["curves"]
    assert [y is not None and y > high for _, y, _, high, _ in women.points] == [True, True, False] and men.points == []
    first, second, undecided = (point[1] for point in women.points)
    assert first is not None and second is not None and first > second, "a larger share stands higher"
    assert undecided is None and women.points[2][4] == "women of 60-69 years: 25.0 to 100.0 % of 12 patients"
    assert len(women.lines) == 1 and curves(cells.assign(n=3, n_abstained=0)) is None
