"""Copies of a cohort that lack something. Nothing missing is taken for not there yet, and nothing is graded twice."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cohort_reader import tables
from dicoms import study, write
from fake_worker import without_networks
from modic.cli.main import main
from modic.errors import ModicError, UsageError
from modic.models import weights
from modic.run import prepare, worker
from modic.tables.published import published_folders
from modic.tables.query import connect, published, rows_of
from modic.tables.store import read_table
from plain_run import plain_run

SMALL = {"rows": 16, "columns": 16}


pytestmark = pytest.mark.usefixtures("no_networks")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two studies, and a cohort of two runs; a third study left the archive between them."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_models", "grade_study"):
            patch.setattr(worker, name, getattr(worker, name))
        patch.setattr(weights.Models, "usable", weights.Models.usable)
        without_networks()
        for patient in ("ann", "bob", "gone"):
            write(study(patient=patient, **SMALL), folder / "archive" / patient)
        plain_run(folder / "archive", folder / "cohort")
        shutil.rmtree(folder / "archive" / "gone")
        plain_run(folder / "archive", folder / "cohort")
    return folder


@pytest.fixture
def archive(made: Path) -> Path:
    return made / "archive"


@pytest.fixture
def cohort(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "cohort", tmp_path / "cohort", symlinks=True)
    return tmp_path / "cohort"


def a_file_in_place_of_the_link(cohort: Path) -> None:
    target = (cohort / "current").readlink()
    (cohort / "current").unlink()
    (cohort / "current").write_text(str(target))  # as a tool without links unpacks a zip


def a_link_that_leads_nowhere(cohort: Path) -> None:
    (cohort / "current").unlink()
    (cohort / "current").symlink_to(".tables/20200101T000000Z-0000-00000000")


def the_newest_tables_cut_off(cohort: Path) -> None:
    (cohort / "current").unlink()
    newest = published_folders(cohort)[-1] / "levels.parquet"
    newest.write_bytes(newest.read_bytes()[:-100])


def the_link_followed(cohort: Path) -> None:
    target = (cohort / "current").resolve()
    (cohort / "current").unlink()
    shutil.copytree(target, cohort / "current")  # cp -rL


LOSSES: list[Callable[[Path], object]] = [
    lambda cohort: (cohort / "current").unlink(),
    a_file_in_place_of_the_link,
    a_link_that_leads_nowhere,
    the_newest_tables_cut_off,
    the_link_followed,
]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_lost_current_is_found_again_and_nothing_is_lost_or_graded_twice(
    archive: Path, cohort: Path, lose: Callable[[Path], object]
) -> None:
    before, kept = tables(cohort), set((cohort / ".tables").iterdir())
    lose(cohort)
    summary = plain_run(archive, cohort)
    assert summary.graded_now == 0
    assert tables(cohort) == before
    assert len(read_table(cohort, "runs")) >= 2 and (cohort / "current").is_symlink()
    assert False in read_table(cohort, "studies")["in_archive"].to_pylist()
    assert kept <= set((cohort / ".tables").iterdir())


@pytest.mark.parametrize("lose", LOSSES)
def test_readers_find_the_tables_of_such_a_copy_too(
    cohort: Path, lose: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    lose(cohort)
    with connect(cohort) as connection:
        assert rows_of(connection, "SELECT count(*) AS n FROM levels") == [{"n": 18}]
    assert main(["status", str(cohort)]) == 0
    assert "3 found" in capsys.readouterr().out or lose is the_newest_tables_cut_off


def without(*names: str) -> Callable[[Path], None]:
    def lose(cohort: Path) -> None:
        for name in names:
            for path in [*cohort.glob(name)] or [cohort / name]:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    return lose


STOPS = [
    (without(".tables"), "the tables of .* are lost: `current` leads nowhere.*cp -a"),  # cp -r C/* X
    (without(".tables", "current"), "are lost: run .* published them"),
    (without(".tables/*/levels.parquet", "current"), "are lost: run .* published them"),
    (without("current/studies.parquet"), "current lacks studies.parquet; restore it from a backup, or delete"),
    (without("private/pseudonym.key"), "pseudonym.key is missing.*restore it from a backup"),
    (without("private"), "lacks private/cohort.json; restore all of private/ from a backup"),
    (without("private/cohort.json"), "lacks private/cohort.json; restore all of private/ from a backup"),
    (without("runs"), "runs lacks 1 run whose grades the tables hold"),
    (without("runs/*"), "runs lacks 1 run whose grades the tables hold.*restore them.*make an empty folder"),
]


@pytest.mark.parametrize("lose, said", STOPS)
def test_what_cannot_be_found_stops_the_run_with_the_cure_and_deletes_nothing(
    archive: Path, cohort: Path, lose: Callable[[Path], None], said: str
) -> None:
    lose(cohort)
    before = sorted(map(str, cohort.rglob("*")))
    with pytest.raises(UsageError, match=said):
        plain_run(archive, cohort)
    assert sorted(map(str, cohort.rglob("*"))) == before


def test_a_reader_says_the_same_in_one_line(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(cohort / ".tables")
    for command in (["query", str(cohort), "FROM runs"], ["status", str(cohort)], ["report", str(cohort)]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "are lost: `current` leads nowhere" in said and said.count("\n") == 1


def test_tables_that_are_lost_for_good_are_made_anew_if_the_user_says_so(archive: Path, cohort: Path) -> None:
    without(".tables", "current")(cohort)
    (cohort / "private" / "make-tables-anew").touch()
    assert plain_run(archive, cohort).graded_now == 0
    assert len(read_table(cohort, "levels")) == 12
    assert not (cohort / "private" / "make-tables-anew").exists()


def test_runs_that_are_lost_for_good_are_graded_again_if_the_user_says_so(archive: Path, cohort: Path) -> None:
    (run_id,) = set(read_table(cohort, "levels")["run_id"].to_pylist())
    shutil.rmtree(cohort / "runs" / run_id)
    (cohort / "runs" / run_id).mkdir()
    assert plain_run(archive, cohort).graded_now == 2
    assert len(read_table(cohort, "levels")) == 18


def test_damaged_tables_stop_the_run_with_the_cure_which_works(archive: Path, cohort: Path) -> None:
    before = tables(cohort)
    (cohort / "current" / "studies.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModicError, match=r"studies.parquet is damaged; .*delete `current`"):
        plain_run(archive, cohort)
    (cohort / "current").unlink()
    plain_run(archive, cohort)
    assert tables(cohort) == before


def test_the_key_of_another_cohort_is_refused(archive: Path, cohort: Path) -> None:
    (cohort / "private" / "pseudonym.key").write_bytes(os.urandom(32))
    with pytest.raises(UsageError, match="is the key of another cohort; restore this cohort's own"):
        plain_run(archive, cohort)


def test_a_run_killed_before_its_first_tables_is_no_loss(archive: Path, tmp_path: Path) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain_run(archive, tmp_path / "cohort", meanwhile=killed)
    (tmp_path / "cohort" / ".tables" / "20200101T000000Z-0000-00000000").mkdir(parents=True)  # while it published
    assert plain_run(archive, tmp_path / "cohort").graded_now == 2


def test_an_older_cohort_is_taken_as_it_is(archive: Path, cohort: Path) -> None:
    """Before this version, a cohort remembered nothing but its layout, and the lock held the id of its run alone."""
    (cohort / "private" / "cohort.json").write_text('{"layout": 1}')
    (cohort / "private" / "lock").write_text(pq.read_table(published(cohort) / "runs.parquet")["run_id"][1].as_py())
    assert plain_run(archive, cohort).graded_now == 0
    assert len(read_table(cohort, "runs")) == 3


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_writes_and_what_is_private_only_he_reads(archive: Path, tmp_path: Path, umask: int) -> None:
    cohort = tmp_path / "new" / "cohort"

    def look(_: prepare.Run) -> None:
        seen.extend(cohort.rglob("*"))

    seen: list[Path] = []
    before = os.umask(umask)
    try:
        plain_run(archive, cohort, meanwhile=look)
        seen += [cohort, *cohort.rglob("*")]
        modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in seen if path.exists() and not path.is_symlink()}
    finally:
        os.umask(before)
    private = {path: mode for path, mode in modes.items() if "private" in path.parts}
    assert len(private) >= 5 and {mode & 0o077 for mode in private.values()} == {0}
    assert {mode & 0o022 for mode in modes.values()} == {0}
    readable = (0o644, 0o755) if umask < 0o077 else (0o600, 0o700)
    assert {mode for path, mode in modes.items() if path not in private} == set(readable)


ORDERS = [("current", ".tables", "runs", "private"), (".tables", "current", "private", "runs")]
"""The order of the guide, and that of names, in which rsync and cp copy."""


@pytest.mark.parametrize("order", ORDERS)
def test_a_backup_made_while_a_run_publishes_is_restored_elsewhere_and_grades_nothing_again(
    made: Path, cohort: Path, tmp_path: Path, order: tuple[str, ...]
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(made / "archive", archive)  # keeps the times of files
    restored = tmp_path / "other machine" / "cohort"
    restored.mkdir(parents=True)
    for part in order[:2]:
        copy(cohort / part, restored / part)
    write(study(patient="new", **SMALL), archive / "new")
    assert plain_run(archive, cohort).graded_now == 1
    for part in order[2:]:
        copy(cohort / part, restored / part)
    (archive / "new").rename(tmp_path / "new")
    moved = tmp_path / "mounted elsewhere" / "archive"
    moved.parent.mkdir()
    archive.rename(moved)
    (tmp_path / "new").rename(moved / "new")
    assert plain_run(moved, restored).graded_now == 0, "the new study is in the shards of the backup"
    here, there = tables(restored), tables(cohort)
    for part in (here, there):  # the same archive in another place has another number
        part["studies"] = part["studies"].drop_columns("archive")
    assert here == there
    assert len(read_table(restored, "runs")) == 3


def copy(part: Path, to: Path) -> None:
    """`cp -a`."""
    if part.is_symlink():
        to.symlink_to(part.readlink())
    else:
        shutil.copytree(part, to, symlinks=True)


def test_a_backup_of_a_run_that_was_going_on_waits_for_nobody_who_is_gone(archive: Path, tmp_path: Path) -> None:
    """The lock that the backup holds was taken by a machine that knows nothing of the copy."""
    cohort = tmp_path / "cohort"
    plain_run(archive, cohort, meanwhile=lambda _: copy(cohort, tmp_path / "restored"))  # type: ignore[func-returns-value]
    record = tmp_path / "restored" / "private" / "lock"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"machine": "another"}))
    with pytest.raises(UsageError, match=r"another machine is writing .* is free in \d+ s"):
        plain_run(archive, tmp_path / "restored")
    os.utime(record, (1, 1))  # cp -a keeps the time of the last night
    assert plain_run(archive, tmp_path / "restored").graded_now == 2
