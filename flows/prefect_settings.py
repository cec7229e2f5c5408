"""The settings that Prefect gets in a run on the command line.

Prefect would take settings from `.env`, `prefect.toml` and `pyproject.toml` in the working folder, from the active
profile in its home, and from every `PREFECT_…` variable; one of them names a file whose classes it calls. A run obeys
less:

| `PREFECT_API_URL` in the environment | settings                                                                  |
|--------------------------------------|---------------------------------------------------------------------------|
| set: the user's own server           | the user's variables and home; no file of the working folder              |
| not set: a temporary server          | those below, `PREFECT_CLIENT_…` and `PREFECT_LOGGING_LEVEL`; an empty home |

Calls on loopback go through no proxy.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

STARTUP_S = 120
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(STARTUP_S),
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}
"""No telemetry, no log lines, no questions, unless the user set them."""

OBEYED = ("PREFECT_CLIENT_", "PREFECT_LOGGING_LEVEL")
"""Beginnings of the user's variables that count without a server of the user's."""

SERVER = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",  # a run uses none; a fifth of the start
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",  # automations in a database from somebody else
}
CURRENT = {"PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false"}
"""Of a server whose database needs no migration."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@contextmanager
def of_run(folder: Path) -> Iterator[str | None]:
    """Prefect's settings in this process; gives the URL of the user's own server, if any.

    `folder`: an empty one, Prefect's home if there is no such server. Enter before Prefect is imported.
    """
    url = os.environ.get("PREFECT_API_URL") or _url_in_force()
    new = QUIET | {name: value for name, value in os.environ.items() if name in QUIET} | no_proxy_for_loopback()
    dropped = unusable_proxies()
    if not url:
        dropped += _not_obeyed()
    if not url or not ("PREFECT_HOME" in os.environ or os.access(Path.home(), os.W_OK)):
        new["PREFECT_HOME"] = str(folder)
    with _environment(new, dropped):
        if url:
            with working_in(folder):
                import prefect.context  # noqa: F401  (reads the settings)
        yield url


@contextmanager
def _environment(new: dict[str, str], dropped: list[str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (*dropped, *new)}
    for name in dropped:
        del os.environ[name]
    os.environ |= new
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _url_in_force() -> str | None:
    """The server of a process that had imported Prefect before."""
    if "prefect" not in sys.modules:
        return None
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _not_obeyed() -> list[str]:
    ours = (*OBEYED, *QUIET)
    return [name for name in os.environ if name.startswith("PREFECT_") and not name.startswith(ours)]


@contextmanager
def of_server(url: str, secret: str) -> Iterator[None]:
    """Inside, Prefect's client calls the server at `url` with `secret`."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with ExitStack() as stack:
        with working_in(Path(os.environ["PREFECT_HOME"])):
            stack.enter_context(temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: secret}))
        yield


def environment_of_server(folder: Path, database: str, secret: str) -> dict[str, str]:
    """Environment of a temporary server with its home in `folder` and its database in `folder`/data.

    Modules are found where this process found ours, and not in the working folder.
    """
    root = Path(__file__).resolve().parents[1]
    places = [str(Path(place).absolute()) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    kept = {name: value for name, value in os.environ.items() if name.upper() not in PROXIES}
    return kept | SERVER | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/data/{database}",
        "PREFECT_SERVER_API_AUTH_STRING": secret,
        "PYTHONPATH": os.pathsep.join([str(root), *places]),
    }  # fmt: skip


def no_proxy_for_loopback() -> dict[str, str]:
    """`no_proxy` and `NO_PROXY` of the environment, with the names of loopback added."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = ",".join([*filter(None, given.split(",")), *LOOPBACK])
    return {"no_proxy": names, "NO_PROXY": names}


def unusable_proxies() -> list[str]:
    """Variables with a proxy that Prefect's client cannot use and would fail for, although it never calls it."""
    from importlib.util import find_spec

    schemes = {"", "http", "https", *(("socks5", "socks5h") if find_spec("socksio") else ())}
    return [
        name for name, value in os.environ.items()
        if name.upper() in PROXIES and (urlsplit(value).scheme if "://" in value else "") not in schemes
    ]  # fmt: skip


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Inside, `folder` is the working folder; afterwards it is the one before, also if that has been deleted."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)
