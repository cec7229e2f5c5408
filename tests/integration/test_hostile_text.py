"""Text from headers, file names and folder names is data everywhere: never markup, formula, SQL, command or path."""

import io
import json
from pathlib import Path

import pytest

from dicoms import study, write
from fake_worker import without_networks
from made_cohort import as_tables, make_rows
from modic.cli.main import main
from modic.errors import UsageError
from modic.models import weights
from modic.reader_study.validation import validate
from modic.report.page import write_report
from modic.run import worker
from modic.tables import query
from modic.tables.store import publish, read_table
from plain_run import plain_run

HOSTILE = {
    "html": "<script>alert('x')</script><img src=x onerror=alert(1)>",
    "formula": "=HYPERLINK(\"evil\")",
    "formula with a sign": "-1+cmd|' /C calc'!A0",
    "sql": "'; DROP TABLE studies; --",
    "terminal": "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "log": "fine\nmodic: run finished without failures",
    "path": "../../../../tmp/owned",
    "jinja": "{{ 7 * 7 }}{% raw %}",
}  # fmt: skip


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A cohort that holds hostile text where a table may hold free text, as one of other software might."""
    rows = make_rows()
    for row, text in zip(rows["studies"], HOSTILE.values(), strict=False):
        row["manufacturer"] = row["scanner_model"] = text
    publish(tmp_path / "cohort", as_tables(rows), rows["runs"][0]["run_id"])
    return tmp_path / "cohort"


def test_the_report_shows_it_as_text(cohort: Path) -> None:
    page = write_report(cohort).read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(&#39;x&#39;)" in page
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "{{ 7 * 7 }}" in page
    assert not (cohort.parent / "owned").exists()


def ask(cohort: Path, sql: str, format: str) -> str:
    out = io.StringIO()
    query.print_query(cohort, sql, format=format, out=out)
    return out.getvalue()


def test_a_spreadsheet_computes_nothing_of_it_and_numbers_stay_numbers(cohort: Path) -> None:
    sql = "SELECT manufacturer, '-4.5' AS number, -3 AS whole FROM studies WHERE manufacturer IS NOT NULL"
    lines = ask(cohort, sql, "csv")
    assert '"\'=HYPERLINK(""evil"")",-4.5,-3' in lines
    assert "'-1+cmd|' /C calc'!A0,-4.5,-3" in lines
    assert not [line for line in lines.splitlines() if line.lstrip('"')[:1] in ("=", "@", "+", "-")]


def test_a_terminal_obeys_nothing_of_it(cohort: Path) -> None:
    shown = ask(cohort, "SELECT manufacturer FROM studies", "table")
    assert "]0;owned" in shown
    assert not [one for one in shown if not one.isprintable() and one != "\n"]


def test_no_command_prints_a_terminal_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows()
    rows["runs"][0] |= {"code_version": HOSTILE["terminal"], "device": HOSTILE["terminal"]}
    for row in rows["studies"]:
        row |= {"scanner_model": HOSTILE["terminal"], "detail": HOSTILE["terminal"]}
    cohort = tmp_path / "cohort"
    publish(cohort, as_tables(rows), rows["runs"][0]["run_id"])
    (cohort / "private").mkdir(exist_ok=True)
    (cohort / "private" / "cohort.json").write_text('{"layout": 1}')
    manifest = cohort / "runs" / rows["runs"][0]["run_id"] / "manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"to_grade": HOSTILE["terminal"], "seconds_by_stage": {HOSTILE["terminal"]: 1.0}}))
    for command in (["status"], ["check"], ["query", "FROM studies"], ["report"]):
        main([command[0], str(cohort), *command[1:]])
        said = capsys.readouterr()
        assert not [letter for letter in said.out + said.err if not (letter.isprintable() or letter == "\n")], command
        assert command != ["status"] or "]0;owned" in said.out


@pytest.mark.parametrize("reader", ["ann\0", "\x1b[2J", "a\u202eb"])
def test_a_readers_name_that_cannot_be_printed_is_refused_by_line(cohort: Path, tmp_path: Path, reader: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"study_key,level,mc,reader\ns_0000000000000003,L4/L5,1,{reader}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"labels.csv line 2: column reader holds a character that cannot be printed"):
        validate(cohort, [path], tmp_path / "out")


def test_a_readers_name_is_text_in_markdown_too(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modic.statistics.metric_tables.DRAWS", 20)
    path = tmp_path / "labels.csv"
    rows = [f"s_{number:016x},L4/L5,{number % 3},{HOSTILE['html']}|[x](y)" for number in range(8)]
    rows += [f"s_{number:016x},L4/L5,1,bob" for number in range(8)]
    path.write_text("study_key,level,mc,reader\n" + "\n".join(rows), encoding="utf-8")
    validate(cohort, [path], tmp_path / "out")
    written = (tmp_path / "out" / "validation.md").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in written and "<script" not in written and "<img" not in written
    assert "[x](y)" not in written.replace("\\[x\\](y)", "")


def test_a_message_is_one_line_without_terminal_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = tmp_path / "arch\x1b[2Jive\nmodic: all studies graded"
    assert main(["grade", str(hostile), "--out", str(tmp_path / "cohort")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "\x1b" not in said and "does not exist" in said


def test_folders_with_special_names_are_folders(tmp_path: Path, cohort: Path) -> None:
    for name in ("it's", "[1]*?", 'a"b; DROP', "{{x}}"):
        moved = tmp_path / name / "cohort"
        moved.parent.mkdir()
        cohort.rename(moved)
        cohort = moved
        assert len(ask(cohort, "FROM studies", "json")) > 1000
        assert write_report(cohort).is_file()
        assert not any(query.run_checks(cohort).values())


def test_headers_and_file_names_full_of_it_are_graded_and_nothing_is_written_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "load_models", worker.load_models)
    monkeypatch.setattr(worker, "grade_study", worker.grade_study)
    monkeypatch.setattr(weights.Models, "usable", weights.Models.usable)
    without_networks()
    for number, text in enumerate(HOSTILE.values()):
        slices = study(patient=text.replace("\n", " ").encode("ascii", "replace").decode(), study=number)
        for slice_ in slices:
            slice_.Manufacturer = slice_.SeriesDescription = "".join(one for one in text if one.isprintable())[:60]
        for path in write(slices, tmp_path / "archive" / text.replace("/", "_")):
            path.rename(path.with_name(f"{path.name} {text.replace('/', '_')}"))
    before = {path for path in tmp_path.rglob("*")}
    plain_run(tmp_path / "archive", tmp_path / "cohort")
    found = read_table(tmp_path / "cohort", "studies")
    statuses = sorted(zip(found["status"].to_pylist(), found["detail"].to_pylist(), strict=True))
    doubted = ("excluded", "t2 1, unknown 1")  # a plus may stand for a contrast agent, and "calc" for a computed image
    assert statuses == [doubted, *[("graded", None)] * (len(HOSTILE) - 1)]
    assert not any(query.run_checks(tmp_path / "cohort").values())
    assert {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before} == {"cohort"}
    shown = ask(tmp_path / "cohort", "FROM studies", "csv")
    assert not [text for text in HOSTILE.values() if text in shown]
