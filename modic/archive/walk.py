"""Every file under a folder once, in sorted order of folders and names. No file is opened.

A link to a place inside the folder is skipped, because the place itself is walked. A link to a folder outside is
followed once, unless that folder holds the one that is walked.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modic.archive.source import UNKNOWN_TIME, File, mtime_of
from modic.errors import Reason, UsageError

UNDECODED, PRIVATE = 0xDC00, 0xF700
"""A path may hold bytes that are not UTF-8. Python writes such a byte as the character UNDECODED + byte, which no table
can hold; tables hold PRIVATE + byte (a private-use character) instead. A path that itself holds such a private-use
character gets PRIVATE + byte for each of its bytes, so that no two paths look alike."""
BYTES = range(0x80, 0x100)
FROM_TEXT = {PRIVATE + byte: UNDECODED + byte for byte in BYTES}
TO_TEXT: dict[int, int | str] = {
    **{UNDECODED + byte: PRIVATE + byte for byte in BYTES},
    **{PRIVATE + byte: "".join(chr(PRIVATE + part) for part in chr(PRIVATE + byte).encode()) for byte in BYTES},
}


def walk(folder: Path) -> Iterator[File]:
    """Every file under `folder`. Raises UsageError if it cannot be listed."""
    root = folder.resolve()
    outside: set[Path] = set()
    folders = [str(root)]
    while folders:
        path = folders.pop()
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=_name)
        except OSError as error:
            if path == str(root):
                raise UsageError(f"the archive {folder} cannot be listed: {error.strerror}") from error
            yield File(as_text(path), -1, UNKNOWN_TIME, Reason.FILE_UNREADABLE)
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
    except OSError:  # links that only lead to each other, a stale mount: `_describe` calls them unreadable
        return False


def _follow(link: Path, root: Path, outside: set[Path]) -> bool:
    """Whether a link leads to something that is not walked anyway; adds a folder to `outside`."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # broken, or a loop of links: `_describe` calls it unreadable
        return True
    if target.is_relative_to(root) or root.is_relative_to(target):
        return False
    if any(target.is_relative_to(folder) or folder.is_relative_to(target) for folder in outside):
        return False
    if target.is_dir():
        outside.add(target)
    return True


def _describe(entry: "os.DirEntry[str]") -> File:
    path = as_text(entry.path)
    try:
        status = entry.stat()
    except OSError:
        reason = Reason.FILE_UNREADABLE if entry.is_symlink() else Reason.FILE_VANISHED
        return File(path, -1, UNKNOWN_TIME, reason)
    regular = stat.S_ISREG(status.st_mode)
    return File(path, status.st_size, mtime_of(status), None if regular else Reason.FILE_UNREADABLE)


def as_text(path: str) -> str:
    """A path as tables hold it: unchanged, but for bytes that are not UTF-8."""
    return path if path.isascii() else path.translate(TO_TEXT)


def on_disk(text: str) -> str:
    """The path under which `walk` found the file that it called `text`."""
    return text if text.isascii() else text.translate(FROM_TEXT)
