"""Who hears of a night that went wrong: the end of a flow, Prefect's automations, systemd's units."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from modic.run.publish import Summary
from receivers import mail_server, webhook

DEPLOYMENTS = Path(__file__).resolve().parents[2] / "deployments"
UNITS = sorted((DEPLOYMENTS / "systemd").glob("*.service")) + sorted((DEPLOYMENTS / "systemd").glob("*.timer"))
ROW = {"studies_found": 3, "studies_graded": 2, "studies_excluded": 0, "studies_failed": 1}
FAILED = Summary("20261130T010000Z-abcd", ROW, ["s_0123456789abcdef study.time_limit (limit 300 s)"], 3)


def test_the_end_of_a_flow_says_by_name_that_somebody_should_look() -> None:
    from flows.nightly import ended

    state = ended(FAILED)
    assert state.is_completed() and state.name == "Studies failed"
    assert state.message is not None
    assert state.message.endswith("1 failed; 3 worked on in this run; failed: "
                                  "s_0123456789abcdef study.time_limit (limit 300 s)")  # fmt: skip
    gone = ended(Summary("r", ROW, [], 0, "2 of the 3 studies of the run before are not in /archive"))
    assert gone.name == "Needs attention" and "2 of the 3 studies" in str(gone.message)
    assert ended(Summary("r", ROW, [], 3)).name == "Completed"


def automations() -> list[dict[str, Any]]:
    values = yaml.safe_load((DEPLOYMENTS / "notify.yaml").read_text(encoding="utf-8"))["automations"]
    return list(values)


def test_a_named_end_is_an_end_for_the_heartbeats_too() -> None:
    """Else a run with failed studies would be called Crashed 90 s after it published."""
    from flows.nightly import NEEDS_ATTENTION, STUDIES_FAILED

    (heartbeat,) = yaml.safe_load((DEPLOYMENTS / "heartbeat.yaml").read_text(encoding="utf-8"))["automations"]
    ends = {f"prefect.flow-run.{name}" for name in (STUDIES_FAILED, NEEDS_ATTENTION)}
    assert ends <= set(heartbeat["trigger"]["expect"])
    assert ends < set(automations()[0]["trigger"]["expect"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_failed_crashed_late_and_gone_reach_a_webhook_and_a_mailbox(prefect_server: str, tmp_path: Path) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed, Failed, Scheduled, State

    from flows import notify
    from flows.nightly import ended

    quick = yaml.safe_load((DEPLOYMENTS / "notify.yaml").read_text(encoding="utf-8"))
    quick["automations"][1]["trigger"]["within"] = 10  # the least that Prefect takes
    (tmp_path / "notify.yaml").write_text(yaml.safe_dump(quick))
    late = Scheduled(scheduled_time=datetime.now(UTC)).model_copy(update={"name": "Late"})
    states: list[State] = [late, ended(FAILED), Failed(message="the disk is full"), Crashed(message="No heartbeat")]

    @flow(name="grade-cohort")
    def night() -> None: ...

    with webhook() as (url, posts), mail_server() as (port, mails):
        mail = f"mailto://127.0.0.1:{port}?from=modic@example.org&to=me@example.org&mode=insecure&user=&pass="
        for _ in range(2):  # the second time replaces the first
            notify.set_up(tmp_path / "notify.yaml", url, mail)
            assert len(notify.set_up(DEPLOYMENTS / "heartbeat.yaml")) == 1, "which needs no address"
        assert notify.set_up(DEPLOYMENTS / "notify.yaml") == [], "nobody would hear"
        with get_client(sync_client=True) as client:
            assert len(client.read_automations_by_name(automations()[0]["name"])) == 1
            for state in states:
                run = client.create_flow_run(night, name="lumbar 2026-11-30")
                client.set_flow_run_state(run.id, state, force=True)
        got = [posts.get(timeout=60) for _ in states]
        sent = dict(mails.get(timeout=60) for _ in states)
    said = {post["subject"]: post["text"] for post in got}
    assert said.keys() == sent.keys() == {
        "modic lumbar 2026-11-30: Studies failed", "modic lumbar 2026-11-30: Failed",
        "modic lumbar 2026-11-30: Crashed", "modic: a night does not begin",
    }  # fmt: skip
    assert "s_0123456789abcdef study.time_limit (limit 300 s)" in said["modic lumbar 2026-11-30: Studies failed"]
    assert "s_0123456789abcdef study.time_limit (limit 300 s)" in sent["modic lumbar 2026-11-30: Studies failed"]
    assert said["modic lumbar 2026-11-30: Failed"] == "the disk is full"
    assert "no Prefect worker has taken the run" in said["modic: a night does not begin"]


def test_an_address_that_is_not_given_leaves_its_action_out() -> None:
    from uuid import UUID

    from flows.notify import with_blocks

    id_ = UUID(int=7)
    (action,) = with_blocks(automations()[0], {"mail": id_})["actions"]
    assert action["type"] == "send-notification" and action["block_document_id"] == str(id_)


def section(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        text = re.sub(r"^ExecStart=/opt/\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text.replace("User=modic", "User=root"))
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and str(tmp_path) not in done.stderr, done.stderr
    (when,) = section(DEPLOYMENTS / "systemd" / "modic-night.timer", "OnCalendar")
    subprocess.run(["systemd-analyze", "calendar", when], check=True, capture_output=True)


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """That of the units, with a `modic` that says with what it was started and exits with 3."""
    (tmp_path / "bin").mkdir()
    modic = tmp_path / "bin" / "modic"
    modic.write_text('#!/bin/sh\nprintf "%s|" "$@"\n[ "$1" = grade ] && exit 3\nexit 0\n')
    modic.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    return {"PATH": os.environ["PATH"], "MODIC": str(modic), "MODIC_ARCHIVE": "/archive/of lumbar spines",
            "MODIC_COHORT": "/data/lumbar", **more}  # fmt: skip


def test_the_night_of_systemd_runs_the_command_and_fails_as_it_does(tmp_path: Path) -> None:
    unit = DEPLOYMENTS / "systemd" / "modic-night.service"
    (command,) = section(unit, "ExecStart")
    given = environment(tmp_path, MODIC_OPTIONS="--config /etc/modic/cohort.toml")
    done = subprocess.run(shlex.split(command), env=given, capture_output=True, text=True, check=False)
    assert done.stdout == "grade|/archive/of lumbar spines|--out|/data/lumbar|--config|/etc/modic/cohort.toml|"
    assert done.returncode == 3 and not section(unit, "SuccessExitStatus"), "so that OnFailure= is carried out"
    assert section(unit, "OnFailure") == ["modic-notify.service"]
    (script,) = section(DEPLOYMENTS / "systemd" / "modic-notify.service", "ExecStart")
    assert script == "/opt/modic/deployments/systemd/notify.sh"


def test_the_message_of_systemd_is_the_status_by_mail_and_webhook(tmp_path: Path) -> None:
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\n[ "$1" = -t ] && cat > {tmp_path}/mail\n')
    sendmail.chmod(0o755)
    with webhook() as (url, posts):
        given = environment(tmp_path, MODIC_WEBHOOK=url, MODIC_MAIL="me@example.org", MODIC_SENDMAIL=str(sendmail))
        subprocess.run([DEPLOYMENTS / "systemd" / "notify.sh"], env=given, check=True)
        post = posts.get(timeout=30)
    assert post == {"subject": "modic: the night of lumbar went wrong", "text": "status|/data/lumbar|"}
    mail = (tmp_path / "mail").read_text()
    assert mail.startswith("To: me@example.org\nSubject: modic: the night of lumbar went wrong\n")
    assert mail.endswith("\n\nstatus|/data/lumbar|\n")
    given = given | {"MODIC_WEBHOOK": "http://127.0.0.1:9/", "MODIC_MAIL": ""}
    failed = subprocess.run([DEPLOYMENTS / "systemd" / "notify.sh"], env=given, check=False, capture_output=True)
    assert failed.returncode == 1, "a message that nobody gets is a failed unit"
