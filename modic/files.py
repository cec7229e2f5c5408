"""Files that appear whole or not at all: text, JSON, Parquet. Their owner alone may write them and their folders."""

import errno
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}(\.part\.parquet)?\.tmp")
"""Form of the hidden name under which a file lies until it is whole."""
ROW_GROUP = 100_000
"""Rows of a Parquet file that are read together."""
LEFT_OVER_S = 180.0
"""Seconds after which an unfinished file that nobody touched is taken for that of a killed process."""
NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
NO_FOLDER_SYNC = NO_SYNC | {errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}
"""What file systems answer that cannot make a file, or the names in a folder, durable when asked (CIFS: EINVAL)."""


def read_json(path: Path) -> dict[str, Any] | None:
    """The keys and values in a JSON file; None if it is missing, damaged or holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Any) -> Path:
    """Write `value`, dataclasses in it by their fields, as JSON with `write_whole`; returns `path`.

    Names that are not UTF-8 are escaped.
    """
    text = json.dumps(value, ensure_ascii=False, default=_by_field)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, default=_by_field)
    return write_whole(path, text)


def _by_field(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write `path` so that it appears whole or not at all, also after a kill or a power cut; returns it."""
    with _whole(path, f".{path.name}.{secrets.token_hex(4)}.tmp") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file that appears whole or not at all, also after a kill or a power cut.

    Until it is whole it lies beside `path` under a hidden name that pandas, pyarrow and DuckDB ignore.
    """
    write_tables([table], table.schema, path)


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """As `write_table`, one table after the other, so that no more than one need be in memory."""
    with (
        _whole(path, f".{path.stem}.{secrets.token_hex(4)}.part.parquet.tmp") as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in tables:
            writer.write_table(table, row_group_size=ROW_GROUP)


def in_row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of `tables`, of one schema, as tables of `ROW_GROUP` rows; the last one has fewer."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) > ROW_GROUP:
            whole = pa.concat_tables(waiting)
            yield whole[:ROW_GROUP].combine_chunks()
            waiting = [whole[ROW_GROUP:]]
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


@contextmanager
def _whole(path: Path, name: str) -> Iterator[IO[bytes]]:
    """A new file called `name` beside `path`, which it replaces if the block ends well, and is removed otherwise."""
    temporary = path.with_name(name)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644 & _mode_beside(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            sync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_folder(path: Path) -> Path:
    """Make a folder and its parents if they are missing; returns it.

    Whatever the umask, only the owner may write there; below a folder that is closed to others, only he may read.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(0o755 & _mode_beside(path), exist_ok=True)
    return path


def _mode_beside(path: Path) -> int:
    """0o700 in a folder that is closed to everybody but its owner, else 0o777."""
    return 0o777 if path.parent.stat().st_mode & 0o077 else 0o700


def sync_directory(path: Path) -> None:
    """Make the names in a directory as durable as the files, where the file system can do so."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in NO_FOLDER_SYNC:
            return
        raise
    try:
        sync(descriptor, NO_FOLDER_SYNC)
    finally:
        os.close(descriptor)


def sync(descriptor: int, cannot: frozenset[int] = NO_SYNC) -> None:
    """Make an open file durable, unless its file system answers that it cannot do so."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in cannot:
            raise


def time_there(folder: Path) -> float:
    """Seconds since 1970 by the clock that dates the files of `folder`, which may be another machine's."""
    path = folder / f".clock.{secrets.token_hex(4)}.tmp"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)


def is_left_over(path: Path, now: float) -> bool:
    """Whether nobody has touched a file, or a folder and the files in it, for LEFT_OVER_S; `now`: `time_there`."""
    try:
        times = [path.lstat().st_mtime, *(inner.lstat().st_mtime for inner in _files_in(path))]
    except FileNotFoundError:  # somebody is at work there
        return False
    return now - max(times) >= LEFT_OVER_S


def _files_in(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() and not path.is_symlink() else []
