"""`modic grade` where the system lacks something: each case is a whole run of its own, without a study to grade, or one
clear line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dicoms import series, t1, write
from modic.tables.store import read_table

ROOT = Path(__file__).parents[2]
Start = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def start(tmp_path: Path, prefect_server: str) -> Start:
    """Run `modic` in a process, in a folder with an archive of one T1; Prefect's server is there already."""
    write(series(t1(), name="t1"), tmp_path / "archive")
    bare = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = bare | {
        "TMPDIR": "/tmp",
        "PYTHONPATH": f"{ROOT}",
        "PREFECT_API_URL": prefect_server,
        "LC_ALL": "C.UTF-8",
    }

    def start(*arguments: str | bytes, shell: str = 'exec "$@"', **more: str) -> "subprocess.CompletedProcess[bytes]":
        command = ["bash", "-c", shell, "bash", sys.executable, "-W", "error::ResourceWarning", "-m", "modic"]
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment | more, capture_output=True, timeout=300, check=False
        )

    return start


def possible(*command: str) -> bool:
    found = shutil.which(command[0]) is not None
    return found and subprocess.run(command, capture_output=True, check=False).returncode == 0


def grade(tmp_path: Path) -> list[str]:
    return ["grade", str(tmp_path / "archive"), "--out", str(tmp_path / "cohort")]


def reasons(cohort: Path) -> list[str | None]:
    return list(read_table(cohort, "studies")["reason"].to_pylist())


LONG = "$PWD/$(printf 'long/%.0s' {1..40})"
CASES = {  # several lacks at once, since each case costs a run
    "home, short TMPDIR, files of this century": f"unset HOME; export TMPDIR={LONG}; mkdir -p $TMPDIR; "
    'touch -d 2300-01-01 archive/Thumbs.db; touch -d 1600-01-01 archive/notes.txt; exec "$@"',
    "a home that is there, a UTF-8 terminal": 'HOME=/nowhere LC_ALL=C PYTHONIOENCODING=latin-1 PYTHONUTF8=0 exec "$@"',
    "a user with name and home, open streams": 'exec unshare --user --map-user=54321 "$@" <&- >&- 2>&-',
    "a working folder, standard output": 'mkdir gone; cd gone; rmdir ../gone; exec "$@" >&-',
}


@pytest.mark.parametrize("shell", CASES.values(), ids=list(CASES))
def test_a_run_ends_well_without(start: Start, tmp_path: Path, shell: str) -> None:
    if "unshare" in shell and not possible("unshare", "--user", "--map-user=54321", "true"):
        pytest.skip("nobody can become another user here")
    ended = start(*grade(tmp_path), shell=shell)
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode()
    assert ended.stderr == b""
    assert reasons(tmp_path / "cohort") == ["study.no_sagittal_t2"]


def test_an_archive_not_named_in_utf8_is_graded_and_such_a_cohort_refused(start: Start, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/archiv-\xfc"
    os.rename(tmp_path / "archive", odd)  # noqa: PTH104
    ended = start("grade", odd, "--out", str(tmp_path / "cohort"))
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode()
    assert reasons(tmp_path / "cohort") == ["study.no_sagittal_t2"]
    ended = start("grade", odd, "--out", os.fsencode(tmp_path) + b"/cohort-\xfc")
    assert ended.returncode == 2 and b"not UTF-8; rename it" in ended.stderr and ended.stderr.count(b"\n") == 1


def test_a_machine_without_shared_semaphores_is_said_in_one_line(start: Start, tmp_path: Path) -> None:
    shell = 'exec unshare --mount bash -c "umount /dev/shm; mount --bind /proc/1 /dev/shm; exec \\"\\$@\\"" bash "$@"'
    if not possible("unshare", "--mount", "umount", "/dev/shm"):
        pytest.skip("mounts cannot be changed here")
    ended = start(*grade(tmp_path), shell=shell)
    assert ended.returncode == 2 and b"mount /dev/shm as tmpfs" in ended.stderr, ended.stderr.decode()
    assert ended.stderr.count(b"\n") == 1


def test_too_few_addresses_for_a_worker_are_said_in_one_line(start: Start, tmp_path: Path) -> None:
    ended = start(*grade(tmp_path), shell='ulimit -v 3000000; exec "$@"')
    assert ended.returncode == 2 and b"2.9 GiB here (`ulimit -v`)" in ended.stderr, ended.stderr.decode()
    assert ended.stderr.count(b"\n") == 1
