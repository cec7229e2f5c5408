"""Archive → header rows. Every file is accounted for, and an unchanged file is not opened again.

    files_seen = files_read + files_unchanged + the sum of `rejected` by reason

The index (modic/archive/header_index.py) remembers path, size, modification time and the outcome of every file. A
source (modic/archive/source.py) lists the files and reads their headers. A file in a container counts as a file; the
container itself counts only if it is refused, and is opened only if it changed.
"""

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modic.archive.header_index import CONTAINER, HEADERS, INDEX, DamagedIndex, Place, reading
from modic.archive.header_values import COLUMNS
from modic.archive.known_files import Known, New, merged, new_rows, read_compared
from modic.archive.source import UNKNOWN_TIME, File, Row, Source, Unopened
from modic.archive.sources import check_archive, source_of
from modic.errors import CURES, Reason, UsageError
from modic.text import counted

__all__ = ["COLUMNS", "Crawl", "crawl"]

BATCH = 500  # files read at a time: their rows are Python objects until then, and a process's piece of work
MIN_FOR_PROCESSES = 4_000  # fewer files are read sooner than processes are started
MAX_WAITING = 50  # batches that have been listed and not been read
NO_IMAGE = (Reason.FILE_NOT_DICOM, CONTAINER, *CURES)
Batch = tuple[list[File], pa.Table]


@dataclass(frozen=True, eq=False)
class Crawl:
    """What an archive holds.

    `images`: the columns IMAGES, one row a frame; sorted by path, but those that came lately follow the others.
    `rejected`: path, size, mtime_ns, member, reason.
    `counts`: files_seen, files_read, files_unchanged, rejected {reason: n}; besides these files_opened (read now,
    refused ones included) and files_gone (in the index, not in the archive).
    """

    images: pa.Table
    rejected: pa.Table
    counts: dict[str, Any]
    _index: Place
    _is_image: np.ndarray  # of each row of the index that holds

    @property
    def headers(self) -> pa.Table:
        """The columns HEADERS (those of `images` and COLUMNS), with the rows of `images`."""
        return self.columns(HEADERS.names)

    def columns(self, names: list[str], wanted: pa.ChunkedArray | None = None) -> pa.Table:
        """Some columns of HEADERS, with the rows of `images`, or those for which `wanted` is true. Raises DamagedIndex.

        `wanted`: bool, one value a row.
        """
        with reading(self._index) as index:
            return index.take(names, self._rows(wanted))

    def _rows(self, wanted: pa.ChunkedArray | None) -> np.ndarray:
        """Whether each row of the index that holds is an image that is wanted. bool."""
        rows = self._is_image.copy()
        if wanted is not None:
            rows[rows] = wanted.to_numpy()
        return rows

    def headers_of(self, wanted: pa.ChunkedArray) -> pa.Table:
        """The rows of `headers` for which `wanted` (bool, one value a row) is true, sorted by path.

        Holds no others in memory. Raises DamagedIndex.
        """
        with reading(self._index) as index:
            return index.take_sorted(HEADERS.names, self._rows(wanted))


def crawl(
    archive: Path | Source,
    *,
    index: Path | None,
    on_progress: Callable[[int], None] | None = None,
    processes: int = 1,
) -> Crawl:
    """Read the headers of every file of `archive` that `index` does not know unchanged; rewrites `index`.

    Args:
        archive: folder of files of any kind and depth, or a zip or tar file, or another source of files.
        index: Parquet file to remember in; None reads everything and remembers nothing.
        on_progress: called now and then with the number of files dealt with so far.
        processes: number of processes that read headers, if there are many to read.

    Raises UsageError if the archive is missing, is no folder, cannot be listed, or holds no DICOM file.
    """
    if isinstance(archive, Path):
        check_archive(str(archive))
    source = source_of(archive) if isinstance(archive, Path) else archive
    known = Known(read_compared(index))
    with new_rows(index) as new:
        for batch, rows in _read_all(source, _new_files(source, source.files(), known), processes):
            new.add(batch, rows)
            if on_progress:
                on_progress(known.files_kept + new.files)
        new.end()
        _check_any_dicom(source, known, new)
        try:
            now = merged(index, known, new)
        except DamagedIndex as error:  # in a column that was not compared
            Path(str(error.path)).unlink()
            return crawl(source, index=index, on_progress=on_progress, processes=processes)
    counts = {
        "files_seen": known.files_kept + new.files,
        "files_read": new.files - new.refused,
        "files_unchanged": known.files_kept - (len(now.rejected) - new.refused),
        "rejected": dict(sorted(Counter(now.rejected["reason"].to_pylist()).items())),
        "files_opened": new.opened,
        "files_gone": known.files_gone,
    }
    return Crawl(now.images, now.rejected, counts, now.index, now.is_image)


def _check_any_dicom(source: Source, known: Known, new: New) -> None:
    """Raise UsageError if no row that holds is of a DICOM file."""
    reasons = [known.reasons, *(part["reason"] for part in new.compared)]
    if not all(reason in NO_IMAGE for column in reasons for reason in pc.unique(column).to_pylist()):
        return
    packed = _packed(source, pa.concat_tables([known.remembered.table.filter(pa.array(known.holds)), *new.compared]))
    seen = counted(known.files_kept + new.files, "file")
    raise UsageError(f"the archive {source.name} holds no DICOM file ({seen} seen{packed})")


def _new_files(source: Source, files: Iterable[File], known: Known) -> Iterator[File]:
    """The files that the index does not know as they are now, those inside containers included, and new containers."""
    for file in files:
        if not file.container:
            if not known.has(file):
                yield file
        elif not known.has_container(file):
            yield from _new_members(source, file, known)


def _new_members(source: Source, container: File, known: Known) -> Iterator[File]:
    """The members of a container that the index does not know, and the container, unless it is a plain file."""
    outcome = container
    try:
        for file in source.members(container):
            if file.member is None:
                outcome = file
            elif not known.has(file):
                yield file
    except Unopened as refused:
        outcome = container._replace(refused=refused.reason, container=False)
    except OSError as error:
        outcome = container._replace(mtime_ns=UNKNOWN_TIME, refused=_reason_of(error), container=False)
    yield outcome


def _read_all(source: Source, files: Iterator[File], processes: int) -> Iterator[Batch]:
    """`files` in batches, in their order, each with its table of INDEX."""
    first = list(islice(files, MIN_FOR_PROCESSES + 1))
    batches = _batches(chain(first, files))
    if processes > 1 and len(first) > MIN_FOR_PROCESSES:
        return _in_processes(source, batches, processes)
    return ((batch, _read_batch(source, batch)) for batch in batches)


def _batches(files: Iterator[File]) -> Iterator[list[File]]:
    while batch := list(islice(files, BATCH)):
        yield batch


def _in_processes(source: Source, batches: Iterable[list[File]], processes: int) -> Iterator[Batch]:
    """Each batch with what `_read_batch` returns for it in another process, while more files are listed here.

    A batch is read in this process if others cannot be started, or die.
    """
    pool = ProcessPoolExecutor(processes, mp_context=get_context("forkserver"))
    read = partial(_read_batch, source)
    waiting: deque[tuple[list[File], Future[pa.Table]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, _submit(pool, read, batch)))
            if len(waiting) == MAX_WAITING:
                yield _result(read, *waiting.popleft())
        while waiting:
            yield _result(read, *waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # the processes end while the tables are arranged


Read = Callable[[list[File]], pa.Table]


def _submit(pool: ProcessPoolExecutor, read: Read, batch: list[File]) -> "Future[pa.Table]":
    try:
        return pool.submit(read, batch)
    except (BrokenProcessPool, OSError) as error:  # a working folder that is gone, a TMPDIR too long for a socket
        broken: Future[pa.Table] = Future()
        broken.set_exception(BrokenProcessPool(str(error)))
        return broken


def _result(read: Read, batch: list[File], table: "Future[pa.Table]") -> Batch:
    try:
        return batch, table.result()
    except BrokenProcessPool:
        return batch, read(batch)


def _read_batch(source: Source, files: list[File]) -> pa.Table:
    """The rows of some files."""
    rows: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        for file in files:
            refused = CONTAINER if file.container else file.refused
            mtime_ns, outcome = (file.mtime_ns, refused) if refused else _read(source, file)
            known = {"path": file.path, "size": file.size, "mtime_ns": mtime_ns, "member": file.member, "reason": None}
            if isinstance(outcome, str):
                rows.append({**known, "reason": str(outcome)})
            else:
                rows.extend({**known, **row} for row in outcome)
    return pa.Table.from_pylist(rows, schema=INDEX)


def _read(source: Source, file: File) -> tuple[int, list[Row] | Reason]:
    """The modification time to remember, and the rows of a file or the reason why it has none."""
    try:
        return file.mtime_ns, source.read_rows(file.path, file.member)
    except OSError as error:
        return UNKNOWN_TIME, _reason_of(error)


def _reason_of(error: OSError) -> Reason:
    return Reason.FILE_VANISHED if isinstance(error, FileNotFoundError) else Reason.FILE_UNREADABLE


PACKED = {
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
}
READ = {"zip": ".zip", "gzip": ".gz or .tar.gz", "tar": ".tar"}  # if their names end so (modic/archive/containers.py)
TAR = b"ustar"  # from byte 257
MAX_ASKED = 200  # files whose first bytes are read


def _packed(source: Source, table: pa.Table) -> str:
    """What to do if files are packed: `; 3 7z among the first 200: …`; empty if none is."""
    kinds: Counter[str] = Counter()
    refused = {reason for reason in table["reason"].to_pylist() if reason in CURES}
    asked = table.filter(pc.equal(table["reason"], Reason.FILE_NOT_DICOM)).slice(0, MAX_ASKED)
    for path, member in zip(*(asked[name].to_pylist() for name in ("path", "member")), strict=True):
        with suppress(OSError), source.open(path, member) as file:
            head = file.read(262)
            kind = next((name for mark, name in PACKED.items() if head.startswith(mark)), "")
            kinds[kind or ("tar" if head[257:] == TAR else "")] += 1
    del kinds[""]
    counts = ", ".join(f"{n} {name}" for name, n in kinds.most_common())
    cures = [f"let the names of {kind} files end in {READ[kind]}, to have them read" for kind in kinds if kind in READ]
    cures += ["unpack them into folders and grade these"] if kinds.keys() - READ.keys() else []
    said = [f"{counts} among the first {MAX_ASKED}: {'; '.join(cures)}"] if counts else []
    return "".join(f"; {text}" for text in (*said, *sorted(f"{reason}: {CURES[Reason(reason)]}" for reason in refused)))
