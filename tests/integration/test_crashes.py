"""Faults of every kind. After each the next run finishes, and its tables are those of a run that nothing disturbed."""

import errno
import itertools
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, tzinfo
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import modic.cohort
from cohort_reader import reading, tables
from dicoms import series, study, t1, write
from modic import files
from modic.cohort import open_cohort
from modic.errors import ModicError, Reason
from modic.run import ledger, prepare
from modic.tables import query
from modic.tables.published import is_whole
from modic.tables.store import read_table
from plain_run import in_process, plain_run

KILLS = int(os.environ.get("MODIC_KILLS", "20"))
KILLS_OF_A_COHORT = 5
ONE_A_SHARD = "[run]\nshard_size = 1\n"


pytestmark = pytest.mark.usefixtures("no_networks")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three studies."""
    for patient in ("ann", "bob", "cid"):
        write(study(patient=patient), tmp_path / "archive" / patient)
    return tmp_path / "archive"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A shard a study."""
    (tmp_path / "cohort.toml").write_text(ONE_A_SHARD)
    return str(tmp_path / "cohort.toml")


def failures(cohort: Path) -> list[str]:
    return sorted(read_table(cohort, "studies")["reason"].drop_null().to_pylist())


def assert_graded_once(cohort: Path) -> None:
    finished = ledger.read_ledger(open_cohort(cohort))
    graded = list(zip(finished["study_key"].to_pylist(), finished["fingerprint"].to_pylist(), strict=True))
    assert len(graded) == len(set(graded)), "a finished study was graded again"


Start = Callable[[Path], BaseProcess]


@pytest.fixture
def start(archive: Path, config: str) -> Start:
    """Starts a run of a cohort in a process of its own, which has just begun its work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["plain_run", "pydicom", "pyarrow.parquet"])

    def start_one(cohort: Path) -> BaseProcess:
        ready = context.Event()
        process = context.Process(target=in_process, args=(ready, str(archive), str(cohort), config))
        process.start()
        assert ready.wait(60)
        return process

    return start_one


def test_killed_at_random_moments(
    tmp_path: Path, archive: Path, config: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "before"
    plain_run(archive, before, config=config)
    for patient in ("dan", "eve", "fay"):
        write(study(patient=patient), archive / patient)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(before, undisturbed, symlinks=True)
    process, begun = start(undisturbed), time.monotonic()
    process.join()
    lasts = time.monotonic() - begun
    dice, killed, cohorts = random.Random(20261124), 0, itertools.count()
    while killed < KILLS:
        cohort = tmp_path / f"cohort-{next(cohorts)}"
        shutil.copytree(before, cohort, symlinks=True)
        with reading(cohort, {(3, 18), (6, 36)}) as wrong:
            for _ in range(KILLS_OF_A_COHORT):
                process = start(cohort)
                process.join(dice.uniform(0, lasts))
                process.kill()
                process.join()
                if process.exitcode == 0:  # it was quicker and has published, so that nothing is left to disturb
                    lasts *= 0.9
                    break
                assert process.exitcode == -signal.SIGKILL
                killed += 1
            with monkeypatch.context() as patch:
                patch.setattr(files, "LEFT_OVER_S", 0)  # so that what they left is cleared at once
                plain_run(archive, cohort, config=config)
        assert wrong == []
        assert tables(cohort) == tables(undisturbed)
        assert_graded_once(cohort)
        assert not any(query.run_checks(cohort).values())
        leftovers = [*cohort.glob("private/.*"), *cohort.glob("runs/*/shards/.*"), *cohort.glob(".current*")]
        assert leftovers == [] and all(map(is_whole, cohort.glob(".tables/*")))


class FullDisk:
    """Stands in for `os.fsync`: the n-th call and all after it say that the disk is full."""

    def __init__(self, n: int) -> None:
        self.left, self._fsync = n, os.fsync

    def __call__(self, descriptor: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/archive/dan/00000")
        self._fsync(descriptor)


def test_a_disk_that_fills_up_at_any_write_stops_the_run_and_breaks_nothing(
    tmp_path: Path, archive: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = tmp_path / "cohort"
    plain_run(archive, cohort, config=config)
    for patient in ("dan", "eve", "fay"):
        write(study(patient=patient), archive / patient)
    with reading(cohort, {(3, 18), (6, 36)}) as wrong:
        said = [*iter(partial(fails_at, itertools.count(), archive, cohort, config, monkeypatch), "")]
    assert wrong == []
    prepared = [line for line in said if "its file system cannot" in line and line.endswith("; free some space")]
    steps = {re.split("[: ]", line)[0] for line in said if line not in prepared}
    assert prepared and steps == {"find_studies", "cut_shards", "shard", "publish"}
    assert len(said) > 10
    assert_graded_once(cohort)
    assert len(read_table(cohort, "levels")) == 36


def fails_at(writes: Iterator[int], archive: Path, cohort: Path, config: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a run says when the disk is full after the next number of `writes`; empty where it needs no more."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", FullDisk(next(writes)))
        try:
            plain_run(archive, cohort, config=config)
        except ModicError as error:
            assert "No space left on device" in str(error) and "dan" not in str(error)
            assert error.__suppress_context__
            return str(error)
    return ""


def test_a_real_limit_on_files_is_a_failed_run_too(tmp_path: Path, archive: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    plain_run(archive, tmp_path / "cohort")
    write(study(patient="dan"), archive / "dan")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ModicError, match=r"find_studies: OSError \(File too large\) in known_files.py:\d+$"):
            plain_run(archive, tmp_path / "cohort")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("damage", ["truncated", "emptied", "a bit flipped", "overwritten"])
def test_a_shard_damaged_afterwards_is_set_aside_and_its_studies_alone_are_graded_again(
    tmp_path: Path, archive: Path, config: str, damage: str
) -> None:
    cohort = tmp_path / "cohort"
    plain_run(archive, cohort, config=config)
    before = tables(cohort)
    victim = open_cohort(cohort).finished_shards()[1]
    whole = victim.read_bytes()
    middle = len(whole) // 3
    victim.write_bytes(
        {
            "truncated": whole[: middle * 2],
            "emptied": b"",
            "a bit flipped": whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
            "overwritten": b"\0" * len(whole),
        }[damage]
    )
    assert plain_run(archive, cohort, config=config).graded_now == 1
    assert tables(cohort) == before
    assert victim.with_name("00001.parquet.damaged").exists() and not victim.exists()
    assert plain_run(archive, cohort, config=config).graded_now == 0


def test_files_that_vanish_or_change_during_the_run_fail_their_studies_alone_and_the_next_run_cures_them(
    tmp_path: Path, archive: Path
) -> None:
    write(study(patient="dan"), archive / "dan")
    cohort = tmp_path / "cohort"

    def disturb(run: prepare.Run) -> None:
        shutil.rmtree(archive / "ann")
        (archive / "bob" / "00003").write_bytes(b"no longer DICOM")
        os.utime(archive / "cid" / "00015", ns=(1, 1))

    summary = plain_run(archive, cohort, meanwhile=disturb)
    assert failures(cohort) == [Reason.STUDY_FILES_CHANGED] * 3 and len(summary.failed) == 3
    os.utime(archive / "cid" / "00015", ns=(2, 2))
    plain_run(archive, cohort)
    gone = [row for row in read_table(cohort, "studies").to_pylist() if not row["in_archive"]]
    assert [(row["status"], row["reason"]) for row in gone] == [("failed", Reason.STUDY_FILES_CHANGED)]
    assert failures(cohort) == ["study.files_changed", "study.no_sagittal_t1"], "bob has lost a slice of his T1"
    assert len(read_table(cohort, "levels")) == 12


def test_a_clock_that_goes_backwards_does_not_bring_old_failures_back(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = tmp_path / "cohort"
    plain_run(archive, cohort, meanwhile=lambda _: (archive / "ann" / "00003").rename(tmp_path / "00003"))
    assert failures(cohort) == [Reason.STUDY_FILES_CHANGED]
    (tmp_path / "00003").rename(archive / "ann" / "00003")

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) - timedelta(days=1)

    monkeypatch.setattr(modic.cohort, "datetime", Yesterday)
    monkeypatch.setattr(prepare, "datetime", Yesterday)
    assert plain_run(archive, cohort).graded_now == 1
    assert failures(cohort) == [] and len(read_table(cohort, "levels")) == 18
    assert not any(query.run_checks(cohort).values())
    assert plain_run(archive, cohort).graded_now == 0
    runs = read_table(cohort, "runs").to_pylist()
    assert [one["studies_failed"] for one in sorted(runs, key=lambda one: one["run_id"])] == [1, 0, 0]
    with query.connect(cohort) as connection:
        assert query.rows_of(connection, "FROM latest_run")[0]["run_id"] == max(one["run_id"] for one in runs)


def test_a_study_that_asks_for_too_much_memory_is_a_row_and_its_worker_goes_on(tmp_path: Path, archive: Path) -> None:
    write(study(patient="eat-4711"), archive / "dan")
    (tmp_path / "small.toml").write_text("[run]\nstudy_memory_limit_mb = 300\n")
    cohort = tmp_path / "cohort"
    assert len(plain_run(archive, cohort, config=str(tmp_path / "small.toml")).failed) == 1
    assert failures(cohort) == [Reason.STUDY_OUT_OF_MEMORY] and len(read_table(cohort, "levels")) == 18
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


def test_an_archive_without_any_study_to_grade_is_a_run_too(tmp_path: Path) -> None:
    write(series(t1(), name="t1"), tmp_path / "archive")
    plain_run(tmp_path / "archive", tmp_path / "cohort")
    assert failures(tmp_path / "cohort") == ["study.no_sagittal_t2"]
