"""The members of one open zip or tar file, and their bytes, unpacked as far as they are read."""

import gzip
import io
import struct
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from modic.archive.headers import MAX_BYTES
from modic.archive.source import Unopened
from modic.archive.walk import as_text
from modic.errors import Reason

SMALL, MAX_RATIO = 2**30, 200  # MR images pack to a half or a third; blank ones to a thousandth
MAX_MEMBERS, MAX_DIRECTORY = 1_000_000, 10**8  # bytes of a zip's directory
CHUNK, BLOCK = 2**16, 512
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks 4 KiB of others to gigabytes at a time
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, struct.error, ValueError)


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
        self._same: Counter[str] = Counter()  # members of one name so far, but for the first
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

    def _add(self, name: str, entry: Entry) -> None:
        """Add a member. The last of a name keeps it; those before, which unpacking would lose, get a number."""
        while name in self.entries:
            self._same[name] += 1
            folder, slash, file = name.rpartition("/")
            earlier = f"{folder}{slash}({self._same[name]}) {file}"
            if earlier not in self.entries:
                self.entries[earlier] = self.entries.pop(name)
        self.entries[name] = entry

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
        if len(members) > MAX_MEMBERS or is_bomb(total, self.size):
            raise Unopened(Reason.FILE_CONTAINER_OVER_LIMIT)
        for info in members:
            self._add(info.filename, Entry((info.file_size, info.CRC), info, _refusal(info)))

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
    over = info.file_size > MAX_BYTES or is_bomb(info.file_size, info.compress_size)
    return Reason.FILE_CONTAINER_OVER_LIMIT if over else None


def is_bomb(size: int, packed: int) -> bool:
    """Whether so few bytes that unpack to so many are no images."""
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
            self._add(as_text(info.name), Entry(state, info.offset_data, refused))

    def open(self, name: str) -> BinaryIO:
        """A member, in place."""
        entry = self.entry(name)
        assert isinstance(entry.place, int)
        return Part(self, entry.place, entry.state[0]).as_binary()


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
    """A packed stream, unpacked as far as it was read, and kept in memory; `owner` is closed or kept with it.

    `checked`: it was unpacked once, so nothing behind its content needs to be read, where the check sum is.
    """

    def __init__(self, stream: IO[bytes], size: int, owner: BinaryIO | Folder, *, checked: bool = False) -> None:
        super().__init__(size)
        self._stream, self._owner, self._content, self._checked = stream, owner, bytearray(), checked

    def bytes_at(self, size: int, at: int) -> bytes:
        """Bytes of the content. Raises EOFError if the stream is shorter than it says."""
        while len(self._content) < at + size:
            wanted = max(CHUNK, at + size - len(self._content))
            more = self._stream.read(min(wanted, self._size - len(self._content)) if self._checked else wanted)
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
