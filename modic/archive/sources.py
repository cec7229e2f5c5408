"""Which source reads an archive or a path: by the scheme before `://`, else a folder.

A package of somebody else adds a source by an entry point of the group `modic.sources`, whose name is the scheme:

    [project.entry-points."modic.sources"]
    orthanc = "my_package:source"       # source(url: str, cache: modic.archive.cache.Cache) -> Source

It is asked for the archive as the user wrote it, and in workers for the paths that it listed, which begin with the
scheme too. So it needs nothing but the path to open a file.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import BinaryIO

from modic.archive.cache import Cache
from modic.archive.containers import LISTED, Containers, is_container
from modic.archive.folder import FolderSource
from modic.archive.source import Source
from modic.config import ArchiveOptions
from modic.errors import UsageError

GROUP = "modic.sources"
Make = Callable[[str, Cache], Source]


def _dicomweb(url: str, cache: Cache) -> Source:
    try:
        from modic.archive.dicomweb import DicomWebSource
    except ModuleNotFoundError as error:
        raise UsageError(f"DICOMweb needs {error.name}: pip install 'modic[dicomweb]'") from error
    return DicomWebSource.of(url, cache)


def _object_store(url: str, cache: Cache) -> Source:
    from modic.archive.object_store import ObjectStore, check_store

    check_store(url)
    return Containers(ObjectStore(url), cache)


SOURCES: dict[str, Make] = {
    "dicomweb+https": _dicomweb,
    "dicomweb+http": _dicomweb,
    **dict.fromkeys(("s3", "gs", "gcs", "abfs", "az", "memory"), _object_store),
}


def scheme_of(archive: str) -> str:
    """What stands before `://`; empty for a path."""
    scheme, mark, _ = archive.partition("://")
    return scheme.lower() if mark and "/" not in scheme else ""


def source_of(archive: str | Path, cache: Cache | None = None) -> Source:
    """The source of an archive, or of a path that it listed. Raises UsageError for a scheme that nobody knows."""
    scheme = scheme_of(archive) if isinstance(archive, str) else ""
    kept = cache or Cache()
    return _maker(scheme)(str(archive), kept) if scheme else Containers(FolderSource(Path(archive)), kept)


def check_archive(archive: str) -> Path | None:
    """The folder or file that is the archive, None for another source. Raises UsageError if it cannot be one."""
    if scheme_of(archive):
        source_of(archive)
        return None
    path = Path(archive)
    try:
        if path.is_dir() or (path.is_file() and is_container(path.name)):
            return path
        wrong = f"is not a folder, nor one of {' '.join(LISTED)}" if path.exists() else "does not exist"
    except OSError as error:  # a folder above it may not be entered
        wrong = f"cannot be reached: {error.strerror}; ask for the right to enter every folder of its path"
    raise UsageError(f"the archive {archive} {wrong}")


def short_name(archive: str) -> str:
    """The last part of a path, or the host and path of an address."""
    if scheme_of(archive):
        return archive.partition("://")[2].partition("?")[0]
    return Path(archive).resolve().name


@lru_cache
def _maker(scheme: str) -> Make:
    if scheme in SOURCES:
        return SOURCES[scheme]
    for entry in entry_points(group=GROUP, name=scheme):
        make: Make = entry.load()
        return make
    known = sorted({*SOURCES, *entry_points(group=GROUP).names})
    raise UsageError(f"no source of images is called {scheme}://; known are {', '.join(known)}, and folders")


def cache_of(options: ArchiveOptions) -> Cache:
    """The cache that the options name."""
    return Cache(Path(options.cache) if options.cache else None, int(options.cache_gb * 10**9))


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens the files of every source by their paths alone, as workers do."""

    options: ArchiveOptions = field(default_factory=ArchiveOptions)

    @classmethod
    def of_cache(cls, folder: Path) -> "Opener":
        """With a cohort's own cache (modic.cohort.Cohort.cache)."""
        return cls(ArchiveOptions(cache=str(folder)))

    def state(self, path: str, member: str | None) -> tuple[int, int]:
        """As `Source.state`."""
        return self._source(path).state(path, member)

    def open(self, path: str, member: str | None) -> BinaryIO:
        """As `Source.open`."""
        return self._source(path).open(path, member)

    def any_thread(self, path: str, member: str | None) -> bool:
        """Whether it can be opened beside a study that is being graded.

        Not what lies in a container: to list one, the memory of the whole process is limited for a moment.
        """
        return member is None or not isinstance(self._source(path), Containers)

    def _source(self, path: str) -> Source:
        return source_of(path if scheme_of(path) else Path("/"), cache_of(self.options))
