"""The cohort directory: made once, refused where it is something else, written by one run at a time."""

import fcntl
import stat
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

import modic.cohort
from modic import files, lock
from modic.cohort import Cohort, create_cohort, nothing_left, open_cohort
from modic.errors import UsageError
from modic.files import write_json

FIRST, LATER = "20261123T200000Z-1f0c", "20261124T200000Z-2a2b"


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


@pytest.mark.parametrize("another", [True, False])
def test_a_refused_run_takes_away_what_it_made_and_nothing_that_another_run_began(
    tmp_path: Path, archive: Path, another: bool
) -> None:
    cohort = Cohort(tmp_path / "new")
    with ExitStack() as other:
        with pytest.raises(UsageError, match="refused"), nothing_left(cohort.root, alone=cohort.lock):
            create_cohort(cohort.root, archive=archive)
            if another:
                other.enter_context(cohort.lock("20250101T000000Z-0000"))
            raise UsageError("refused")
        assert cohort.root.exists() == another
    create_cohort(cohort.root, archive=archive)
    with pytest.raises(UsageError, match="refused"), nothing_left(cohort.root, alone=cohort.lock):
        raise UsageError("refused")
    assert cohort.private.is_dir(), "it was there before"


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


def test_a_run_folder_at_the_end_of_time_is_followed_by_more(tmp_path: Path, archive: Path) -> None:
    cohort, last = create_cohort(tmp_path / "cohort", archive=archive), "99991231T235959Z-0a0a"
    (cohort.root / "runs" / "99999999T999999Z-0a0a").mkdir()  # no time, so no run
    for expected in (f"{last[:17]}0a0b", f"{last[:17]}0a0c"):
        (cohort.root / "runs" / last).mkdir()
        last = cohort.new_run_id()
        assert last == expected
    (cohort.root / "runs" / f"{last[:17]}ffff").mkdir()
    with pytest.raises(UsageError, match=r"no run can be later than .*ffff: give that folder an earlier name"):
        cohort.new_run_id()


def test_only_runs_have_shards(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    for name in (FIRST, f"{FIRST} (copy)", "notes"):
        (cohort.root / "runs" / name / "shards").mkdir(parents=True)
        (cohort.root / "runs" / name / "shards" / "00000.parquet").write_text("x")
    assert cohort.finished_shards() == [cohort.shard(FIRST, "00000")]


def test_a_damaged_memory_of_the_cohort_is_said_with_the_cure(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    for text in ("", "{", "[]", "\0"):
        (cohort.private / "cohort.json").write_text(text)
        with pytest.raises(UsageError, match=r"cohort\.json is damaged; restore it from a backup, or write"):
            open_cohort(cohort.root)


@pytest.mark.parametrize("part", [".tables", "runs", "private", "private/shards", "private/lock", "validation"])
def test_a_cohort_with_a_link_inside_is_refused(tmp_path: Path, archive: Path, part: str) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    path, elsewhere = cohort.root / part, tmp_path / "elsewhere"
    path.rename(elsewhere) if path.exists() else elsewhere.mkdir()
    path.symlink_to(elsewhere)
    with pytest.raises(UsageError, match="is a link, and modic writes through no link"):
        create_cohort(cohort.root, archive=archive)


def test_a_cohort_whose_making_was_killed_is_made_again(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tmp_path / "cohort"
    (half / "private").mkdir(parents=True)
    (half / "private" / ".cohort.json.1234abcd.tmp").write_text('{"lay')
    cohort = create_cohort(half, archive=archive)
    monkeypatch.setattr(files, "LEFT_OVER_S", 0)
    cohort.remove_left_overs()
    assert sorted(path.name for path in half.rglob("*")) == ["cohort.json", "private", "runs"]


def test_unfinished_files_of_killed_runs_go_once_nobody_touches_them(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    shard, inputs = cohort.shard(FIRST, "00000"), cohort.shard_input(FIRST, "00000")
    for path in (shard, inputs, cohort.private / "shards" / "notes" / "a"):
        path.parent.mkdir(parents=True)
        path.write_text("finished")
    stale = [cohort.private / ".links.12345678.part.parquet.tmp", shard.with_name(".00001.12345678.part.parquet.tmp")]
    others = [cohort.private / ".notes.tmp", shard.with_name(".swp.part.parquet.tmp")]
    for path in stale + others:
        path.write_text("half")
    cohort.remove_left_overs()
    assert all(path.exists() for path in [*stale, inputs]), "a run on another machine may be writing them"
    monkeypatch.setattr(files, "LEFT_OVER_S", 0)
    cohort.remove_left_overs()
    assert not any(path.exists() for path in [*stale, inputs])
    assert all(path.exists() for path in [*others, shard, cohort.private / "shards" / "notes" / "a"])


def test_a_private_folder_that_a_copy_opened_is_closed_again(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    cohort.private.chmod(0o755)
    create_cohort(cohort.root, archive=archive)
    assert stat.S_IMODE(cohort.private.stat().st_mode) == 0o700


def test_a_look_at_the_lock_says_who_took_it_and_hinders_nobody(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    assert cohort.last_begun() == (None, False)
    with cohort.lock(FIRST):
        assert cohort.last_begun() == (FIRST, True)
        with pytest.raises(UsageError), cohort.lock(LATER):
            pass
        assert cohort.last_begun() == (FIRST, True)
    assert cohort.last_begun() == (FIRST, False)
    looking = (cohort.private / "lock").open()
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(lock.time, "sleep", lambda _: looking.close())
    with cohort.lock():
        assert looking.closed


def test_json_appears_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert (tmp_path / "a.json").read_text() == '{"x": 1}'
