"""Where images come from: the protocol of every source. modic/archive/README.md says how to add one.

The crawl lists a source and reads its headers; modic.imaging.load opens its images for their pixels, in other processes
and on other machines, from the path and the member that the crawl remembered (modic/archive/sources.py).
"""

import hashlib
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

from modic.errors import Reason

Row = dict[str, Any]
UNKNOWN_TIME = -1
"""Modification time of a file that could not be opened. The header index then tries it again in each crawl, because
permissions and mounts heal without changing the file."""


def mtime_of(status: os.stat_result) -> int:
    """Modification time, ns, in 64 bits: a time before 1678 or after 2262 becomes another number, as good as its own
    for telling that the file has not changed."""
    return (status.st_mtime_ns + 2**63) % 2**64 - 2**63


def fingerprint(text: str) -> int:
    """56 bits of the SHA-256 of a text, in place of a modification time."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:7])


class File(NamedTuple):
    """One file that a source lists. A tuple, because an archive holds millions."""

    path: str
    size: int  # bytes
    mtime_ns: int  # size and this are the fingerprint: if both are as before, the file is not opened again
    refused: Reason | None = None  # why it cannot be opened
    member: str | None = None  # name within a container such as a zip file; None for a plain file
    container: bool = False  # holds files (`Source.members`), which are listed only if its fingerprint is new

    @property
    def key(self) -> str:
        """What no other file of the source has."""
        return self.path if self.member is None else f"{self.path}\0{self.member}"


class Unopened(Exception):
    """Why a container cannot be read, or not to its end. It stays so until the container changes."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Opens(Protocol):
    """What opens the images of a study: a source, or what stands in its place (modic/run/read_ahead.py)."""

    def state(self, path: str, member: str | None) -> tuple[int, int]:
        """Size in bytes and modification time in ns, as `files` lists them now. Raises OSError if the file is gone."""
        ...

    def open(self, path: str, member: str | None) -> BinaryIO:
        """The whole file, for its pixels; it can be sought. Raises OSError if it cannot be opened."""
        ...


class Source(Opens, Protocol):
    """A place that holds DICOM files. Instances are pickled, because several processes read headers.

    `path` and `member` are those of a `File` that the source listed.
    """

    @property
    def name(self) -> str:
        """What messages to the user call it."""
        ...

    def files(self) -> Iterator[File]:
        """Every file and container once, always in the same order, without opening it.

        Raises UsageError if the source cannot be listed.
        """
        ...

    def members(self, container: File) -> Iterator[File]:
        """The files of a container, or the container itself as a `File` without a member if it is a plain file.

        Raises `Unopened` or OSError if it cannot be listed to its end; the members so far count.
        """
        ...

    def read_rows(self, path: str, member: str | None) -> list[Row] | Reason:
        """Header rows of one file, one for each frame, or the reason why it has none (modic.archive.headers.read_rows).

        Raises OSError if the file cannot be opened.
        """
        ...
