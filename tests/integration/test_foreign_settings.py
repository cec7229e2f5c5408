"""A run among what others left: settings of Prefect in the working folder, in the cohort, in the home and in the
environment, proxies, and a package of our name. None of it is obeyed, and nobody else reaches the run's server."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import psutil
import pytest

from dicoms import series, t1, write
from flows.prefect_database import is_sound
from modic.cohort import create_cohort
from modic.tables.store import read_table

ROOT = Path(__file__).parents[2]
LOGGING = "version: 1\nhandlers: {{console: {{(): {call}, level: INFO}}}}\nloggers: {{root: {{handlers: [console]}}}}\n"
ELSEWHERE = "sqlite+aiosqlite:///{}/elsewhere.db"


@dataclass
class Run:
    """What became of it."""

    folder: Path
    code: int
    said: str
    answers: dict[str, int]  # HTTP status of the server, by path, to whoever asks without the secret

    @property
    def cohort(self) -> Path:
        return self.folder / "cohort"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run for all tests here, in a folder where everything is somebody else's."""
    here = tmp_path_factory.mktemp("hostile")
    write(series(t1(), name="t1"), here / "archive")
    private = create_cohort(here / "cohort", archive=here / "archive").private
    (private / "prefect").mkdir()
    with (
        closing(sqlite3.connect(private / "prefect" / "prefect.db")) as database,
        database,
    ):  # of a Prefect that is not written yet
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        database.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    for place in (private / "prefect", here / "home" / ".prefect", here):
        place.mkdir(parents=True, exist_ok=True)
        (place / "logging.yml").write_text(LOGGING.format(call="os.system") + f"# {place}\n")
    setting = f"{private}/prefect/logging.yml"
    (here / ".env").write_text(f"PREFECT_LOGGING_SETTINGS_PATH={setting}\nPREFECT_API_URL=http://127.0.0.1:9/api\n")
    (here / "prefect.toml").write_text(f'[logging]\nconfig_path = "{setting}"\n[api]\nurl = "http://127.0.0.1:9/api"\n')
    (here / "pyproject.toml").write_text(f'[tool.prefect.logging]\nconfig_path = "{setting}"\n')
    profile = '\n[profiles.other]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    (here / "home" / ".prefect" / "profiles.toml").write_text(f'active = "other"{profile}')
    (private / "prefect" / "profiles.toml").write_text(f'active = "other"{profile}')
    for module in ("flows", "prefect"):
        (here / module).mkdir()
        (here / module / "__init__.py").write_text(f"open({str(here / 'shadowed')!r}, 'w'); raise SystemExit(9)")
    return run(here)


def run(here: Path) -> Run:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    for proxy in ("HTTP_PROXY", "https_proxy"):
        environment[proxy] = "http://127.0.0.1:9"
    environment |= {
        "ALL_PROXY": "socks5h://127.0.0.1:9",
        "HOME": str(here / "home"),
        "PYTHONPATH": str(ROOT),
        "PREFECT_PROFILE": "other",
        "PREFECT_API_DATABASE_CONNECTION_URL": ELSEWHERE.format(here),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": ELSEWHERE.format(here),
        "PREFECT_LOGGING_SETTINGS_PATH": str(here / "logging.yml"),
    }
    command = [sys.executable, "-m", "modic", "grade", "archive", "--out", "cohort"]
    with subprocess.Popen(
        command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        answers = ask_server_of(process)
        said, _ = process.communicate(timeout=300)
    return Run(here, process.returncode, said, answers)


def ask_server_of(process: "subprocess.Popen[str]") -> dict[str, int]:
    """What the run's server answers to a stranger."""
    answers: dict[str, int] = {}
    while process.poll() is None and answers.get("health") != 200:
        time.sleep(0.2)
        for child in psutil.Process(process.pid).children():
            for port in (one.laddr.port for one in child.net_connections("tcp") if one.status == psutil.CONN_LISTEN):
                for path in ("admin/settings", "flows/filter", "health"):
                    answers[path] = status(f"http://127.0.0.1:{port}/api/{path}", post="filter" in path)
    return answers


def status(url: str, *, post: bool) -> int:
    request = Request(url, data=b"{}" if post else None, headers={"Content-Type": "application/json"})
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_the_run_ends_well(hostile: Run) -> None:
    assert hostile.code == 0, hostile.said
    assert read_table(hostile.cohort, "studies")["reason"].to_pylist() == ["study.no_sagittal_t2"]


def test_no_module_of_the_working_folder_is_imported(hostile: Run) -> None:
    assert not (hostile.folder / "shadowed").exists()


def test_the_runs_records_are_in_the_cohort_and_nowhere_else(hostile: Run) -> None:
    assert not (hostile.folder / "elsewhere.db").exists()
    with closing(sqlite3.connect(hostile.cohort / "private" / "prefect" / "prefect.db")) as database:
        runs = database.execute("SELECT state_type FROM flow_run").fetchall()
    assert runs == [("COMPLETED",)]


def test_a_newer_database_is_kept_apart_and_said(hostile: Run) -> None:
    aside = hostile.cohort / "private" / "prefect" / "prefect.db.set-aside"
    with closing(sqlite3.connect(aside)) as database:
        assert database.execute("SELECT * FROM alembic_version").fetchall() == [("ffffffffffff",)]
    assert str(aside) in hostile.said


@pytest.mark.parametrize("damage", ["cut off", "overwritten", "a page lost"])
def test_a_damaged_database_is_found(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "prefect.db"
    assert is_sound(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE flow_run (name TEXT PRIMARY KEY)")
        database.executemany("INSERT INTO flow_run VALUES (?)", [(str(number) * 50,) for number in range(1000)])
    assert is_sound(path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut off": whole[: len(whole) // 2],
            "overwritten": b"no database" * 1000,
            "a page lost": whole[:8192] + bytes(4096) + whole[12288:],
        }[damage]
    )
    assert not is_sound(path)


def test_the_server_answers_nobody_else(hostile: Run) -> None:
    assert hostile.answers == {"admin/settings": 401, "flows/filter": 401, "health": 200}
