"""Every file of an archive once, in sorted order of folders and names, with what its folder says of it; none is opened.

A link to a place inside the archive is passed over, since the place itself is walked; a link to a folder outside is
followed once, unless that folder holds the archive.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modic.errors import Reason, UsageError

AGAIN = -1
"""Modification time in the index of what could not be opened: permissions and mounts heal without a new one."""

LONE, PRIVATE = 0xDC00, 0xF700
"""Bytes from 0x80 on that are not UTF-8 are LONE + byte in Python's paths, which no table holds, and PRIVATE + byte (a
private-use character) in ours. The bytes of a name that holds such a character itself become PRIVATE + byte as well."""
BYTES = range(0x80, 0x100)
FROM_TEXT = {PRIVATE + byte: LONE + byte for byte in BYTES}
TO_TEXT: dict[int, int | str] = {
    **{LONE + byte: PRIVATE + byte for byte in BYTES},
    **{PRIVATE + byte: "".join(chr(PRIVATE + one) for one in chr(PRIVATE + byte).encode()) for byte in BYTES},
}

File = tuple[str, int, int, Reason | None]
"""Path, size in bytes, modification time in ns, and why it cannot be opened. A tuple, since there are millions."""


def walk(archive: Path) -> Iterator[File]:
    """Every file under `archive`. Raises UsageError where that cannot be listed."""
    root = archive.resolve()
    outside: set[Path] = set()
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=_name)
        except OSError as error:
            if folder == str(root):
                raise UsageError(f"the archive {archive} cannot be listed: {error.strerror}") from error
            yield _text(folder), -1, AGAIN, Reason.FILE_UNREADABLE
            continue
        inner = []
        for entry in entries:
            if entry.is_symlink() and not _follow(Path(entry.path), root, outside):
                continue
            if _is_folder(entry):
                inner.append(entry.path)
            else:
                yield _describe(entry)
        folders.extend(reversed(inner))


def _name(entry: "os.DirEntry[str]") -> str:
    return entry.name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that only lead to each other, a stale mount: described as unreadable
        return False


def _follow(link: Path, root: Path, outside: set[Path]) -> bool:
    """Whether a link leads to something that is not walked anyway."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # broken, or a loop of links: described as unreadable
        return True
    if target.is_relative_to(root) or root.is_relative_to(target):
        return False
    if any(target.is_relative_to(one) or one.is_relative_to(target) for one in outside):
        return False
    if target.is_dir():
        outside.add(target)
    return True


def _describe(entry: "os.DirEntry[str]") -> File:
    path = _text(entry.path)
    try:
        status = entry.stat()
    except OSError:
        return path, -1, AGAIN, Reason.FILE_UNREADABLE if entry.is_symlink() else Reason.FILE_VANISHED
    regular = stat.S_ISREG(status.st_mode)
    return path, status.st_size, status.st_mtime_ns, None if regular else Reason.FILE_UNREADABLE


def _text(path: str) -> str:
    """A path that a table can hold: itself, but for bytes that are not UTF-8 (names of the time before it)."""
    return path if path.isascii() else path.translate(TO_TEXT)


def on_disk(text: str) -> str:
    """The path under which `walk` found the file that it called `text`."""
    return text if text.isascii() else text.translate(FROM_TEXT)
