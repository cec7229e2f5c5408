"""Shows how far a run is: a progress artifact in Prefect, a bar in a terminal, otherwise a line
for every shard and at least every minute."""

import contextvars
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from modic.run.status import duration
from modic.text import counted

P = ParamSpec("P")
R = TypeVar("R")
LINE_S = 10.0  # between two lines about files
SILENT_S = 60.0  # at most, between two lines of a run
ARTIFACT_S = 5.0  # Prefect's database is asked to write no more often


class Progress:
    """How many studies (or whatever `unit` names) are done. Shards report from threads of their own, the flow shows it
    from its own."""

    def __init__(
        self, cohort: str, studies: int, shards: int, *, unit: str = "studies", doing: str = "grading"
    ) -> None:
        self.cohort, self.studies, self.open_shards = cohort, studies, shards
        self.unit, self.doing = unit, doing
        self.error: BaseException | None = None
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._started = time.monotonic()

    @contextmanager
    def shard(self, shard_id: str, studies: int) -> Iterator[Callable[[int], None]]:
        """Around one shard; gives a function that takes the number of its studies that are done."""
        try:
            yield lambda done: self._note(shard_id, done)
            self._note(shard_id, studies)
        except BaseException as error:
            self.error = self.error or error
            raise
        finally:
            with self._lock:
                self.open_shards -= 1
            self._changed.set()

    def _note(self, shard_id: str, done: int) -> None:
        with self._lock:
            self._done[shard_id] = done

    def wait(self, seconds: float) -> bool:
        """Wait until a shard ends, at most `seconds`; whether the run should go on waiting."""
        self._changed.wait(seconds)
        self._changed.clear()
        return self.open_shards > 0 and self.error is None

    @property
    def done(self) -> int:
        """Studies done so far."""
        with self._lock:
            return sum(self._done.values())

    @property
    def per_hour(self) -> float:
        """Studies an hour since the start."""
        return 3600 * self.done / max(time.monotonic() - self._started, 1e-3)

    def __str__(self) -> str:
        rate, done = self.per_hour, self.done
        left = f", {duration(3600 * (self.studies - done) / rate)} left" if rate and done < self.studies else ""
        return f"{done} of {self.studies} {self.unit}, {rate:.0f} an hour{left}"


def artifact_key(what: str, cohort: str) -> str:
    """A key of an artifact: lower-case letters, digits and dashes. Prefect keeps one history for each, so it names the
    cohort."""
    return f"{what}-{re.sub('[^a-z0-9]+', '-', cohort.lower())}".strip("-")


def counting(say: Callable[[str], None]) -> Callable[[int], None]:
    """A function that takes the number of files seen so far, and passes it to `say` every ten seconds."""
    next_line = time.monotonic() + LINE_S

    def count(files: int) -> None:
        nonlocal next_line
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + LINE_S
            say(f"{counted(files, 'file')} seen")

    return count


@contextmanager
def working(doing: str, say: Callable[[str], None]) -> Iterator[None]:
    """Inside, `say` is told every minute that this is still being done, and for how long."""
    ended, context, began = threading.Event(), contextvars.copy_context(), time.monotonic()

    def tell() -> None:
        while not ended.wait(SILENT_S):
            context.run(say, f"{doing}, {duration(time.monotonic() - began)} so far")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


@contextmanager
def shown(progress: Progress, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Inside, the progress is shown; gives a function that updates it, to be called often."""
    artifact = Artifact(progress)
    if not sys.stdout.isatty():
        yield _lines(progress, artifact, say)
        artifact.update()
        return
    with _bar(progress) as draw:

        def update() -> None:
            draw()
            artifact.update_now_and_then()

        yield update
        update()
    artifact.update()


def _lines(progress: Progress, artifact: "Artifact", say: Callable[[str], None]) -> Callable[[], None]:
    shown_at, said = progress.open_shards, time.monotonic()

    def update() -> None:
        nonlocal shown_at, said
        if progress.open_shards != shown_at or time.monotonic() - said >= SILENT_S:
            shown_at, said = progress.open_shards, time.monotonic()
            say(str(progress))
        artifact.update_now_and_then()

    return update


@contextmanager
def _bar(progress: Progress) -> Iterator[Callable[[], None]]:
    from rich import progress as rich

    columns = (
        rich.TextColumn(progress.doing), rich.BarColumn(), rich.MofNCompleteColumn(), rich.TextColumn(progress.unit),
        rich.TextColumn("{task.fields[rate]:.0f}/h"), rich.TimeElapsedColumn(), rich.TextColumn("left"),
        rich.TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    with rich.Progress(*columns) as bar:
        task: Any = bar.add_task(progress.doing, total=progress.studies, rate=0.0)
        yield lambda: bar.update(task, completed=progress.done, rate=progress.per_hour)


def if_answered(call: Callable[P, R]) -> Callable[P, R | None]:
    """`call`, a request to Prefect's server; gives None if the server does not answer, which must not stop a run."""

    @wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R | None:
        import httpx

        with suppress(httpx.HTTPError):
            return call(*args, **kwargs)
        return None

    return wrapped


class Artifact:
    """A progress artifact of the flow run."""

    def __init__(self, progress: Progress) -> None:
        from prefect.artifacts import create_progress_artifact

        self._progress = progress
        key = artifact_key(progress.unit, progress.cohort)
        self._id = cast(UUID | None, if_answered(create_progress_artifact)(0.0, key=key, description=str(progress)))
        self._next = 0.0

    def update_now_and_then(self) -> None:
        """Update, unless the last update was a moment ago."""
        if time.monotonic() >= self._next:
            self.update()

    def update(self) -> None:
        """Send Prefect how far the run is."""
        from prefect.artifacts import update_progress_artifact

        if self._id is not None:
            percent = 100 * self._progress.done / max(self._progress.studies, 1)
            if_answered(update_progress_artifact)(self._id, percent, str(self._progress))
        self._next = time.monotonic() + ARTIFACT_S
