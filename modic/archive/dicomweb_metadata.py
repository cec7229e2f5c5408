"""The metadata of a series from a DICOMweb server (DICOM JSON, PS3.18 F.2), kept in the cache."""

import json
import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from dicomweb_client.web import DICOMwebClient

from modic.archive.cache import Cache
from modic.archive.http_session import Session
from modic.archive.source import UNKNOWN_TIME, fingerprint

SOP_UID = "00080018"
SIZES = ("00280010", "00280011", "00280100", "00280008")  # Rows, Columns, BitsAllocated, NumberOfFrames
Json = dict[str, Any]


@lru_cache
def client_of(base: str) -> DICOMwebClient:
    """The client of a server in this process."""
    for name in ("dicomweb_client", "retrying"):  # they log UIDs
        logging.getLogger(name).setLevel(logging.CRITICAL)
    client = DICOMwebClient(base, session=Session(urlsplit(base).hostname or ""), permissive_uid=True)
    client.set_http_retry_params(retry=False)  # the session tries again
    return client


@contextmanager
def asking() -> Iterator[None]:
    """Turn what answers that are no DICOM raise into OSError, as requests.RequestException is one."""
    try:
        yield
    except (ValueError, LookupError, AttributeError, TypeError, EOFError) as error:
        raise OSError("the server's answer cannot be read") from error


def listed(search: Callable[..., list[Json]], *arguments: str, tag: str, **filters: Any) -> dict[str, Json]:
    """UID → what a search by QIDO-RS finds, page after page, until one brings nothing new. Raises OSError."""
    found: dict[str, Json] = {}
    received = 0
    with asking():
        while page := search(*arguments, offset=received, **filters):
            new = {str(uid): item for item in page if (uid := value(item, tag))}
            if new.keys() <= found.keys():  # a server that does not know offsets
                break
            found |= new
            received += len(page)
    return found


def images_of(cache: Cache, base: str, study: str, series: str, known: int | None = None) -> dict[str, Json]:
    """SOP UID → metadata of each image of a series: from the cache, else from the server. Raises OSError.

    `known`: fingerprint of the study; what the cache has of another one is asked for again. None: anything will do.
    """
    key = f"{base}/studies/{study}/series/{series}/metadata"
    with suppress(ValueError, LookupError, zlib.error):  # a cache that somebody damaged
        kept = json.loads(zlib.decompress(cache.read(key) or b""))
        if known in (None, kept["known"]) and kept["known"] != UNKNOWN_TIME:
            return dict(kept["images"])
    with asking():
        answer = client_of(base).retrieve_series_metadata(study, series)
        images = {str(value(image, SOP_UID)): image for image in answer if value(image, SOP_UID)}
    cache.put(key, zlib.compress(json.dumps({"known": known, "images": images}).encode(), 1))
    return images


def value(item: Json, tag: str) -> Any:
    """The first value of an element, None if it has none."""
    return (item.get(tag, {}).get("Value") or [None])[0]


def state_of(image: Json) -> tuple[int, int]:
    """Bytes of the pixels, and a hash of all of the metadata but places on the server."""
    rows, columns, bits, frames = (n if isinstance(n := value(image, tag), int) else 1 for tag in SIZES)
    elements = sorted((tag, {k: v for k, v in e.items() if k != "BulkDataURI"}) for tag, e in image.items())
    return rows * columns * bits * frames // 8, hash_of([e for e in elements if e[0] != "00081190"])  # RetrieveURL


def hash_of(value: Any) -> int:
    """The fingerprint of what JSON can hold."""
    return fingerprint(json.dumps(value, sort_keys=True))
