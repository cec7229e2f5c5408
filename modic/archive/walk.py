"""Every file under a folder once, in sorted order of folders and names. No file is opened.

A link to a place inside the folder is skipped, because the place itself is walked. A link to a folder outside is
followed once, unless that folder holds the one that is walked.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from modic.archive.source import UNKNOWN_TIME, File, mtime_of
from modic.errors import Reason, UsageError

UNDECODED, PRIVATE = 0xDC00, 0xF700
"""A path may hold bytes that are not UTF-8. Python writes such a byte as the character UNDECODED + byte, which no table
can hold; tables hold PRIVATE + byte (a private-use character) instead. A path that itself holds such a private-use
character gets PRIVATE + byte for each of its bytes, so that no two paths look alike."""
DEEP, NAMES_AT_ONCE = 4095 - 256, 15
"""Bytes of a folder's path above which a name in it (255 bytes at most) may make a path too long; and how many names
are surely short enough together."""
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
        inner = []
        with ExitStack() as stack:
            try:
                entries = _listed(path, stack)
            except OSError as error:
                if path == str(root):
                    raise UsageError(f"the archive {folder} cannot be listed: {error.strerror}") from error
                yield File(as_text(path), -1, UNKNOWN_TIME, Reason.FILE_FOLDER_UNREADABLE)
                continue
            for entry in entries:
                place = f"{path.rstrip('/')}/{entry.name}"
                if entry.is_symlink() and not _follow(Path(place), root, outside):
                    continue
                if _is_folder(entry) and not (entry.is_symlink() and _is_deep(path)):
                    inner.append(place)
                else:
                    yield _describe(entry, place)
        folders.extend(reversed(inner))


def _is_deep(path: str) -> bool:
    """Whether files in this folder may have paths that the system takes in one piece no more."""
    return len(path) > DEEP // 4 and len(os.fsencode(path)) > DEEP


def _listed(path: str, stack: ExitStack) -> "list[os.DirEntry[str]]":
    """The entries of a folder, sorted; of a deep one they can be asked as long as `stack` lives."""
    place: str | int = path
    if _is_deep(path):
        place = open_deep(path, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, place)
    with os.scandir(place) as listing:
        return sorted(listing, key=_name)


def open_deep(path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a file or folder whose absolute path may be longer than the system takes (4,095 bytes)."""
    names = path.split("/")[1:]
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        while len(names) > NAMES_AT_ONCE:
            piece, names = "/".join(names[:NAMES_AT_ONCE]), names[NAMES_AT_ONCE:]
            inner = os.open(piece, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open("/".join(names), flags, dir_fd=folder)
    finally:
        os.close(folder)


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


def _describe(entry: "os.DirEntry[str]", place: str) -> File:
    path = as_text(place)
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
