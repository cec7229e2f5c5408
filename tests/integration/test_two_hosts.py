"""Two hosts with one cohort whose flocks do not see each other: one run at a time, and nothing of the other is lost."""

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from dicoms import study, write
from modic import lock
from modic.cohort import open_cohort
from modic.errors import ModicError, UsageError
from modic.run import prepare
from modic.tables import query
from modic.tables.store import read_table
from mounts import CANNOT, command, environment
from plain_run import plain_run

pytestmark = pytest.mark.usefixtures("no_networks")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for patient in ("ann", "bob"):
        write(study(patient=patient), tmp_path / "archive" / patient)
    return tmp_path / "archive"


class Hosts:
    """This process as several hosts: a file lock keeps nobody out, and `here` says on which host the code runs."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.here = "a"
        patch.setattr(fcntl, "flock", lambda *_: None)
        patch.setattr(lock, "this_machine", lambda: self.here)
        patch.setattr(lock.socket, "gethostname", lambda: f"host-{self.here}")


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(monkeypatch)


def test_a_run_of_another_host_is_refused_while_one_works(tmp_path: Path, archive: Path, hosts: Hosts) -> None:
    cohort = tmp_path / "cohort"
    said = []

    def other(_: prepare.Run) -> None:
        hosts.here = "b"
        assert open_cohort(cohort).last_begun()[1], "`modic status` on the other host says that it runs"
        with pytest.raises(UsageError) as refused:
            plain_run(archive, cohort)
        said.append(str(refused.value))
        hosts.here = "a"

    assert plain_run(archive, cohort, meanwhile=other).graded_now == 2
    assert "another machine is writing" in said[0] and "on host-a, process" in said[0]
    assert "the cohort is free in 1" in said[0]  # 1xx seconds
    hosts.here = "b"
    assert plain_run(archive, cohort).graded_now == 0, "free at once after a run that ended"
    assert not open_cohort(cohort).last_begun()[1]


def test_a_run_that_was_taken_for_dead_stops_and_loses_nothing(tmp_path: Path, archive: Path, hosts: Hosts) -> None:
    cohort = tmp_path / "cohort"

    def other(run: prepare.Run) -> None:
        os.utime(cohort / "private" / "lock", (0, 0))  # suspended for long
        hosts.here = "b"
        assert not open_cohort(cohort).last_begun()[1]
        plain_run(archive, cohort)
        assert list(run.cohort.shard_inputs(run.run_id).iterdir()), "the other run's inputs are not old enough to go"
        hosts.here = "a"

    with pytest.raises(ModicError, match=r"on host-b, process .* took the cohort meanwhile, so this run stops"):
        plain_run(archive, cohort, meanwhile=other)
    assert len(read_table(cohort, "runs")) == 1 and len(read_table(cohort, "levels")) == 12
    assert plain_run(archive, cohort).graded_now == 0
    assert len(read_table(cohort, "runs")) == 2


def test_a_lock_dated_in_the_future_is_free(tmp_path: Path, archive: Path, hosts: Hosts) -> None:
    cohort = tmp_path / "cohort"

    def killed(_: prepare.Run) -> None:
        record = (cohort / "private" / "lock").read_bytes()
        plan.append(record)

    plan: list[bytes] = []
    plain_run(archive, cohort, meanwhile=killed)
    (cohort / "private" / "lock").write_bytes(plan[0])  # as a killed run leaves it
    hosts.here = "b"
    with pytest.raises(UsageError, match="another machine"):
        plain_run(archive, cohort)
    os.utime(cohort / "private" / "lock", (2**33, 2**33))
    plain_run(archive, cohort)


def test_a_process_of_this_machine_is_asked_whether_it_lives(tmp_path: Path, archive: Path, hosts: Hosts) -> None:
    cohort = tmp_path / "cohort"
    records: list[bytes] = []

    def second(_: prepare.Run) -> None:
        records.append((cohort / "private" / "lock").read_bytes())
        with pytest.raises(UsageError, match="another run is writing"):
            plain_run(archive, cohort)

    plain_run(archive, cohort, meanwhile=second)
    dead = json.loads(records[0]) | {"process_began": "1"}  # another process had this number
    (cohort / "private" / "lock").write_text(json.dumps(dead))
    assert plain_run(archive, cohort).graded_now == 0


class Namespaces:
    """Two mount namespaces, each with a FUSE mount of its own of one folder: FUSE keeps a flock to its mount."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.folder, self.archive = folder, archive
        (folder / "real").mkdir()

    def start(self, host: str, *arguments: str) -> subprocess.Popen[str]:
        here = self.folder / host
        here.mkdir(exist_ok=True)
        mount = f"bindfs {self.folder / 'real'} at"
        return subprocess.Popen(
            command(mount, "one_host", str(self.archive), *arguments, host=host), cwd=here, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def answer(self, process: subprocess.Popen[str]) -> Any:
        out, said = process.communicate(timeout=300)
        if process.returncode == CANNOT or "unshare failed" in said or "Operation not permitted" in said:
            pytest.skip(f"FUSE cannot be mounted here: {said.strip().splitlines()[-1:]}")
        assert process.returncode == 0, said
        return json.loads(out.splitlines()[-1])

    def run(self, host: str) -> Any:
        return self.answer(self.start(host, "run"))

    def hold(self, host: str) -> subprocess.Popen[str]:
        process = self.start(host, "hold", str(self.folder))
        while not (self.folder / "ready").exists() and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is not None:
            self.answer(process)
        return process


def test_two_namespaces_as_two_hosts(tmp_path: Path, archive: Path) -> None:
    spaces = Namespaces(tmp_path, archive)
    try:
        first = spaces.hold("host-a")
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    assert "on host-a, process" in spaces.run("host-b")["refused"]
    (tmp_path / "go").touch()
    assert spaces.answer(first)["graded"] == 2
    for sign in ("ready", "go"):
        (tmp_path / sign).unlink()
    write(study(patient="cid"), archive / "cid")
    killed = spaces.hold("host-a")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    while "refused" in (answer := spaces.run("host-b")):
        assert "another machine is writing" in answer["refused"]
    assert answer["graded"] == 1
    cohort = tmp_path / "real" / "cohort"
    assert len(read_table(cohort, "levels")) == 18 and len(read_table(cohort, "runs")) == 2
    assert not any(query.run_checks(cohort).values())
