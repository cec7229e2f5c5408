"""One real run with its own Prefect server over an archive full of canaries, whose studies fail, crash and are graded:
nothing of it gets out, nobody gets in, and nothing leaves the machine."""

import json
import os
import stat
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from canary import found_in, found_in_text, write_archive
from modic.tables.store import read_table

SUPPORT = Path(__file__).parents[1] / "support"
PAGES = ("", "status", "info/main/workers.html", "info/main/events.html", "json/counts.json", "metrics", "tasks")
RUN = [sys.executable, "-m", "modic"]


@dataclass
class Night:
    """What the run showed."""

    cohort: Path
    code: int = 0
    said: str = ""  # standard output and error of all commands
    listening: set[str] = field(default_factory=set)
    shown: str = ""  # command lines of all processes and whatever their ports answer
    network: str = ""  # attempts to leave the machine


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """One run for all tests here."""
    home = tmp_path_factory.mktemp("leaks")
    write_archive(home / "archive", ("ann", "kill", "bug", "broken", "dye", "sleep-3-"))
    workers = {"n_workers": 1, "preload": ["flows.dask_worker", str(SUPPORT / "fake_worker.py")]}
    (home / "cluster.yaml").write_text(json.dumps({"cluster_kwargs": workers}))
    hidden = ("PREFECT", "CI", "GITHUB", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    path = os.pathsep.join([str(SUPPORT / "guard"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment |= {"PYTHONPATH": path, "GUARD_LOG": str(home / "network.log"), "HOME": str(home)}
    seen = Night(home / "cohort")
    arguments = ["grade", "archive", "--out", "cohort", "--cluster", "cluster.yaml"]
    with (home / "said.txt").open("w") as said:
        run = subprocess.Popen([*RUN, *arguments], cwd=home, env=environment, stdout=said, stderr=said)
        watch(run, seen)
        seen.code = run.wait()
        for name, *more in (["report"], ["status"], ["check"], ["query", "FROM studies"]):
            command = [*RUN, name, "cohort", *more]
            subprocess.run(command, cwd=home, env=environment, stdout=said, stderr=said, check=False)
    seen.said = (home / "said.txt").read_text()
    seen.network = (home / "network.log").read_text() if (home / "network.log").exists() else ""
    return seen


def watch(run: "subprocess.Popen[bytes]", seen: Night) -> None:
    """Look at every process of the run, and ask every port, until it ends."""
    asked: set[int] = set()
    while run.poll() is None:
        for process in family(run.pid):
            try:
                seen.shown += " ".join(process.cmdline()) + "\n"
                ports = [one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
            except psutil.Error:
                continue
            seen.listening |= {port.ip for port in ports}
            for port in {port.port for port in ports} - asked:
                asked.add(port)
                seen.shown += "".join(answer(port, page) for page in PAGES)
        time.sleep(0.3)


def family(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def answer(port: int, page: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=2) as got:
            return str(got.read().decode("utf-8", "replace"))
    except (OSError, ValueError, HTTPException):  # Dask's own ports speak something else
        return ""


def test_the_run_is_one_in_which_much_goes_wrong(night: Night) -> None:
    assert night.code == 3, night.said
    studies = read_table(night.cohort, "studies")
    found = sorted(zip(studies["status"].to_pylist(), studies["reason"].to_pylist(), strict=True), key=str)
    trouble = ("study.internal_error", "study.pixels_unreadable", "study.worker_died")
    excluded = [("excluded", "study.no_sagittal_t1")]
    assert found == [*excluded, *(("failed", reason) for reason in trouble), *[("graded", None)] * 2]
    assert night.said.count("s_") >= 3, "it names them"


def test_no_canary_in_what_others_read(night: Night) -> None:
    leaks = {path: found_in(path) for path in night.cohort.rglob("*") if path.is_file() and not is_private(path, night)}
    assert len(leaks) > 10
    assert {str(path): found for path, found in leaks.items() if found} == {}
    names = " ".join(str(path.relative_to(night.cohort)) for path in leaks)
    assert found_in_text(names + night.said + night.shown) == []


def is_private(path: Path, night: Night) -> bool:
    return path.is_relative_to(night.cohort / "private")


def test_no_canary_in_prefects_database_and_logs(night: Night) -> None:
    files = [path for path in (night.cohort / "private" / "prefect").rglob("*") if path.is_file()]
    assert any(path.name == "prefect.db" and path.stat().st_size > 100_000 for path in files)
    assert {str(path): found for path in files if (found := found_in(path))} == {}


def test_the_canaries_were_there_to_be_found(night: Night) -> None:
    everything = {one for path in (night.cohort / "private").glob("*.parquet") for one in found_in(path)}
    assert {"Zq4nary", "19570317", "20190823", "084213", "7731999"} <= everything


def test_private_is_for_its_owner(night: Night) -> None:
    assert stat.S_IMODE((night.cohort / "private").stat().st_mode) == 0o700
    assert stat.S_IMODE((night.cohort / "private" / "pseudonym.key").stat().st_mode) == 0o600


def test_everything_listens_on_loopback_only(night: Night) -> None:
    assert night.listening and night.listening <= {"127.0.0.1", "::1"}


def test_nothing_tries_to_leave_the_machine(night: Night) -> None:
    assert night.network == ""
