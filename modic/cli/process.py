"""What a process may lack and everything below counts on: open standard streams, a home, a name of the user."""

import os
import resource
import sys

from modic.errors import UsageError

NOWHERE = "/nonexistent"
"""Home of a user who has none: nothing can be planted there, as it could in a folder for temporary files."""

LEAST_ADDRESSES = 2**32
"""Bytes. A study was graded with so many; with 3.3e9 torch was not imported, with 2.0e9 a worker waited for ever."""


def complete_process() -> None:
    """Make up for closed standard streams, for letters that a terminal does not know, and for a home or name that the
    system does not know either."""
    _open_streams()
    if not _has_home():
        os.environ["HOME"] = NOWHERE
    if not _has_name():
        os.environ["USER"] = os.environ["LOGNAME"] = str(os.getuid())


def check_semaphores() -> None:
    """Raise UsageError if processes cannot share semaphores here, which Dask and the crawl need."""
    from multiprocessing import get_context

    try:
        get_context("spawn").Semaphore()
    except (OSError, ImportError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"this machine gives processes no semaphores ({why}): mount /dev/shm as tmpfs, in a container by --shm-size"
        ) from error


def check_address_space() -> None:
    """Raise UsageError if processes may address less than a worker on this machine needs."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESSES:
        raise UsageError(
            f"a process may address {limit / 2**30:.1f} GiB here (`ulimit -v`), a worker needs 4: lift the limit, with"
            " `ulimit -v unlimited` or in the batch system"
        )


def _open_streams() -> None:
    """Else the first files that are opened would become the standard streams of all child processes."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
        elif mode == "w" and stream is getattr(sys, f"__{name}__"):
            stream.reconfigure(errors="backslashreplace")  # Latin-1 has no "…" and no "κ"


def _has_home() -> bool:
    try:
        home = os.path.expanduser("~")  # noqa: PTH111  (Path.home raises)
    except KeyError:
        return False
    return home != "~" and os.access(home, os.R_OK | os.X_OK)


def _has_name() -> bool:
    import getpass

    try:
        getpass.getuser()
    except (KeyError, OSError):
        return False
    return True
