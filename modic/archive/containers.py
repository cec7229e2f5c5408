"""Images inside zip, tar, tar.gz and gz files, read where they lie.

| what        | is listed by             | fingerprint of a member        | is read                                    |
|-------------|--------------------------|--------------------------------|--------------------------------------------|
| zip         | its directory            | size, CRC                      | in place, no further than needed           |
| tar         | the heads of its members | size, modification time        | in place                                   |
| tar.gz, tgz | unpacked once (cache.py) | size, modification time        | from the unpacked tar                      |
| gz          | it is one file           | size and time of the gz itself | in place, no further than needed           |

A container in a container, `DEPTH` deep, is copied to the cache once and then read as above.

The ending of its name makes a file a container (`is_container`), and its first bytes say which: with another ending it
is not recognized, and an image that happens to end in `.zip` is an image. `INSIDE` joins the names of members in
containers in containers, and path and member where both stand in one text (`full_name`).

A few bytes may unpack to a full disk, so nothing is unpacked beyond these limits, and the reason says so:
a member of `MAX_BYTES`; a member, or a whole container, that unpacks to over `MAX_RATIO` times its size and over
`SMALL` bytes; `MAX_MEMBERS` members (all in container_members.py); a tar.gz larger than the cache; containers more than
`DEPTH` deep.
"""

import gzip
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO, BinaryIO, cast

from modic.archive.cache import Cache
from modic.archive.container_members import CHUNK, DAMAGE, Folder, TarFolder, Unpacked, ZipFolder, is_bomb
from modic.archive.headers import MAX_BYTES, read_rows
from modic.archive.source import File, Row, Source, Unopened
from modic.errors import Reason
from modic.resources import memory_limit

INSIDE = "!/"
LISTED = (".zip", ".tar", ".tar.gz", ".tgz")
PACKED = ".gz"
DEPTH = 2
OVERHEAD, MAX_DEFLATED = 32, 1032  # bytes of a gz's head; as many bytes deflate makes of one at most (RFC 1951)
ZIP, GZIP = b"PK", b"\x1f\x8b"
LIST_MIB = 2048  # of memory for listing one container


def is_container(name: str) -> bool:
    """Whether a file of this name is looked into."""
    return name.endswith(LISTED) or (name[-1:] in "PRZpz" and name.lower().endswith(LISTED))


def full_name(path: str, member: str | None) -> str:
    """One text for a file: `a.zip!/dir/1.dcm`."""
    return path if member is None else f"{path}{INSIDE}{member}"


def place_of(name: str) -> tuple[str, str | None]:
    """Path and member of a file by its `full_name`."""
    path, inside, member = name.partition(INSIDE)
    while inside and not (is_container(path) or "://" in path):
        more, inside, member = member.partition(INSIDE)
        path = f"{path}{INSIDE}{more}"
    return (path, member) if inside else (name, None)


@dataclass(frozen=True, slots=True)
class Containers:
    """The files of another source, and those inside its containers."""

    base: Source
    cache: Cache = field(default_factory=Cache)

    @property
    def name(self) -> str:
        """As the other source is called."""
        return self.base.name

    def files(self) -> Iterator[File]:
        """Every file and container. Raises UsageError if the other source cannot be listed."""
        for file in self.base.files():
            yield file._replace(container=True) if is_container(file.path) and not file.refused else file

    def members(self, container: File) -> Iterator[File]:
        """Every member, folders and links apart. Raises `Unopened` or OSError, if need be after the members so far."""
        if _is_dicom(self.base, container.path):
            yield container._replace(container=False)
            return
        yield from _listed(self, container.path, "", self.base.state(container.path, None))

    def read_rows(self, path: str, member: str | None = None) -> list[Row] | Reason:
        """Header rows of a file (modic.archive.headers.read_rows). Raises OSError if it cannot be opened."""
        if member is None and not path.lower().endswith(PACKED):
            return self.base.read_rows(path, None)
        try:
            with self._open(path, member) as file:
                return read_rows(file)
        except Unopened as refused:
            return refused.reason

    def state(self, path: str, member: str | None = None) -> tuple[int, int]:
        """Size and fingerprint as `files` and `members` give them. Raises OSError if the file is gone."""
        state = self.base.state(path, None)
        if member is None:
            return state
        try:
            folder, name = _folder(self, path, member, state)
        except Unopened as refused:
            raise OSError(f"a container: {refused}") from refused
        return folder.entry(name).state

    def open(self, path: str, member: str | None = None) -> BinaryIO:
        """A file, unpacked as far as it is read. Raises OSError if it is gone or cannot be opened."""
        try:
            return self._open(path, member)
        except Unopened as refused:
            raise OSError(f"a container: {refused}") from refused

    def _open(self, path: str, member: str | None) -> BinaryIO:
        with _opening():
            if member is None:
                return _unzipped(self.base.open(path, None), path)
            folder, name = _folder(self, path, member, self.base.state(path, None))
            return _unzipped(folder.open(name), name)


def _folder(containers: Containers, path: str, member: str, state: tuple[int, int]) -> tuple[Folder, str]:
    """The innermost container of a member, and the member's name in it."""
    *outer, name = _names(member)
    return _opened(containers, path, INSIDE.join(outer), state), name


def _names(member: str) -> list[str]:
    """The names of containers in containers, the innermost file last."""
    names: list[str] = []
    rest: str | None = member
    while rest is not None:
        name, rest = place_of(rest)
        names.append(name)
    return names


@contextmanager
def _opening() -> Iterator[None]:
    """Turn what the libraries raise about a container, or a member of one, into `Unopened`."""
    try:
        yield
    except MemoryError as error:
        raise Unopened(Reason.FILE_CONTAINER_OVER_LIMIT) from error
    except DAMAGE as error:
        raise Unopened(Reason.FILE_CONTAINER_DAMAGED) from error
    except NotImplementedError as error:
        raise Unopened(Reason.FILE_CONTAINER_UNSUPPORTED) from error


@lru_cache(maxsize=4)
def _opened(containers: Containers, path: str, outer: str, state: tuple[int, int]) -> Folder:
    """The container at `path`, of this state, or the one named `outer` within it. Raises `Unopened` or OSError."""
    with _opening(), memory_limit(LIST_MIB):
        return _open_folder(containers, path, outer, state)


def _open_folder(containers: Containers, path: str, outer: str, state: tuple[int, int]) -> Folder:
    if not outer:
        return _folder_of(containers.base.open(path, None), containers.cache, f"{path}\0{state}", state[1])
    folder, name = _folder(containers, path, outer, state)
    key = f"{path}\0{outer}\0{folder.entry(name).state}"
    file = containers.cache.open(key, lambda copy: _copy_member(folder, name, copy, containers.cache.most_bytes))
    return _folder_of(file, containers.cache, f"{key}\0unpacked", state[1])


def _folder_of(file: BinaryIO, cache: Cache, key: str, time_ns: int) -> Folder:
    """The container in an open file, by its first bytes."""
    try:
        head = file.read(2)
        if head.startswith(GZIP):
            with file:
                return TarFolder(cache.open(key, lambda tar: _unpack(file, tar, cache.most_bytes)), time_ns)
        if head.startswith(ZIP):
            return ZipFolder(file)
        return TarFolder(file, time_ns)
    except BaseException:
        file.close()
        raise


def _unpack(packed: BinaryIO, tar: BinaryIO, most: int) -> None:
    size = packed.seek(0, io.SEEK_END)
    packed.seek(0)
    with gzip.open(packed) as file:
        _copy(cast(IO[bytes], file), tar, most, size)


def _copy_member(folder: Folder, name: str, target: BinaryIO, most: int) -> None:
    with folder.open(name) as source:
        _copy(source, target, most)


def _copy(source: IO[bytes], target: BinaryIO, most: int, packed: int | None = None) -> None:
    """Copy a file. Raises `Unopened` beyond `most` bytes, or if it is a bomb of `packed` bytes."""
    copied = 0
    while chunk := source.read(2**20):
        copied += target.write(chunk)
        if copied > most or (packed is not None and is_bomb(copied, packed)):
            raise Unopened(Reason.FILE_CONTAINER_OVER_LIMIT)


def _listed(containers: Containers, path: str, outer: str, state: tuple[int, int], depth: int = 1) -> Iterator[File]:
    """The members of a container; `depth` counts the containers it is in, itself included."""
    folder = _opened(containers, path, outer, state)
    for name, entry in folder.entries.items():
        member = f"{outer}{INSIDE}{name}" if outer else name
        file = File(path, *entry.state, entry.refused, member)
        if entry.refused or not is_container(name):
            yield file
        elif depth == DEPTH:
            yield file._replace(refused=Reason.FILE_CONTAINER_OVER_LIMIT)
        else:
            yield from _inner(containers, file, state, depth + 1)
    if folder.trouble:
        raise Unopened(folder.trouble)


def _inner(containers: Containers, file: File, state: tuple[int, int], depth: int) -> Iterator[File]:
    """The members of a container in a container; its own refusal costs nothing else."""
    try:
        yield from _listed(containers, file.path, file.member or "", state, depth)
    except Unopened as refused:
        yield file._replace(refused=refused.reason)


def _is_dicom(base: Source, path: str) -> bool:
    with base.open(path, None) as file:
        return file.read(132)[128:] == b"DICM"


def _unzipped(file: BinaryIO, name: str) -> BinaryIO:
    """The content of a gz file by the length at its end; any other file as it is."""
    if not name.lower().endswith(PACKED):
        return file
    head, packed = file.read(2), file.seek(0, io.SEEK_END)
    if head != GZIP or packed < 18:
        file.seek(0)
        return file
    file.seek(-4, io.SEEK_END)
    (size,) = struct.unpack("<I", file.read(4))
    file.seek(0)
    told = packed - packed // 50 - OVERHEAD <= size <= MAX_DEFLATED * packed
    if not told:
        size = _counted_size(file, packed)
    if size > MAX_BYTES or is_bomb(size, packed):
        file.close()
        raise Unopened(Reason.FILE_CONTAINER_OVER_LIMIT if size <= MAX_BYTES else Reason.FILE_CONTAINER_DAMAGED)
    return Unpacked(cast(IO[bytes], gzip.GzipFile(fileobj=file)), size, file, checked=not told).as_binary()


def _counted_size(file: BinaryIO, packed: int) -> int:
    """How much a gz file unpacks to if its end does not say: it has several parts, or something else behind them."""
    size = 0
    with gzip.GzipFile(fileobj=file) as stream:
        while more := _next(stream):
            size += len(more)
            if size > MAX_BYTES or is_bomb(size, packed):
                raise Unopened(Reason.FILE_CONTAINER_OVER_LIMIT)
    file.seek(0)
    return size


def _next(stream: gzip.GzipFile) -> bytes:
    """The next bytes; none where the parts of a gz file end, whatever lies behind."""
    try:
        return stream.read1(CHUNK)
    except gzip.BadGzipFile as error:
        if str(error).startswith("Not a gzipped file"):
            return b""
        raise  # a part with another CRC than it says
