"""Images in an object store, such as `s3://BUCKET/PREFIX`, through fsspec, which has a package for each kind of store.

Credentials are those that the store's own tools use (for S3: environment, ~/.aws, the machine's role).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import fsspec

from modic.archive.headers import read_rows
from modic.archive.source import UNKNOWN_TIME, File, Row, fingerprint
from modic.errors import Reason, UsageError

VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")
"""What stores call the hash of a file or the time of its last change; the first that is there counts."""
BLOCK = 2**18  # bytes that one request brings


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The files below `url`."""

    url: str

    @property
    def name(self) -> str:
        """As the user wrote it."""
        return self.url

    def files(self) -> Iterator[File]:
        """Every file. Raises UsageError if the store does not list them."""
        scheme = self.url.partition("://")[0]
        try:
            with _asking():
                found = _store(scheme).find(self.url, detail=True)
        except OSError as error:
            raise UsageError(f"{self.url} cannot be listed ({type(error.__cause__ or error).__name__})") from None
        for path, about in sorted(found.items()):
            yield File(f"{scheme}://{path.lstrip('/')}", *_state(about))

    def members(self, container: File) -> Iterator[File]:
        """No file holds others here (modic/archive/containers.py)."""
        yield container

    def read_rows(self, path: str, member: str | None) -> list[Row] | Reason:
        """Header rows of a file. Raises OSError."""
        with self.open(path, member) as file:
            return read_rows(file)

    def state(self, path: str, member: str | None) -> tuple[int, int]:
        """Size and hash of the version. Raises OSError."""
        with _asking():
            return _state(_store(path.partition("://")[0]).info(path))

    def open(self, path: str, member: str | None) -> BinaryIO:
        """A file, of which only what is read is fetched. Raises OSError."""
        with _asking():
            return cast(BinaryIO, _store(path.partition("://")[0]).open(path, "rb", block_size=BLOCK))


def check_store(url: str) -> None:
    """Raise UsageError for an address that holds credentials, or of a kind whose package is missing."""
    if "@" in urlsplit(url).netloc:
        raise UsageError("an address is stored and shown, so it must hold no key: set it as the store's tools want it")
    try:
        fsspec.get_filesystem_class(urlsplit(url).scheme)
    except ImportError as error:
        raise UsageError(f"{urlsplit(url).scheme}:// needs a package of its own: {error}") from None


@lru_cache
def _store(scheme: str) -> Any:
    return fsspec.filesystem(scheme, use_listings_cache=False)


@contextmanager
def _asking() -> Iterator[None]:
    """Turn what the packages of stores raise into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each has errors of its own
        raise OSError("the store does not answer as it should") from error


def _state(about: dict[str, Any]) -> tuple[int, int]:
    version = next((about[key] for key in VERSIONS if about.get(key)), None)
    if isinstance(version, datetime):  # a listing may give seconds where the answer about one file gives this
        version = version.timestamp()
    return int(about["size"]), UNKNOWN_TIME if version is None else fingerprint(str(version).strip('"'))
