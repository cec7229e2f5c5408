"""Which tables are current, how long older ones stay, and that nothing foreign is followed or deleted."""

import itertools
import os
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import modic
from made_cohort import RUN, as_tables, make_cohort, make_rows, run
from modic.cli.main import main
from modic.errors import UsageError
from modic.tables.published import current_tables, published_folders, restore_current, run_of
from modic.tables.query import published
from modic.tables.store import publish, read_table

NOW = datetime.now(UTC)


def nights(root: Path, *days_ago: float) -> list[str]:
    """A run finished so many days ago each, published one after the other; returns their ids."""
    ids: list[str] = []
    rows = make_rows(graded=1)
    rows["runs"] = []
    for days in days_ago:
        finished = NOW - timedelta(days=days)
        ids.append(f"{finished:%Y%m%dT%H%M%SZ}-0a0a")
        rows["runs"].append(run(rows["studies"], run_id=ids[-1], finished=finished))
        publish(root, as_tables(rows), ids[-1])
    return ids


def kept(root: Path) -> list[str]:
    return [run_of(folder) for folder in published_folders(root)]


def test_tables_stay_for_a_week_after_newer_ones(tmp_path: Path) -> None:
    ids = nights(tmp_path, 30, 20, 6.5, 5, 1, 0)
    assert kept(tmp_path) == ids[1:], "the second was current until 6.5 days ago"


def test_tables_that_no_later_ones_hold_are_never_removed(tmp_path: Path) -> None:
    make_cohort(tmp_path)  # a run that the runs below know nothing of
    ids = nights(tmp_path, 30, 20, 0)
    assert kept(tmp_path) == sorted([RUN, *ids[1:]])


def test_only_names_that_modic_gives_are_removed(tmp_path: Path) -> None:
    for name in ("thesis", "copied", "20260101T000000Z-0000", "20260101T000000Z-0000-0000000g"):
        (tmp_path / ".tables" / name).mkdir(parents=True)
        (tmp_path / ".tables" / name / "notes.txt").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "notes.txt").write_text("x")
    (tmp_path / ".tables" / "20260101T000000Z-0000-00000000").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("notes.txt"))
    nights(tmp_path, 30, 20, 10)
    assert sorted(tmp_path.rglob("notes.txt")) == before and len(before) == 5
    assert (tmp_path / ".tables" / "20260101T000000Z-0000-00000000").is_symlink()


def test_a_link_out_of_the_tables_is_not_followed(tmp_path: Path) -> None:
    make_cohort(tmp_path / "theirs")
    make_cohort(tmp_path / "cohort")
    (tmp_path / "cohort" / "current").unlink()
    (tmp_path / "cohort" / "current").symlink_to(published(tmp_path / "theirs"))
    with pytest.raises(UsageError, match=r"leads out of .tables, to .*; delete the link"):
        current_tables(tmp_path / "cohort")


@pytest.mark.parametrize("part", [".tables", "runs", "private", f"runs/{RUN}"])
def test_links_inside_a_cohort_are_refused_by_readers_and_writers(
    tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = make_cohort(tmp_path / "cohort")
    (tmp_path / "documents").mkdir()
    if part == ".tables":
        (cohort / part).rename(cohort / "moved")
    (cohort / part).parent.mkdir(exist_ok=True)
    (cohort / part).symlink_to(tmp_path / "documents")
    for command in (["report", str(cohort)], ["query", str(cohort), "FROM runs"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"{cohort / part} is a link" in said and said.count("\n") == 1
    assert list((tmp_path / "documents").iterdir()) == []


@pytest.mark.parametrize("run_id", ["../../x", "/tmp/x", "20261123T200000Z-1f0c/../../../x", "", "x\n"])
def test_a_run_id_of_another_form_leads_nowhere(
    tmp_path: Path, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows()
    for table in rows.values():
        for row in table:
            row["run_id"] = run_id
    cohort = tmp_path / "a" / "cohort"
    publish(cohort, as_tables(rows), RUN)
    (cohort / "private").mkdir()
    (cohort / "private" / "cohort.json").write_text('{"layout": 1}')
    for command in ("report", "status"):
        assert main([command, str(cohort)]) == 2
        said = capsys.readouterr().err
        assert "is no name that modic gives" in said and said.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a"} and not (cohort / "runs").exists()


def test_a_study_key_of_another_form_leads_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows(graded=1)
    for name in ("studies", "series", "levels"):
        for row in rows[name]:
            row["study_key"] = row["study_key"].replace("s_0000000000000000", "../../../private")
    publish(tmp_path, as_tables(rows), RUN)
    assert main(["report", str(tmp_path)]) == 2
    assert "'../../../private' is no name that modic gives" in capsys.readouterr().err


def test_a_handle_is_of_one_run_whatever_is_published_meanwhile(tmp_path: Path) -> None:
    make_cohort(tmp_path, 2)
    handle = modic.open(tmp_path)
    first = handle.sql("SELECT count(*) FROM levels").fetchall()
    for graded in (3, 4, 5):
        publish(tmp_path, as_tables(make_rows(graded)), RUN, keep_days=36_500)
    assert (first, len(handle.levels), len(handle.studies)) == ([(12,)], 12, 5)
    assert handle.sql("SELECT count(*) FROM levels JOIN studies USING (study_key)").fetchall() == [(12,)]
    assert len(modic.open(tmp_path).levels) == 30


def test_pairs_of_queries_are_never_of_two_runs_while_another_publishes(tmp_path: Path) -> None:
    make_cohort(tmp_path, 1)
    over = threading.Event()

    def publish_on() -> None:
        ready = [as_tables(make_rows(graded)) for graded in (2, 1)]
        while not over.is_set():
            for tables in ready:
                publish(tmp_path, tables, RUN, keep_days=36_500)

    writer = threading.Thread(target=publish_on)
    writer.start()
    try:
        seen = set()
        while len(seen) < 2:
            handle = modic.open(tmp_path)
            studies, levels = handle.sql("FROM studies WHERE status = 'graded'").fetchall(), len(handle.levels)
            assert 6 * len(studies) == levels == len(handle.sql("FROM levels").fetchall())
            seen.add(levels)
    finally:
        over.set()
        writer.join()


def test_the_tables_of_an_earlier_run_can_be_opened_by_its_id(tmp_path: Path) -> None:
    ids = nights(tmp_path, 3, 2, 0)
    earlier = modic.open(tmp_path, run=ids[1])
    assert (earlier.run_id, len(earlier.runs), len(earlier.levels)) == (ids[1], 2, 6)
    assert modic.open(tmp_path, run=modic.open(tmp_path).run_id).folder == published(tmp_path)
    with pytest.raises(UsageError, match=f"keeps no tables of run x; it keeps those of {', '.join(ids)}"):
        modic.open(tmp_path, run="x")


def test_a_handle_whose_tables_are_gone_says_so(tmp_path: Path) -> None:
    nights(tmp_path, 40)
    handle = modic.open(tmp_path)
    nights(tmp_path, 40, 30, 20)
    for read in (lambda: handle.levels, lambda: handle.sql("FROM runs")):
        with pytest.raises(UsageError, match=re.escape(f"{handle.folder} is not kept any more; call modic.open again")):
            read()


def test_no_links_a_copy_and_a_name_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(1, "Operation not permitted")

    make_cohort(tmp_path / "linked", 1)
    with monkeypatch.context() as patch:
        patch.setattr("os.symlink", refused)
        for graded in (1, 2):
            make_cohort(tmp_path / "cohort", graded)
    current = tmp_path / "cohort" / "current"
    assert not current.is_symlink() and len(read_table(tmp_path / "cohort", "levels")) == 12
    names = {path.name for path in published(tmp_path / "cohort").iterdir()}
    assert {path.name for path in current.iterdir()} == names >= {"levels.parquet", "dictionary.md"}
    assert published(tmp_path / "cohort").name == (tmp_path / "cohort" / ".tables" / "current").read_text()
    make_cohort(tmp_path / "cohort", 3)  # moved to a disk with links
    assert current.is_symlink() and len(read_table(tmp_path / "cohort", "levels")) == 18
    assert not (tmp_path / "cohort" / ".tables" / "current").exists()
    assert sorted(path.name for path in (tmp_path / "cohort").iterdir()) == [".tables", "current"]


class Killed(BaseException):
    """Stands for the end of the process."""


def killed_at(patch: pytest.MonkeyPatch, n: int) -> None:
    """The n-th rename from now on does not happen, and nothing after it."""
    left = [n]

    def of(name: str) -> Any:
        plain = getattr(os, name)

        def rename(*places: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return plain(*places, **more)

        return rename

    for name in ("rename", "replace"):
        patch.setattr(os, name, of(name))


@pytest.mark.parametrize("links", [True, False])
def test_tables_are_whole_wherever_a_publication_ends(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "symlink", refused)
    make_cohort(tmp_path, 1)
    tables, seen = as_tables(make_rows(2)), []
    for n in itertools.count():
        with monkeypatch.context() as patch:
            killed_at(patch, n)
            try:
                publish(tmp_path, tables, RUN, keep_days=36_500)
            except Killed:
                pass
            else:
                break
        seen.append(len(read_table(tmp_path, "levels")))
        restore_current(tmp_path)
        assert len(read_table(tmp_path, "levels")) == seen[-1]
        assert len(pd.read_parquet(tmp_path / "current" / "levels.parquet")) in (6, 12)
        make_cohort(tmp_path, 1)
    assert len(seen) >= 7 and set(seen) == ({6} if links else {6, 12})
    assert len(read_table(tmp_path, "levels")) == 12
