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
`SMALL` bytes; `MAX_MEMBERS` members; a tar.gz larger than the cache; containers more than `DEPTH` deep.
"""

import gzip
import io
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO, BinaryIO, cast

from modic.archive.cache import Cache
from modic.archive.headers import MAX_BYTES, read_rows
from modic.archive.source import File, Row, Source, Unopened
from modic.archive.walk import as_text
from modic.errors import Reason
from modic.resources import memory_limit

INSIDE = "!/"
LISTED = (".zip", ".tar", ".tar.gz", ".tgz")
PACKED = ".gz"
DEPTH = 2
SMALL, MAX_RATIO = 2**30, 200  # MR images pack to a half or a third; blank ones to a thousandth
MAX_MEMBERS, MAX_DIRECTORY = 1_000_000, 10**8  # bytes of a zip's directory
CHUNK, BLOCK = 2**16, 512
ZIP, GZIP = b"PK", b"\x1f\x8b"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks 4 KiB of others to gigabytes at a time
LIST_MIB = 2048  # of memory for listing one container
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, struct.error, ValueError)


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


@dataclass(frozen=True, slots=True)
class Entry:
    """A member: its fingerprint, and where it lies."""

    state: tuple[int, int]
    place: zipfile.ZipInfo | int  # or the byte of a tar at which it begins
    refused: Reason | None = None


class Folder:
    """The members of one open container."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()
        self.entries: dict[str, Entry] = {}
        self.trouble: Reason | None = None  # why there may be more members
        self.size = file.seek(0, io.SEEK_END)

    def __del__(self) -> None:
        self._file.close()

    def entry(self, name: str) -> Entry:
        """Raises FileNotFoundError if there is no such member."""
        try:
            return self.entries[name]
        except KeyError:
            raise FileNotFoundError("no such member") from None

    def open(self, name: str) -> BinaryIO:
        """A member, whether it was refused or not."""
        raise NotImplementedError

    def read_at(self, size: int, at: int) -> bytes:
        """Bytes of the container."""
        with self._lock:
            self._file.seek(at)
            return self._file.read(size)


class ZipFolder(Folder):
    """The members of a zip file. Raises `Unopened` if it has none to be trusted."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._check_directory()
        self._zip = zipfile.ZipFile(file)
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        total = sum(info.file_size for info in members)
        if len(members) > MAX_MEMBERS or _is_bomb(total, self.size):
            raise Unopened(Reason.FILE_CONTAINER_OVER_LIMIT)
        self.entries = {info.filename: Entry((info.file_size, info.CRC), info, _refusal(info)) for info in members}

    def _check_directory(self) -> None:
        tail = self.read_at(CHUNK + 22, max(0, self.size - CHUNK - 22))
        end, end64 = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
        if end < 0:
            raise Unopened(Reason.FILE_CONTAINER_DAMAGED)
        (length,) = struct.unpack_from("<I", tail, end + 12)
        if length == 2**32 - 1 and end64 >= 0:
            (length,) = struct.unpack_from("<Q", tail, end64 + 40)
        if length > MAX_DIRECTORY:
            raise Unopened(Reason.FILE_CONTAINER_OVER_LIMIT)

    def open(self, name: str) -> BinaryIO:
        """A member, unpacked as far as it is read; its CRC is checked at its end."""
        info = self.entry(name).place
        assert isinstance(info, zipfile.ZipInfo)
        return Unpacked(self._zip.open(info), info.file_size, self).as_binary()


def _refusal(info: zipfile.ZipInfo) -> Reason | None:
    if info.flag_bits & 0x1:
        return Reason.FILE_ENCRYPTED
    if info.compress_type not in METHODS:
        return Reason.FILE_CONTAINER_UNSUPPORTED
    over = info.file_size > MAX_BYTES or _is_bomb(info.file_size, info.compress_size)
    return Reason.FILE_CONTAINER_OVER_LIMIT if over else None


def _is_bomb(size: int, packed: int) -> bool:
    return size > SMALL and size > MAX_RATIO * packed


class TarFolder(Folder):
    """The members of a tar file; `trouble` if it is damaged or cut off behind them.

    `time_ns`: of the container, for members without a time of their own.
    """

    def __init__(self, file: BinaryIO, time_ns: int) -> None:
        super().__init__(file)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:", errorlevel=0) as tar:
            try:
                self._list(tar, time_ns)
            except DAMAGE:
                self.trouble = Reason.FILE_CONTAINER_DAMAGED
            end = self.read_at(BLOCK, tar.offset)
        if len(end) < BLOCK or any(end):  # a whole tar ends with blocks of zeros
            self.trouble = self.trouble or Reason.FILE_CONTAINER_DAMAGED

    def _list(self, tar: tarfile.TarFile, time_ns: int) -> None:
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # (it would keep all)
            if len(self.entries) >= MAX_MEMBERS:
                self.trouble = Reason.FILE_CONTAINER_OVER_LIMIT
                return
            if not info.isreg():
                continue
            own_ns = int(info.mtime * 10**9)
            state = info.size, (own_ns if own_ns > 0 else time_ns) % 2**63
            cut = info.offset_data + info.size > self.size
            refused = Reason.FILE_TRUNCATED if cut else None
            if info.issparse():
                refused = Reason.FILE_CONTAINER_UNSUPPORTED
            self.entries[as_text(info.name)] = Entry(state, info.offset_data, refused)

    def open(self, name: str) -> BinaryIO:
        """A member, in place."""
        entry = self.entry(name)
        assert isinstance(entry.place, int)
        return Part(self, entry.place, entry.state[0]).as_binary()


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
        if copied > most or (packed is not None and _is_bomb(copied, packed)):
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
    if size > MAX_BYTES or _is_bomb(size, packed):
        file.close()
        raise Unopened(Reason.FILE_CONTAINER_OVER_LIMIT if size <= MAX_BYTES else Reason.FILE_CONTAINER_DAMAGED)
    return Unpacked(cast(IO[bytes], gzip.GzipFile(fileobj=file)), size, file).as_binary()


class _Seekable(io.RawIOBase):
    """A file to read, of `size` bytes, by the position in it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._at = size, 0

    def bytes_at(self, size: int, at: int) -> bytes:
        raise NotImplementedError

    def as_binary(self) -> BinaryIO:
        return cast(BinaryIO, self)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._at)
        content = self.bytes_at(left if size is None or size < 0 else min(size, left), self._at)
        self._at += len(content)
        return content

    def readinto(self, buffer: "bytearray") -> int:  # type: ignore[override]
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


class Part(_Seekable):
    """A stretch of a container."""

    def __init__(self, folder: Folder, start: int, size: int) -> None:
        super().__init__(size)
        self._folder, self._start = folder, start

    def bytes_at(self, size: int, at: int) -> bytes:
        """Bytes of this stretch."""
        return self._folder.read_at(size, self._start + at)


class Unpacked(_Seekable):
    """A packed stream, unpacked as far as it was read, and kept in memory; `owner` is closed or kept with it."""

    def __init__(self, stream: IO[bytes], size: int, owner: BinaryIO | Folder) -> None:
        super().__init__(size)
        self._stream, self._owner, self._content = stream, owner, bytearray()

    def bytes_at(self, size: int, at: int) -> bytes:
        """Bytes of the content. Raises EOFError if the stream is shorter than it says."""
        while len(self._content) < at + size:
            more = self._stream.read(max(CHUNK, at + size - len(self._content)))
            if not more:
                raise EOFError("a packed file is shorter than its container says")
            self._content += more
        return bytes(self._content[at : at + size])

    def close(self) -> None:
        """Close the stream too."""
        if not self.closed:
            self._stream.close()
            if not isinstance(self._owner, Folder):
                self._owner.close()
        super().close()
