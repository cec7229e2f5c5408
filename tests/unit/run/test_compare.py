"""`modic compare`: two runs of one cohort, from the finished shards."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from made_cohort import MODELS, RUN, as_tables, key, levels, make_rows
from modic.cli.main import main
from modic.cohort import create_cohort
from modic.errors import UsageError
from modic.run.compare import compare
from modic.run.ledger import LEVEL_FIELDS, SCHEMA, write_output
from modic.statistics import metric_tables
from modic.tables.store import publish

LATER, LAST = "20261201T200000Z-2f0c", "20261205T200000Z-3f0c"


def shard_row(number: int, grader: str, moved: str = "", **more: Any) -> dict[str, Any]:
    """The ledger's row of one study; at the level `moved` the grade is MC2."""
    own = [{field.name: row.get(field.name) for field in LEVEL_FIELDS} for row in levels(number)]
    for level in own:
        if level["level"] == moved:
            level |= {"mc": 2, "abstained": False, "confidence": 0.9}
    row = dict.fromkeys(SCHEMA.names) | {"study_key": key("s", number), "fingerprint": grader, "status": "graded"}
    return row | MODELS | {"levels": own, "grading_version": 2, "grader_id": grader, "configuration_hash": "c0"} | more


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RUN graded studies 0 to 7; LATER 0 to 5 again with another grader, whose L4/L5 moved, and 5 failed; LAST 8."""
    monkeypatch.setattr(metric_tables, "DRAWS", 30)
    (tmp_path / "archive").mkdir()
    home = create_cohort(tmp_path / "cohort", archive=tmp_path / "archive")
    publish(home.root, as_tables(make_rows(9)), RUN)
    write_output(home.shard(RUN, "00000"), [shard_row(n, "aaaa") for n in range(8)])
    again = [shard_row(n, "bbbb", "L4/L5") for n in range(5)]
    again.append(shard_row(5, "bbbb", status="failed", levels=[], reason="study.worker_died"))
    write_output(home.shard(LATER, "00000"), again)
    write_output(home.shard(LAST, "00000"), [shard_row(8, "bbbb")])
    return home.root


def test_each_run_has_the_grades_of_its_time(cohort: Path) -> None:
    found = compare(cohort, RUN, LATER)
    assert found.levels["study_key"].nunique() == 7 and len(found.levels) == 42 and found.only == (1, 0)
    had = {row["study_key"]: row["mc"] for n in range(5) for row in levels(n) if row["level"] == "L4/L5"}
    assert set(found.moved["study_key"]) == {study for study, mc in had.items() if mc != 2} and len(found.moved)
    assert set(found.moved["level"]) == {"L4/L5"} and set(found.moved["after"]) == {"MC2"}
    counts = found.graders.set_index(["run", "grader_id"])["studies"].to_dict()
    assert counts == {(RUN, "aaaa"): 7, (LATER, "aaaa"): 2, (LATER, "bbbb"): 5}
    assert compare(cohort, LATER, LAST).only == (0, 1)


def test_the_command_prints_tables_and_writes_what_moved(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "moved.csv"
    assert main(["compare", str(cohort), RUN, LATER, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Cohen's kappa, all" in said and "bbbb" in said and "MC1 or MC2" in said and "graded by " in said
    cross = said.split(f"levels: {RUN} (rows)")[1].split("\n\n")[0]
    cells = [int(cell) for line in cross.splitlines()[2:] for cell in line.replace("not graded", "none").split()[1:]]
    assert sum(cells) == 42
    assert len(pd.read_csv(out)) == len(compare(cohort, RUN, LATER).moved)
    assert main(["compare", str(cohort), RUN, LATER, "--out", str(out)]) == 2


def test_runs_that_are_not_there_are_refused(cohort: Path) -> None:
    with pytest.raises(UsageError, match=f"has no run 20200101T000000Z-0000; it has {RUN}, {LATER}, {LAST}"):
        compare(cohort, RUN, "20200101T000000Z-0000")
    with pytest.raises(UsageError, match=f"{RUN} is named twice"):
        compare(cohort, RUN, RUN)
