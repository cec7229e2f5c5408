"""A Dask cluster that somebody else started, several processes that share nothing with the flow but the folders: the
scheduler is killed, then the flow, and neither costs a finished study."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import fake_worker
from dicoms import study, write
from flows import clusters
from modic.cohort import open_cohort
from modic.run import ledger

ROOT = Path(__file__).resolve().parents[2]
STUDIES = 8


class Cluster:
    """A scheduler and two workers, each a process in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._processes = folder, list[subprocess.Popen[bytes]]()
        self.file = folder / "cluster.yaml"
        self.start()

    def start(self) -> None:
        """Start all three on a new port."""
        where = self._folder / f"scheduler-{len(self._processes)}.json"
        self._run("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where))
        wait(lambda: where.exists() and where.read_text().endswith("}"), "the scheduler")
        self.file.write_text(json.dumps({"address": json.loads(where.read_text())["address"]}))
        for _ in range(2):
            self._run("worker", "--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--scheduler-file", str(where))

    def _run(self, what: str, *words: str) -> None:
        home = self._folder / f"{what}-{len(self._processes)}"
        home.mkdir()
        preload = json.dumps(["flows.dask_worker", fake_worker.__file__])
        settings = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "DASK_DISTRIBUTED__WORKER__PRELOAD": preload}
        environment = os.environ | clusters.ENVIRONMENT | settings
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
        with (home / "out").open("w") as out:
            command = [sys.executable, "-m", "dask", what, *words]
            self._processes.append(subprocess.Popen(command, cwd=home, env=environment, stdout=out, stderr=out))

    def kill_scheduler(self) -> None:
        """The last one that was started; its workers then end by themselves, or are ended."""
        self._processes[-3].kill()
        self._processes[-3].wait()

    def end(self) -> None:
        """All that still run."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait(until: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 200
    while not until():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    yield running
    running.end()


def start(tmp_path: Path, cluster: Cluster, server: str) -> "subprocess.Popen[str]":
    words = ["grade", str(tmp_path / "archive"), "--out", str(tmp_path / "cohort"), "--cluster", str(cluster.file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    environment |= {"PREFECT_API_URL": server, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "modic", *words, "--config", str(tmp_path / "cohort.toml")]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)


def shards(tmp_path: Path) -> int:
    return len(list(tmp_path.glob("cohort/runs/*/shards/*.parquet")))


def test_neither_a_lost_scheduler_nor_a_lost_flow_costs_a_finished_study(
    tmp_path: Path, cluster: Cluster, prefect_server: str
) -> None:
    for number in range(STUDIES):
        write(study(patient=f"slow-{number}"), tmp_path / "archive" / str(number))
    (tmp_path / "cohort.toml").write_text("[run]\nshard_size = 1\n")

    first = start(tmp_path, cluster, prefect_server)
    wait(lambda: shards(tmp_path) > 0, "a shard")
    cluster.kill_scheduler()
    _, said = first.communicate(timeout=200)
    assert first.returncode == 1, said
    assert said.strip().splitlines()[-1].startswith("modic: the run failed: "), said
    assert "Dask" in said.strip().splitlines()[-1], said
    done = shards(tmp_path)
    assert 0 < done < STUDIES and not (tmp_path / "cohort" / "current").exists()

    cluster.start()
    second = start(tmp_path, cluster, prefect_server)
    wait(lambda: shards(tmp_path) > done, "another shard")
    second.send_signal(signal.SIGKILL)
    second.communicate(timeout=60)
    third = start(tmp_path, cluster, prefect_server)
    out, said = third.communicate(timeout=200)
    assert third.returncode == 0, said
    assert f"{STUDIES} graded, 0 excluded, 0 failed" in out
    levels = pq.read_table(tmp_path / "cohort" / "current" / "levels.parquet", partitioning=None)
    assert len(levels) == 6 * STUDIES
    keys = ledger.read_keys(open_cohort(tmp_path / "cohort"))["study_key"].to_pylist()
    assert len(set(keys)) == STUDIES and len(keys) <= STUDIES + 2, "at most what two workers were at is graded twice"
