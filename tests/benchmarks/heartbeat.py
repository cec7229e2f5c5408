"""A deployment run whose worker and process are killed (SIGKILL): is it called `Crashed`, and does the next night run?

    python tests/benchmarks/heartbeat.py

Runs the commands of deployments/README.md with a Prefect server of its own, and takes about three minutes. Studies are
tiny and graded without networks (tests/support/fake_worker.py); one of them sleeps, and the kill comes meanwhile.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import dicoms  # noqa: E402

LONGEST_S = 300
BEGUN: list[subprocess.Popen] = []


def main() -> None:
    """Print the seconds from the kill to `Crashed`, and what became of the next run; end with 1 where either fails."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            sys.exit(not kill_and_wait(home, *set_up(home)))
        finally:
            for process in BEGUN:
                end(process)


def set_up(home: Path) -> tuple[dict[str, str], Path]:
    """Server, pool, deployment and automation, as of deployments/README.md; gives environment and the slow study."""
    for patient in ("ann", "sleep-600"):
        dicoms.write(dicoms.study(patient=patient), home / "archive" / patient)
    preload = ["flows.dask_worker", str(ROOT / "tests" / "support" / "fake_worker.py")]
    (home / "cluster.json").write_text(json.dumps({"cluster_kwargs": {"n_workers": 2, "preload": preload}}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")} | {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
        "MODIC_ARCHIVE": str(home / "archive"),
        "MODIC_COHORT": str(home / "cohort"),
    }
    begin(home, environment, "server", "start", "--host", "127.0.0.1", "--port", str(port))
    wait(lambda: ask(environment, "health"), "the server to answer")
    prefect(environment, "work-pool", "create", "modic", "--type", "process")
    for command in (["flows.deploy", "deployments/prefect.yaml"], ["flows.notify", "deployments/heartbeat.yaml"]):
        subprocess.run([sys.executable, "-P", "-m", *command], cwd=ROOT, env=environment, check=True)
    return environment, home / "archive" / "sleep-600"


def kill_and_wait(home: Path, environment: dict[str, str], sleeper: Path) -> bool:
    """Kill a run at work and see what Prefect calls it, and whether another one then runs to its end."""
    worker = begin(home, environment, "worker", "start", "--pool", "modic", "--limit", "1")
    cluster = f"cluster={home / 'cluster.json'}"
    prefect(environment, "deployment", "run", "grade-cohort/nightly", "--param", cluster)
    wait(lambda: list((home / "cohort" / "private" / "shards").glob("*/*.at")), "the studies to be begun")
    time.sleep(35)  # one heartbeat at least
    end(worker)
    killed = time.monotonic()
    print("killed; it is called", states(environment), flush=True)
    wait(lambda: states(environment) == ["Crashed"], "the run to be called Crashed")
    print(f"Crashed {time.monotonic() - killed:.0f} s after the kill", flush=True)
    for path in sleeper.iterdir():
        path.unlink()
    begin(home, environment, "worker", "start", "--pool", "modic", "--limit", "1")
    prefect(environment, "deployment", "run", "grade-cohort/nightly", "--param", cluster)
    wait(lambda: states(environment)[0] in ("Completed", "Failed", "Cancelled"), "the next run to end")
    print("the next run:", states(environment)[0], flush=True)
    return states(environment) == ["Completed", "Crashed"]


def states(environment: dict[str, str]) -> list[str]:
    """Of all runs but those that are only scheduled, the last first."""
    query = json.dumps({"sort": "EXPECTED_START_TIME_DESC", "limit": 20}).encode()
    runs = ask(environment, "flow_runs/filter", query)
    return [run["state_name"] for run in runs if run["state_name"] not in ("Scheduled", "Late")]


def ask(environment: dict[str, str], what: str, content: bytes | None = None) -> Any:
    """What the server answers; None where it does not."""
    request = urllib.request.Request(f"{environment['PREFECT_API_URL']}/{what}", content)
    request.add_header("Content-Type", "application/json")
    with suppress(OSError), urllib.request.urlopen(request, timeout=10) as got:
        return json.loads(got.read())


def wait(until: Callable[[], Any], what: str) -> None:
    """Until it is so; ends the program where that takes too long."""
    deadline = time.monotonic() + LONGEST_S
    while not until():
        if time.monotonic() > deadline:
            sys.exit(f"waited {LONGEST_S} s in vain for {what}")
        time.sleep(1)


def prefect(environment: dict[str, str], *words: str) -> None:
    """One command of Prefect."""
    print("prefect", *words, flush=True)
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def begin(home: Path, environment: dict[str, str], *words: str) -> subprocess.Popen:
    """A command of Prefect that goes on; what it says goes to a file."""
    print("prefect", *words, "&", flush=True)
    with (home / f"{words[0]}.log").open("a") as log:
        command = [sys.executable, "-m", "prefect", *words]
        BEGUN.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
    return BEGUN[-1]


def end(process: subprocess.Popen) -> None:
    """Kill a process and all that it has started."""
    with suppress(psutil.Error):
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            one.send_signal(signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()
