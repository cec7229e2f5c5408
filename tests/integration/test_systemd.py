"""The units of deployments/systemd under a running systemd: server, worker, a night by the timer, who hears of it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import pyarrow.parquet as pq

import dicoms
from live_systemd import ROOT, UID, Machine, live_systemd

UNITS = ROOT / "deployments" / "systemd"
PYTHONPATH = f"{ROOT}:{ROOT / 'tests' / 'support'}"
SENDMAIL = "#!/bin/sh\ncat > /data/mail\n"


def night_env(**other: str) -> str:
    """The lines that modic-night.service shows, comments among them, with other values for some of the names."""
    lines = re.findall(r"^#   ((?:# |MODIC).*)$", (UNITS / "modic-night.service").read_text(), re.MULTILINE)
    given = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert other.keys() <= given.keys()
    return "".join(
        f"{name}={other[name]}\n" if (name := line.partition("=")[0]) in other else f"{line}\n" for line in lines
    )


def files(**night: str) -> dict[str, str]:
    """What an administrator puts below `/etc`: the units as they are, night.env as they show it, and options."""
    units = {f"systemd/system/{path.name}": path.read_text() for path in UNITS.glob("*.*") if path.suffix != ".sh"}
    own = f"PYTHONPATH={PYTHONPATH}\nMODIC_SENDMAIL=/data/sendmail\n"
    options = (ROOT / "deployments" / "cohort.toml").read_text(encoding="utf-8")
    return {
        **units,
        "modic/night.env": night_env(**night) + own,
        "modic/prefect.env": own,
        "modic/cohort.toml": options,
    }


def archive_and_cluster(folder: Path, *patients: str) -> None:
    """Studies of patients, and a cluster that grades them without networks."""
    for name in patients:
        dicoms.write(dicoms.study(patient=name, rows=4, columns=4), folder / "archive" / name)
    preload = ["flows.dask_worker", str(ROOT / "tests" / "support" / "fake_worker.py")]
    (folder / "cluster.json").write_text(json.dumps({"cluster_kwargs": {"n_workers": 1, "preload": preload}}))


@contextmanager
def webhook(machine: Machine) -> Iterator[tuple[str, "Queue[dict[str, str]]"]]:
    """URL there, and the JSON that was posted to it."""
    command = machine.enter(sys.executable, "-m", "receivers", net_only=True)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PYTHONPATH}
    ) as it:
        assert it.stdout is not None
        url, posts = it.stdout.readline().strip(), Queue[dict[str, str]]()
        thread = Thread(target=lambda: [posts.put(json.loads(line)) for line in it.stdout or ()], daemon=True)
        thread.start()
        try:
            yield url, posts
        finally:
            it.kill()
            thread.join()


def test_the_timer_starts_a_night_and_a_night_that_went_wrong_is_told_of(tmp_path: Path) -> None:
    archive_and_cluster(tmp_path, "ann", "bug-bob")
    (tmp_path / "sendmail").write_text(SENDMAIL)
    (tmp_path / "sendmail").chmod(0o755)
    options = "--config /etc/modic/cohort.toml --cluster /data/cluster.json"
    night = {"MODIC_ARCHIVE": "/data/archive", "MODIC_COHORT": "/data/lumbar", "MODIC_OPTIONS": options}
    when = "[Timer]\nOnCalendar=\nOnActiveSec=1\nRandomizedDelaySec=0\nAccuracySec=100ms\n"  # not at night, but at once
    given = {**files(**night), "systemd/system/modic-night.timer.d/soon.conf": when}
    os.chown(tmp_path, UID, UID)
    with live_systemd(tmp_path, given) as machine, webhook(machine) as (url, posts):
        machine.do("sh", "-c", f"sed -i 's|^MODIC_WEBHOOK=$|&{url}|' /etc/modic/night.env")
        machine.do("systemctl", "start", "modic-night.timer")
        machine.wait(lambda: machine.property("modic-notify", "ExecMainStartTimestamp") != "", "the notification")
        machine.wait(lambda: machine.property("modic-notify", "ActiveState") == "inactive", "its end")
        assert machine.property("modic-night", "TriggeredBy") == "modic-night.timer"
        assert machine.property("modic-night", "Result") == "exit-code", machine.log()
        assert machine.property("modic-night", "ExecMainStatus") == "3"
        assert machine.property("modic-notify", "Result") == "success", machine.log()
        post = posts.get(timeout=30)
    assert post["subject"] == "modic: the night of lumbar went wrong"
    assert "1 graded" in post["text"] and "study.internal_error" in post["text"]
    mail = (tmp_path / "mail").read_text()
    assert mail.startswith("To: me@example.org\nSubject: modic: the night of lumbar went wrong\n")
    assert post["text"] in mail
    assert (tmp_path / "lumbar").stat().st_uid == UID


def test_the_server_and_the_worker_run_the_deployment(tmp_path: Path) -> None:
    archive_and_cluster(tmp_path, "ann")
    api, own = "http://127.0.0.1:4200/api", "/opt/modic/.venv/bin"
    given = {"PYTHONPATH": PYTHONPATH, "PREFECT_API_URL": api, "DO_NOT_TRACK": "1", "MODIC_ARCHIVE": "/data/archive",
             "MODIC_COHORT": "/data/lumbar"}  # fmt: skip
    asked = [f"{own}/python", "-c", f"import urllib.request as web; web.urlopen('{api}/health')"]
    os.chown(tmp_path, UID, UID)
    with live_systemd(tmp_path, files()) as machine:
        machine.do("systemctl", "start", "prefect-server")
        machine.wait(lambda: machine.answers(*asked), "the server")
        machine.as_user(given, f"{own}/prefect", "work-pool", "create", "modic", "--type", "process")
        machine.as_user(given, f"{own}/python", "-P", "-m", "flows.deploy", f"{ROOT}/deployments/prefect.yaml")
        machine.do("systemctl", "start", "prefect-worker")
        once = ("deployment", "run", "grade-cohort/nightly", "--param", "cluster=/data/cluster.json")
        machine.as_user(given, f"{own}/prefect", *once)
        machine.wait((tmp_path / "lumbar" / "report.html").exists, "the run of the worker")
        machine.do("systemctl", "stop", "prefect-worker", "prefect-server")
        assert [machine.property(unit, "Result") for unit in ("prefect-worker", "prefect-server")] == ["success"] * 2
    assert pq.read_table(tmp_path / "lumbar" / "current" / "studies.parquet")["status"].to_pylist() == ["graded"]
