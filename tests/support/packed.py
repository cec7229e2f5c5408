"""Containers of DICOM files for tests: the same files in every kind that modic reads."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydicom.dataset import Dataset

from adversaries import encoded

Files = Mapping[str, bytes]


def named(slices: Iterable[Dataset], folder: str = "s") -> dict[str, bytes]:
    """The files of some slices by name."""
    return {f"{folder}/{number:03}": encoded(slice_) for number, slice_ in enumerate(slices)}


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as file:
        for name, member in files.items():
            file.writestr(name, member)
    return content.getvalue()


def tarred(files: Files, mode: str = "w", mtime: float = 1_600_000_000.25) -> bytes:
    """A tar file in the format of GNU, which holds whole seconds, or in that of POSIX if they are not whole."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as file:  # type: ignore[call-overload]
        for name, member in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(member), mtime  # type: ignore[assignment]
            file.addfile(info, io.BytesIO(member))
    return content.getvalue()


def _one(name: str, pack: Callable[[Files], bytes]) -> Callable[[Files, Path], None]:
    def write(files: Files, folder: Path) -> None:
        (folder / name).write_bytes(pack(files))

    return write


def _each_gzipped(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))


KINDS: dict[str, Callable[[Files, Path], None]] = {
    "zip stored": _one("a.zip", lambda files: zipped(files, zipfile.ZIP_STORED)),
    "zip deflated": _one("a.ZIP", zipped),
    "tar": _one("a.tar", tarred),
    "tar.gz": _one("a.tar.gz", lambda files: tarred(files, "w:gz")),
    "tgz": _one("a.TGZ", lambda files: tarred(files, "w:gz")),
    "gz each": _each_gzipped,
    "zip in zip": _one("a.zip", lambda files: zipped({"in/b.zip": zipped(files)})),
    "tar.gz in tar": _one("a.tar", lambda files: tarred({"b.tar.gz": tarred(files, "w:gz")})),
    "gz in zip": _one("a.zip", lambda files: zipped({f"{k}.gz": gzip.compress(v, 1) for k, v in files.items()})),
}
"""Writes files into a folder, packed; `KINDS` of one container, and of a file each."""
