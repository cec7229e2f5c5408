"""Files that are kept because making them again costs time: unpacked `tar.gz`, what a server sent.

A cohort's cache lies in its `private/` folder: it holds what identifies patients, every worker of a cluster sees it,
and it goes when the cohort goes. `[archive] cache` names another folder. Names in it are hashes. A cache holds at most
`most_bytes`, apart from the file that was asked for last: what was not used for longest goes first, and is made again
when it is needed. Several processes may share one.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

TRIES = 3
LEFT_OVER_S = 86_400  # an unfinished file that nobody has written to for so long was left by a process that died
SCAN_SHARE = 20  # the folder's size is looked at whenever this process has written a 20th of what it may hold
_written: dict[Path, int] = {}  # bytes since then


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of files by key; `folder` None: a folder of this process, which ends with it."""

    folder: Path | None = None
    most_bytes: int = 20 * 10**9

    def open(self, key: str, write: Callable[[BinaryIO], None]) -> BinaryIO:
        """The file of `key`, which `write` makes if it is not there. Raises what `write` raises; then there is none."""
        path = self._path(key)
        for _ in range(TRIES):  # another process may remove it before it is open
            with suppress(FileNotFoundError):
                os.utime(path)
                return path.open("rb")
            self._made(path, write)
        return path.open("rb")

    def put(self, key: str, content: bytes) -> None:
        """Keep `content` as the file of `key`, in place of one that may be there."""
        self._made(self._path(key), lambda file: _write(file, content))

    def read(self, key: str) -> bytes | None:
        """The content of the file of `key`, None if it is not there."""
        path = self._path(key)
        try:
            os.utime(path)
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, key: str) -> Path:
        return (self.folder or _own_folder()) / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    def _made(self, path: Path, write: Callable[[BinaryIO], None]) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:16]}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                size = file.tell()
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
        self._keep_small(path, size)

    def _keep_small(self, newest: Path, size: int) -> None:
        folder = newest.parent
        written = _written.get(folder, self.most_bytes) + size
        _written[folder] = written if written * SCAN_SHARE < self.most_bytes else 0
        if _written[folder]:
            return
        files = []
        for path in folder.iterdir():
            with suppress(OSError):  # another process removed it
                status = path.stat()
                if not path.name.startswith("."):
                    files.append((status.st_mtime_ns, status.st_size, path))
                elif time.time() - status.st_mtime > LEFT_OVER_S:
                    path.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.most_bytes:
                break
            if path != newest:
                with suppress(OSError):
                    path.unlink()
                total -= size


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)


@lru_cache(maxsize=1)
def _own_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="modic-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
