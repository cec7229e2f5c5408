"""What a run says while it works: a line for every shard, and at least one a minute."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import prefect_logs, progress
from modic.errors import UsageError


def test_a_shard_that_takes_long_is_told_of_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [0.0], list[str]()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(progress.sys, "stdout", SimpleNamespace(isatty=lambda: False))
    monkeypatch.setattr(
        progress, "Artifact", lambda _: SimpleNamespace(update=lambda: None, update_now_and_then=lambda: None)
    )
    going = progress.Progress("lumbar", 64, 2)
    with progress.shown(going, said.append) as show, going.shard("00000", 32) as note_done:
        for second in range(1, 181):
            now[0] = float(second)
            note_done(second // 10)
            show()
    assert said == [f"{n} of 64 studies, 360 an hour, {left} min left" for n, left in ((6, 10), (12, 9), (18, 8))]


def test_a_step_without_progress_of_its_own_is_told_of_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.001)
    said, twice = list[str](), threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            twice.set()

    with progress.working("publishing the tables", say):
        assert twice.wait(60)
    n = len(said)
    assert said[:2] == ["publishing the tables, 0 s so far"] * 2
    assert threading.active_count() == 1 or all("tell" not in thread.name for thread in threading.enumerate())
    time.sleep(0.005)
    assert len(said) == n, "the step has ended"


def test_the_file_of_a_run_says_why_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoServer:
        level = 0

        def __getattr__(self, _: str) -> Any:
            return lambda *_: None

    monkeypatch.setattr(prefect_logs, "RunLogs", NoServer)
    errors: list[tuple[Exception, str]] = [
        (UsageError("the archive\nis away"), "the archive is away"),
        (ValueError("Doe^John"), "ValueError"),
    ]
    for error, told in errors:
        path = tmp_path / "logs" / f"{told}.log"
        with pytest.raises(type(error)), prefect_logs.shown(path):
            raise error
        (line,) = path.read_text().splitlines()
        assert line.endswith(f" ERROR the run ended: {told}")
