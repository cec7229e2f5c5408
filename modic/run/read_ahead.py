"""Images of the next studies of a shard, read in threads while one study is graded: disks and servers cost no time.

Bytes are all that is read ahead. They are parsed and decoded where the study is graded, under its limits of time and
memory, so that whatever a file does to its worker is done to the study that the shard is at (modic/run/isolate.py), and
threads wait for disks instead of competing for the core. What could not be read, or is no longer as the crawl saw it,
is opened again by the study itself, which says what is wrong.
"""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from modic.archive.sources import Opener
from modic.records import Pair

STUDIES = 2  # ahead, each by a thread of its own
MOST_BYTES = 2**26  # of a study that is read ahead; a larger one is read when its turn comes

Place = tuple[str, str | None]  # path and member
State = tuple[int, int]  # size and modification time


@dataclass(frozen=True)
class Images:
    """The images of one study: those that were read ahead from memory, others from their source."""

    opener: Opener
    read: dict[Place, tuple[State, bytes]] = field(default_factory=dict)

    def state(self, path: str, member: str | None) -> State:
        """As `Source.state`, or what it was just before the image was read ahead."""
        known = self.read.get((path, member))
        return known[0] if known else self.opener.state(path, member)

    def open(self, path: str, member: str | None) -> BinaryIO:
        """As `Source.open`."""
        known = self.read.get((path, member))
        return io.BytesIO(known[1]) if known else self.opener.open(path, member)


@contextmanager
def read_ahead(pairs: Sequence[Pair], opener: Opener) -> Iterator[Iterator[Images]]:
    """The images of each pair in order; those of the next `STUDIES` are read meanwhile."""
    executor = ThreadPoolExecutor(max(STUDIES, 1), thread_name_prefix="read-ahead")
    try:
        yield _in_order(pairs, opener, executor)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _in_order(pairs: Sequence[Pair], opener: Opener, executor: ThreadPoolExecutor) -> Iterator[Images]:
    reading: dict[int, Future[Images]] = {}
    for index in range(len(pairs)):
        for later in range(index + 1, min(index + 1 + STUDIES, len(pairs))):
            if later not in reading:
                reading[later] = executor.submit(_read, pairs[later], opener)
        yield reading.pop(index).result() if index in reading else Images(opener)


def _read(pair: Pair, opener: Opener) -> Images:
    """The images of a pair, as far as they can be read within `MOST_BYTES`."""
    images = Images(opener)
    files = {(image.path, image.member): image for series in pair.series for image in series.images}
    if sum(image.size for image in files.values()) > MOST_BYTES:
        return images
    left = MOST_BYTES
    try:
        for place, image in files.items():
            if not opener.any_thread(*place) or (state := opener.state(*place)) != (image.size, image.mtime_ns):
                continue
            with opener.open(*place) as file:
                content = file.read(left + 1)  # what is packed may be larger than its file
            if (left := left - len(content)) < 0:
                break
            images.read[place] = state, content
    except Exception:  # noqa: BLE001  (the study opens the rest itself, and says what is wrong)
        return images
    return images
