"""Images in a folder of any depth, the usual source."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from modic.archive.headers import read_rows
from modic.archive.source import File, Row, mtime_of
from modic.archive.walk import as_text, on_disk, open_deep, walk
from modic.errors import Reason, UsageError


@dataclass(frozen=True, slots=True)
class FolderSource:
    """The files under `root`, or the file `root` alone.

    Paths of files are absolute, so `root` is needed for nothing but the list of files.
    """

    root: Path = Path("/")

    @property
    def name(self) -> str:
        """The folder as the user wrote it."""
        return str(self.root)

    def files(self) -> Iterator[File]:
        """Every file under the root, in sorted order. Raises UsageError if there is no root or it is not listable."""
        if self.root.is_file():
            path = as_text(str(self.root.resolve()))
            return iter([File(path, *self.state(path))])
        if not self.root.is_dir():
            trouble = "is neither a folder nor a file" if self.root.exists() else "does not exist"
            raise UsageError(f"the archive {self.root} {trouble}")
        return walk(self.root)

    def members(self, container: File) -> Iterator[File]:
        """No file holds others here (modic/archive/containers.py)."""
        yield container

    def read_rows(self, path: str, member: str | None = None) -> list[Row] | Reason:
        """Header rows of the file at `path`, or the reason why it has none. Raises OSError if it cannot be opened."""
        with _opened(on_disk(path), buffering=0) as file:
            return read_rows(file)

    def state(self, path: str, member: str | None = None) -> tuple[int, int]:
        """Size in bytes and modification time in ns. Raises OSError if the file is gone."""
        try:
            status = Path(on_disk(path)).stat()
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            with _opened(on_disk(path)) as file:
                status = os.fstat(file.fileno())
        return status.st_size, mtime_of(status)

    def open(self, path: str, member: str | None = None) -> BinaryIO:
        """The file at `path`. Raises OSError if it cannot be opened."""
        return _opened(on_disk(path))


def _opened(path: str, buffering: int = -1) -> BinaryIO:
    try:
        return open(path, "rb", buffering)  # noqa: PTH123  (a Path a file is slow)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return os.fdopen(open_deep(path), "rb", buffering)
