"""A Prefect server for one run, if the user has none.

Prefect starts such a server by itself, but the server outlives a run that is killed, and a caller that reads the output
of `modic` through a pipe then waits for ever. This server runs in its own session, writes its output to a file, and
ends when the pipe to its parent closes, however the parent ended. Its database stays in the cohort's `private/prefect`,
so that the next start is three times as fast (measured: 17 s, then 6 s) and past runs can be looked up.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError

from modic.errors import ModicError, UsageError

STARTUP_S = 120
LEAST_FREE = 2**20  # bytes on the disk; with fewer the server cannot write its database
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_S),
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}
"""Settings of a run on the command line, unless the user set them: no telemetry, no log lines, no questions."""


@contextmanager
def prefect_api(home: Path) -> Iterator[Callable[[], None]]:
    """Give Prefect a server for the time of the context: the user's own, or a temporary one with its data in `home`.

    Yields a function that waits until the server answers. Call it after the imports of Prefect, which take as long as
    the start of the server. This changes the environment of the process, so enter the context before Prefect is first
    imported. Raises ModicError if the temporary server does not start.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    own_home = not user_has_settings()
    if (not own_home or "prefect" in sys.modules) and (configured := _configured_url()):
        yield lambda: _reach(configured)
        return
    if own_home:
        os.environ["PREFECT_HOME"] = str(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _server(home / "server.log") as (url, ready), _settings(url):
            yield ready
    finally:
        if own_home:
            del os.environ["PREFECT_HOME"]


@contextmanager
def _settings(url: str) -> Iterator[None]:
    """Prefect's settings with this server's URL, until Prefect's queued logs and events are sent."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        try:
            yield
        finally:
            _send_queued()


def user_has_settings() -> bool:
    """Whether the user has set a home, a server or a profile for Prefect."""
    names = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_HOME", "PREFECT_PROFILES_PATH")
    files = (Path.home() / ".prefect" / "profiles.toml", Path("prefect.toml"), Path(".env"))
    return any(os.environ.get(n) for n in names) or any(f.is_file() for f in files)


def _configured_url() -> str | None:
    """The server of the user's settings, if any."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _reach(url: str) -> None:
    """Raise UsageError unless a server answers at the user's own URL."""
    for _ in range(3):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=20):
                return
        except HTTPError:  # any answer will do
            return
        except (URLError, OSError, ValueError):
            time.sleep(1)
    raise UsageError(f"no Prefect server answers at {url}; start it, or unset PREFECT_API_URL to run without one")


def _send_queued() -> None:
    """Send Prefect's queued logs and events; otherwise Prefect waits a minute for a server that has ended."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)


@contextmanager
def _server(log: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A server process that lives as long as the context; yields its URL and a function that waits until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    environment |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "0"}
    with log.open("ab") as out:
        command = [sys.executable, "-m", "flows.prefect_server", str(port)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        yield url, lambda: _wait_until_healthy(url, process, log)
    finally:
        process.stdin.close()  # type: ignore[union-attr]  # the server sees the end of the pipe and stops
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen, log: Path) -> None:
    """Raise ModicError if the server does not answer within STARTUP_S."""
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    full = shutil.disk_usage(log.parent).free < LEAST_FREE
    raise ModicError(f"Prefect's temporary server did not start; {'the disk is full' if full else f'see {log}'}")


def serve(port: int) -> None:
    """Run the server in this process until standard input ends."""
    import uvicorn

    threading.Thread(target=_stop_with_parent, daemon=True).start()
    app = "prefect.server.api.server:create_app"
    uvicorn.run(app, factory=True, host="127.0.0.1", port=port, log_level="error", lifespan="on")


def _stop_with_parent() -> None:
    """Wait for the end of standard input, then stop this process: first with SIGTERM, after 5 s at once."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
