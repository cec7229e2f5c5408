"""The cohort directory: made once, refused where it is something else, written by one run at a time."""

import fcntl
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

import modic.cohort
from modic.cohort import create_cohort, open_cohort
from modic.errors import UsageError
from modic.files import write_json


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def test_a_new_cohort_keeps_its_private_folder_to_its_owner(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "new" / "cohort", archive=archive)
    assert stat.S_IMODE(cohort.private.stat().st_mode) == 0o700
    assert open_cohort(cohort.root) == cohort


def test_an_empty_folder_becomes_a_cohort_and_a_cohort_stays_one(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "cohort").mkdir()
    first = create_cohort(tmp_path / "cohort", archive=archive)
    (first.root / "notes.txt").write_text("kept by the user")
    assert create_cohort(tmp_path / "cohort", archive=archive) == first


def test_another_folder_is_refused_and_left_alone(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty and not a cohort"):
        create_cohort(tmp_path / "thesis", archive=archive)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.txt"]


@pytest.mark.parametrize("where", ["archive/cohort", "archive", "."])
def test_a_cohort_and_its_archive_lie_apart(tmp_path: Path, archive: Path, where: str) -> None:
    with pytest.raises(UsageError, match="inside each other"):
        create_cohort(tmp_path / where, archive=archive)


def test_a_file_and_a_missing_folder_are_no_cohort(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        create_cohort(tmp_path / "file", archive=archive)
    with pytest.raises(UsageError, match="does not exist"):
        open_cohort(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not a cohort"):
        open_cohort(archive)


def test_a_cohort_of_another_layout_is_refused(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    write_json(cohort.private / "cohort.json", {"layout": 99})
    with pytest.raises(UsageError, match="layout 99"):
        open_cohort(cohort.root)


def test_a_cohort_that_cannot_be_written_is_refused(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    (cohort.private / "lock").mkdir()  # can no more be opened than a file on a read-only disk
    with pytest.raises(UsageError, match="cannot be written: Is a directory"), cohort.lock():
        pass


def test_only_one_run_writes_at_a_time(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    with cohort.lock(), pytest.raises(UsageError, match="another run"), cohort.lock():
        pass
    with cohort.lock():
        pass  # free again


def test_run_ids_sort_by_time_also_when_the_clock_goes_backwards(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    clock = SimpleNamespace(now=lambda _: datetime(2026, 10, 25, 3, 0, tzinfo=UTC), strptime=datetime.strptime)
    monkeypatch.setattr(modic.cohort, "datetime", clock)
    ids = [cohort.new_run_id()]
    assert ids[0].startswith("20261025T030000Z-")
    (cohort.root / "runs" / "notes").mkdir()
    for hour in (3, 2, 2):
        (cohort.root / "runs" / ids[-1]).mkdir()
        clock.now = lambda _, hour=hour: datetime(2026, 10, 25, hour, 0, tzinfo=UTC)
        ids.append(cohort.new_run_id())
    assert [one[:16] for one in ids] == [f"20261025T03000{second}Z" for second in range(4)]
    clock.now = lambda _: datetime(2026, 10, 25, 4, 0, tzinfo=UTC)
    assert cohort.new_run_id().startswith("20261025T040000Z-")


def test_a_cohort_whose_making_was_killed_is_made_again(tmp_path: Path, archive: Path) -> None:
    half = tmp_path / "cohort"
    (half / "private").mkdir(parents=True)
    (half / "private" / ".cohort.json.1234abcd.tmp").write_text('{"lay')
    with create_cohort(half, archive=archive).lock():
        assert sorted(path.name for path in half.rglob("*")) == ["cohort.json", "lock", "private", "runs"]


def test_unfinished_files_of_killed_runs_are_removed_by_the_next(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    shard = cohort.shard("20261123T200000Z-1f0c", "00000")
    shard.parent.mkdir(parents=True)
    shard.write_text("finished")
    stale = [cohort.private / ".links.1.part.parquet.tmp", shard.with_name(".00001.2.part.parquet.tmp")]
    for path in stale:
        path.write_text("half")
    with cohort.lock():
        assert shard.exists() and not any(path.exists() for path in stale)


def test_a_private_folder_that_a_copy_opened_is_closed_again(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    cohort.private.chmod(0o755)
    create_cohort(cohort.root, archive=archive)
    assert stat.S_IMODE(cohort.private.stat().st_mode) == 0o700


def test_a_look_at_the_lock_says_who_took_it_and_hinders_nobody(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    assert cohort.last_begun() == (None, False)
    with cohort.lock("run-1"):
        assert cohort.last_begun() == ("run-1", True)
        with pytest.raises(UsageError), cohort.lock("run-2"):
            pass
        assert cohort.last_begun() == ("run-1", True)
    assert cohort.last_begun() == ("run-1", False)
    looking = (cohort.private / "lock").open()
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.05, looking.close).start()
    with cohort.lock():
        pass


def test_json_appears_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert (tmp_path / "a.json").read_text() == '{"x": 1}'
