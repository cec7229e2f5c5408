"""On PYTHONPATH, so in every Python process that a test starts: no network but loopback, and a note of who tried."""

import os
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any


def _local(host: Any) -> bool:
    if host in (None, "", b"", "localhost", b"localhost", socket.gethostname()):
        return True
    try:
        address = ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _guarded(name: str, host_of: Any) -> None:
    owner = socket if name == "getaddrinfo" else socket.socket
    original = getattr(owner, name)

    def guarded(*arguments: Any, **options: Any) -> Any:
        host = host_of(arguments)
        if not _local(host):
            with Path(os.environ["GUARD_LOG"]).open("a", encoding="utf-8") as log:
                log.write(f"{name} {host!r}\n")
            raise OSError(f"no network in this test: {name} {host!r}")
        return original(*arguments, **options)

    setattr(owner, name, guarded)


def _host_of_address(arguments: tuple[Any, ...]) -> Any:
    is_inet = arguments[0].family in (socket.AF_INET, socket.AF_INET6)
    return arguments[-1][0] if is_inet else None


_guarded("connect", _host_of_address)
_guarded("connect_ex", _host_of_address)
_guarded("sendto", _host_of_address)
_guarded("getaddrinfo", lambda arguments: arguments[0])
