"""The lock that lets one run at a time write a cohort, also between hosts whose file locks do not see each other.

The lock's file is held with flock, which ends with the process. Network file systems may keep a flock to one host, or
have none, so the file also holds a record of who took it. Its holder touches the file every BEAT_S seconds.

| flock            | record                                       | the lock is                              |
|------------------|----------------------------------------------|------------------------------------------|
| held by somebody | any                                          | held                                     |
| free, or none    | none, ended, or of a version that wrote none | free                                     |
| free, or none    | of a process of this machine                 | held if the process lives                |
| free, or none    | of another machine                           | held until nobody touched it for STALE_S |

Ages are differences between times of the same file system, so the clocks of hosts need not agree. Two hosts may take
a free lock in one instant: the later record stays, and the run of the other stops when it asks (`confirm`).
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from modic.errors import ModicError, UsageError
from modic.files import time_there

BEAT_S, STALE_S = 20.0, 180.0
TRIES = 5
NO_FLOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL})
RECORD_BYTES = 1024
"""A record has always this length, so that it is replaced by one write, which needs no space on a full disk."""


@dataclass(frozen=True, slots=True)
class Record:
    """Who took a lock last."""

    run_id: str
    host: str = ""  # its name, for people
    machine: str = ""  # one boot of one kernel, and the list of processes (`this_machine`)
    process: int = 0
    process_began: str = ""  # tells a process from a later one of the same number
    since: str = ""  # UTC, for people
    ended: bool = True

    def __str__(self) -> str:
        where = f" on {self.host}, process {self.process}, since {self.since}" if self.host else ""
        return f"run {self.run_id}{where}"

    @property
    def lives(self) -> bool:
        """Whether the process, which is one of this machine, still runs."""
        return bool(self.process_began) and self.process_began == _began(self.process)


@contextmanager
def hold(path: Path, run_id: str) -> Iterator[None]:
    """Hold the lock `path`. Without `run_id` it is only asked for, and no record is written.

    Raises UsageError if somebody else holds it, OSError if it cannot be written.
    """
    descriptor = _open(path, os.O_RDWR | os.O_CREAT)
    try:
        _take(descriptor, path)
        if not run_id:
            yield
            return
        mine = Record(
            run_id, socket.gethostname()[:64], this_machine(), os.getpid(), _began(os.getpid()),
            f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", ended=False,
        )  # fmt: skip
        _write(descriptor, mine)
        with _beating(descriptor, mine):
            yield
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _take(descriptor: int, path: Path) -> None:
    """Raise UsageError unless the lock is free."""
    tries = 0
    while _flock(descriptor, fcntl.LOCK_EX) is False:
        tries += 1
        if tries > TRIES:
            raise UsageError(f"another run is writing {path.parent.parent} ({_read(descriptor)}); wait for it to end")
        time.sleep(0.1)  # `last_taken` holds it for a moment
    last = _read(descriptor)
    if last is None or last.ended:
        return
    if last.machine == this_machine():
        if last.lives:
            raise UsageError(f"another run is writing {path.parent.parent} ({last}); wait for it to end")
        return
    left = STALE_S - abs(time_there(path.parent) - os.fstat(descriptor).st_mtime)
    if left > 0:
        raise UsageError(
            f"another machine is writing {path.parent.parent} ({last}); wait for it to end. If it was killed, or its"
            f" machine is down, the cohort is free in {left:.0f} s"
        )


def _flock(descriptor: int, how: int) -> bool | None:
    """Whether a file lock was had without waiting; None where the file system has none."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_FLOCK:
            return None
        raise
    return True


def this_machine() -> str:
    """One boot of one kernel, and the list of processes (a container's own, say) in which numbers have a meaning."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _began(process: int) -> str:
    """When a process began, in a form that means nothing but itself; empty if there is no such process."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()[19]
    if Path("/proc/self/stat").exists():
        return ""
    with suppress(ProcessLookupError, PermissionError):  # without /proc: there is one, or another of this number
        os.kill(process, 0)
        return "lives"
    return ""


@contextmanager
def _beating(descriptor: int, mine: Record) -> Iterator[None]:
    """Touch the lock while the block lasts, and then mark its record as ended, unless somebody else's is there."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            with suppress(OSError):
                if _read(descriptor) == mine:
                    os.utime(descriptor)

    thread = threading.Thread(target=beat, name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            if _read(descriptor) == mine:
                _write(descriptor, Record(**{**asdict(mine), "ended": True}))


def _write(descriptor: int, record: Record) -> None:
    text = json.dumps(asdict(record)).ljust(RECORD_BYTES)
    os.pwrite(descriptor, text.encode(), 0)
    os.ftruncate(descriptor, RECORD_BYTES)


def _read(descriptor: int) -> Record | None:
    """The record in the file; None if there is none."""
    text = os.pread(descriptor, RECORD_BYTES, 0).decode("utf-8", "replace").strip()
    try:
        values = json.loads(text)
        record = Record(**values)
    except (ValueError, TypeError):
        return Record(text) if text else None  # a version before there were records wrote the id of its run
    types = {field.name: type(getattr(Record(""), field.name)) for field in fields(Record)}
    return record if all(type(value) is types[name] for name, value in values.items()) else None


def last_taken(path: Path) -> tuple[Record | None, bool]:
    """Who took the lock last (None: nobody), and whether it is held now. Raises OSError if it cannot be read."""
    try:
        descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None, False
    try:
        record = _read(descriptor)
        if _flock(descriptor, fcntl.LOCK_SH) is False:  # let go at once; `hold` tries again for that moment
            return record, True
        if record is None or record.ended:
            return record, False
        if record.machine == this_machine():
            return record, record.lives
        return record, time.time() - os.fstat(descriptor).st_mtime < STALE_S
    finally:
        os.close(descriptor)


def confirm(path: Path, run_id: str) -> None:
    """Raise ModicError if another run has taken the lock meanwhile."""
    with suppress(FileNotFoundError):
        descriptor = _open(path, os.O_RDONLY)
        try:
            record = _read(descriptor)
        finally:
            os.close(descriptor)
        if record and record.run_id != run_id:
            raise ModicError(f"{record} took the cohort meanwhile, so this run stops; what it finished is kept")
