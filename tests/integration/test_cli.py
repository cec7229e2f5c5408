"""The command line as a user meets it: exit codes, one clear line for a mistake, and what a killed run leaves."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import fake_worker
from dicoms import study, write
from made_cohort import RUN, as_tables, make_rows
from modic import files
from modic.cli.main import COMMANDS, main
from modic.cohort import open_cohort
from modic.run import ledger
from modic.tables.store import publish, read_table

FAKE_WORKER = Path(fake_worker.__file__)
COMMAND = [sys.executable, "-W", "error", "-m", "modic"]


def test_help_costs_under_a_second_and_imports_nothing_heavy() -> None:
    code = "import sys, modic.cli.main as c; c.parser(); "
    code += "print({'torch', 'prefect', 'pyarrow', 'numpy'} & set(sys.modules))"
    before = os.times()  # of the processor: a busy machine lets even this wait
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    after = os.times()
    assert out.strip() == "set()"
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1


MODELS = [f"{verb} {model}" for verb in ("train", "evaluate") for model in ("detector", "classifier")]
STUDIES = [f"study {kind}" for kind in ("normalization", "report", "simulate")]


@pytest.mark.parametrize("command", [*COMMANDS, *MODELS, *STUDIES])
def test_every_command_explains_itself_and_each_option_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"\nexamples:\n  modic {command}" in said
    options = said.split("\noptions:\n")[1].split("\nexamples:")[0]
    lines = [*options.splitlines(), ""]
    silent = [
        line
        for line, after in pairwise(lines)
        if line.startswith("  -") and not re.search(r"\S {2,}\S", line) and not after.startswith(" " * 10)
    ]
    assert silent == [], "options that do not say what they are"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Ten studies, each a second's work."""
    for number in range(10):
        write(study(patient=f"slow-{number}"), tmp_path / "archive" / str(number))
    return tmp_path / "archive"


def mistakes() -> list[tuple[str, Callable[[Path], list[str]], str]]:
    """What a user may get wrong → what the line must say."""

    def other_folder(path: Path) -> list[str]:
        (path / "thesis").mkdir()
        (path / "thesis" / "a.txt").write_text("x")
        return ["grade", str(path / "archive"), "--out", str(path / "thesis")]

    def config(text: str) -> Callable[[Path], list[str]]:
        def arguments(path: Path) -> list[str]:
            (path / "c.toml").write_text(text)
            return ["grade", str(path / "archive"), "--out", str(path / "new"), "--config", str(path / "c.toml")]

        return arguments

    def cluster(path: Path) -> list[str]:
        (path / "c.yaml").write_text("workers: 3")
        return ["grade", str(path / "archive"), "--out", str(path / "new"), "--cluster", str(path / "c.yaml")]

    return [
        ("no archive", lambda path: ["grade", str(path / "nowhere"), "--out", str(path / "new")], "does not exist"),
        ("empty archive", lambda path: ["grade", "", "--out", ""], "no archive is given"),
        ("empty cohort", lambda path: ["grade", str(path / "archive"), "--out", ""], "no cohort is given"),
        ("a file", lambda path: ["grade", str(path / "archive/0/00000"), "--out", str(path / "new")], "not a folder"),
        ("other folder", other_folder, "not empty and not a cohort"),
        ("unknown key", config("[pair]\noverlap = 1"), "unknown key `overlap`"),
        ("wrong type", config("[run]\nshard_size = 'many'"), "shard_size must be int"),
        ("out of range", config("[run]\nshard_size = 0"), "shard_size must be from 1 to"),
        ("no weights", config("detector = 'nowhere.safetensors'"), "does not exist"),
        ("cluster key", cluster, "unknown key `workers`"),
        ("no cohort to check", lambda path: ["check", str(path / "archive")], "is not a cohort"),
        ("no cohort to ask", lambda path: ["query", str(path / "nowhere"), "FROM levels"], "does not exist"),
        ("no cohort to report", lambda path: ["report", str(path / "nowhere")], "does not exist"),
    ]


def test_an_unknown_option_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["grade", str(tmp_path), "--ouput", str(tmp_path / "new")])
    assert "there is no option --ouput; did you mean --out?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["graed", "a"], "argument COMMAND: there is no graed; did you mean grade?"),
        (["train", "clasifier"], "argument MODEL: there is no clasifier; did you mean classifier?"),
        (
            ["grade", "a", "--out", "b", "--device", "gpuu"],
            "argument --device: there is no gpuu; there are auto, cpu, cuda",
        ),
        (["grade", "a", "--out", "b", "--limit", "ten"], "argument --limit: a whole number above 0, not ten"),
    ],
)
def test_a_word_that_is_not_among_the_choices_is_named_with_the_nearest(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(typed)
    assert said in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_said_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write(study()[:1], tmp_path / "archive" / "0")
    assert main(["grade", str(tmp_path / "archive"), "--out", str(tmp_path / "new"), "--device", "cuda"]) == 2
    assert not (tmp_path / "new").exists()
    said = capsys.readouterr().err
    assert said == "modic: device cuda: no CUDA GPU is visible here; use --device auto or cpu\n"


def test_what_the_system_refuses_is_one_line_without_the_files_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", "/archive/DOE^JANE/1")

    monkeypatch.setattr("modic.cli.status.run", refused)
    assert main(["status", "cohort"]) == 1
    assert capsys.readouterr().err == "modic: the run failed: Read-only file system\n"


@pytest.mark.parametrize(("arguments", "message"), [m[1:] for m in mistakes()], ids=[m[0] for m in mistakes()])
def test_a_mistake_gets_one_clear_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Callable[[Path], list[str]], message: str
) -> None:
    write(study()[:1], tmp_path / "archive" / "0")
    assert main(arguments(tmp_path)) == 2
    said = capsys.readouterr().err
    assert said.startswith("modic: ") and said.count("\n") == 1 and message in said


class Runs:
    """`modic grade` in processes of its own, on a cluster of workers without networks."""

    def __init__(self, tmp_path: Path, archive: Path, server: str) -> None:
        (tmp_path / "cluster.yaml").write_text(
            json.dumps({"cluster_kwargs": {"n_workers": 1, "preload": ["flows.dask_worker", str(FAKE_WORKER)]}})
        )
        self.cohort, self._server = tmp_path / "cohort", server
        self._command = [*COMMAND, "grade", str(archive), "--out", str(self.cohort)]
        self._command += ["--cluster", str(tmp_path / "cluster.yaml")]

    def start(self, *, own_server: bool = False, **more: str) -> "subprocess.Popen[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
        if not own_server:
            environment["PREFECT_API_URL"] = self._server
        return subprocess.Popen(
            self._command,
            env=environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.cohort.parent,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
        )

    def _shards(self) -> int:
        return len(list(self.cohort.glob("runs/*/shards/*.parquet")))

    def wait_for_a_shard(self) -> None:
        deadline = time.monotonic() + 400
        before = self._shards()
        while self._shards() == before:
            assert time.monotonic() < deadline, "no shard was finished"
            time.sleep(0.05)


@pytest.fixture
def runs(tmp_path: Path, archive: Path, prefect_server: str) -> Runs:
    return Runs(tmp_path, archive, prefect_server)


def test_a_killed_run_goes_on_from_its_finished_shards_and_two_runs_do_not_meet(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runs.start()
    runs.wait_for_a_shard()
    second = runs.start()
    _, said = second.communicate(timeout=300)
    assert second.returncode == 2 and "another run" in said
    first.kill()
    first.communicate(timeout=120)
    done = len(ledger.read_ledger(open_cohort(runs.cohort)))
    assert 0 < done < 10 and not (runs.cohort / "current").exists()
    third = runs.start()
    out, said = third.communicate(timeout=400)
    assert third.returncode == 0, said
    assert f"10 graded, 0 excluded, 0 failed; {10 - done} worked on in this run" in out
    assert len(read_table(runs.cohort, "levels")) == 60
    (published,) = read_table(runs.cohort, "runs")["run_id"].to_pylist()
    cohort = open_cohort(runs.cohort)
    assert not cohort.shard_inputs(published).exists()
    monkeypatch.setattr(files, "LEFT_OVER_S", 0)  # those of the killed run go once nobody has touched them for a while
    cohort.remove_left_overs()
    assert list(cohort.private.glob("shards/*")) == []


def test_a_stopped_run_leaves_no_server_and_frees_its_reader(runs: Runs) -> None:
    for how in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):  # on one cohort, whose Prefect database is then at hand
        stop(runs, how)


def stop(runs: Runs, how: signal.Signals) -> None:
    run = runs.start(own_server=True)
    runs.wait_for_a_shard()
    server = server_of(run.pid)
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # as Ctrl-C in a terminal does, workers included
    else:
        run.send_signal(how)
    _, said = run.communicate(timeout=120)  # would wait for ever for a server that held our pipes
    assert run.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 1)
    assert how == signal.SIGKILL or said.strip() == "modic: stopped; what is finished is kept"
    deadline = time.monotonic() + 90
    while is_alive(server):
        assert time.monotonic() < deadline, "the server is still there"
        time.sleep(0.1)


def test_a_prefect_server_that_dies_half_way_costs_no_study(runs: Runs) -> None:
    run = runs.start(own_server=True, PREFECT_CLIENT_MAX_RETRIES="0")
    runs.wait_for_a_shard()
    os.kill(server_of(run.pid), signal.SIGKILL)
    _, said = run.communicate(timeout=400)
    assert run.returncode == 0 and "the tables are published all the same" in said, said
    assert len(read_table(runs.cohort, "levels")) == 60


def test_a_prefect_server_that_cannot_be_reached_is_said_in_one_line(runs: Runs) -> None:
    run = runs.start(own_server=True, PREFECT_API_URL="http://127.0.0.1:9/api")
    _, said = run.communicate(timeout=120)
    assert run.returncode == 2
    assert said.count("\n") == 1 and "no Prefect server answers at http://127.0.0.1:9/api" in said


def server_of(pid: int) -> int:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    (server,) = [int(row[0]) for row in rows if row[1] == str(pid) and "flows.prefect_server" in row[2]]
    return server


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_run_whose_every_image_was_refused_exits_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import nullcontext

    import flows.nightly
    import flows.prefect_server

    def outcome(*_: object, **__: object) -> dict[str, object]:
        return {"failed": [], "attention": "every DICOM file of the archive was refused (file.not_mr 3)"}

    (tmp_path / "archive").mkdir()
    monkeypatch.setattr(flows.prefect_server, "prefect_api", lambda _: nullcontext(lambda: None))
    monkeypatch.setattr(flows.nightly, "grade_cohort", outcome)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["grade", str(tmp_path / "archive"), "--out", str(tmp_path / "cohort")]) == 3
    assert "file.not_mr 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["export", "COHORT", "--format", "mi"], ["study", "normalization", "--data", "no"]]
)
@pytest.mark.parametrize("made", [False, True], ids=["new folder", "own empty folder"])
def test_what_is_refused_leaves_nothing_where_it_should_have_written(
    tmp_path: Path, command: list[str], made: bool
) -> None:
    publish(tmp_path / "cohort", as_tables(make_rows(graded=1)), RUN)
    out = tmp_path / "out"
    if made:
        out.mkdir()
    words = [str(tmp_path / "cohort") if word == "COHORT" else word for word in command]
    assert main([*words, "--out", str(out)]) == 2
    assert out.exists() == made and not list(out.glob("*"))
