"""A Prefect server for one run, if the user has none.

Prefect starts such a server by itself, but the server outlives a run that is killed, and a caller that reads the output
of `modic` through a pipe then waits for ever. This server runs in its own session, writes its output to a file, and
ends when the pipe to its parent closes, however the parent ended. Its database stays in the cohort's `private/prefect`,
so that past runs can be looked up; flows/prefect_database.py makes it.

A cohort and the working folder may come from somebody else, so nothing but that database is read there: Prefect takes
its settings from this module and from the environment (flows/prefect_settings.py). The server answers this run alone,
by a secret made for it.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError

from flows import prefect_database, prefect_settings
from modic.errors import ModicError, UsageError
from modic.resources import importing

STARTUP_S = 120
LEAST_FREE = 2**20  # bytes on the disk; with fewer the server cannot write its database
SET_ASIDE = "set-aside"  # added to the name of a database that Prefect cannot use


@contextmanager
def prefect_api(home: Path) -> Iterator[Callable[[], None]]:
    """Give Prefect a server for the time of the context: the user's own, or a temporary one with its data in `home`.

    Yields a function that waits until the server answers. Call it after the imports of Prefect, which take as long as
    the start of the server. This changes the environment of the process, so enter the context before Prefect is first
    imported. Raises ModicError if the temporary server does not start.
    """
    with tempfile.TemporaryDirectory(prefix="modic-prefect-") as folder, prefect_settings.of_run(Path(folder)) as url:
        if url:
            yield lambda: _reach(url)
            return
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        server = _Server(home.resolve(), Path(folder))
        try:
            with prefect_settings.of_server(server.url, server.secret):
                try:
                    yield server.wait
                finally:
                    _send_queued()
        finally:
            server.stop()


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


class _Server:
    """A server process on a free port of loopback, started when made."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self._folder = home, folder
        (folder / "data").symlink_to(home)  # a URL of SQLite cannot name every folder
        self._socket = socket.socket()  # bound here and handed on: nobody else can take the port in between
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api"
        self.secret = f"modic:{secrets.token_urlsafe(32)}"
        self._database = home / prefect_database.NAME
        if not prefect_database.is_sound(self._database):
            self._set_aside()
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        prefect_database.make(self._database)
        environment = prefect_settings.environment_of_server(self._folder, self._database.name, self.secret)
        if prefect_database.is_current(self._database):
            environment |= prefect_settings.CURRENT
        descriptor = self._socket.fileno()
        command = [sys.executable, "-P", "-m", "flows.prefect_server", str(descriptor)]
        with (self._home / "server.log").open("ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment, cwd=self._folder,
                pass_fds=[descriptor], start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until it answers; a database with which it does not start is set aside.

        Raises ModicError if it does not answer within STARTUP_S.
        """
        healthy = self._is_healthy()
        if not healthy and self._process.poll() is not None and not self._disk_is_full() and self._database.exists():
            self._set_aside()
            self._process = self._start()
            healthy = self._is_healthy()
        self._socket.close()  # else a server that dies later would keep its clients waiting
        if not healthy:
            why = "the disk is full" if self._disk_is_full() else f"see {self._home / 'server.log'}"
            raise ModicError(f"Prefect's temporary server did not start; {why}")

    def _is_healthy(self) -> bool:
        deadline = time.monotonic() + STARTUP_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return True
            except (URLError, OSError):
                time.sleep(0.1)
        return False

    def _disk_is_full(self) -> bool:
        return shutil.disk_usage(self._home).free < LEAST_FREE

    def _set_aside(self) -> None:
        """Rename the database, so that the server makes a new one; only the last one set aside is kept."""
        for suffix in ("-wal", "-shm", ""):
            file = self._database.with_name(f"{self._database.name}{suffix}")
            if file.exists():
                file.replace(file.with_name(f"{self._database.name}.{SET_ASIDE}{suffix}"))
        aside = self._database.with_name(f"{self._database.name}.{SET_ASIDE}")
        print(
            f"modic: Prefect cannot use its records of earlier runs (damaged, or of a newer Prefect); they are kept as "
            f"{aside}, and this run begins new ones. The tables do not depend on them.",
            file=sys.stderr,
        )

    def stop(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.stdin.close()  # type: ignore[union-attr]  # the server sees the end of the pipe and stops
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(descriptor: int) -> None:
    """Run the server in this process, on a bound socket, until standard input ends."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    with importing():
        import uvicorn
        from prefect.server.api.server import create_app

        app = create_app()
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    server.run(sockets=[socket.socket(fileno=descriptor)])
    sys.exit(0 if server.started else 1)


def _stop_with_parent() -> None:
    """Wait for the end of standard input, then stop this process: first with SIGTERM, after 5 s at once."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
