"""Series whose header tells no role are looked at (modic/series/contrast_from_pixels.py), each once, in a process of
its own.

What a broken file does to a decoder (a crash, a hang, all memory taken) so costs its own series alone, which stays
unsure and is looked at again the next night. What was seen is remembered in the cohort's private folder, by the UID,
size and time of every image, the detector, and the options and table that decided.
"""

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from modic.config import Config
from modic.errors import Rejected, where
from modic.files import write_json
from modic.imaging.load import load_volume
from modic.levels.find import find_levels
from modic.levels.midline import slices_around
from modic.models.device import resolve_device
from modic.models.weights import Model, load_detector
from modic.records import Series
from modic.resources import is_out_of_memory, memory_limit
from modic.series import contrast_from_pixels
from modic.series.contrast import RoleFound
from modic.series.contrast_from_pixels import look
from modic.series.identify import is_untold, with_role

Seen = RoleFound | str
"""A role that the pixels told or did not, or what kept them from being looked at."""


def tell_roles(
    series: list[Series],
    *,
    memory: Path,
    config: Config,
    device: str,
    detector_id: str,
    contrasts: Collection[str] = ("t1", "t2"),
) -> list[Series]:
    """`series`, with the role of each that `is_untold` as its pixels tell it; `memory`: JSON file to remember in."""
    keys = {index: _key(one, config, detector_id) for index, one in enumerate(series) if is_untold(one)}
    if not keys:
        return series
    known = _remembered(memory)
    looker = _Looker(config, device)
    try:
        seen = {key: known.get(key) or looker.ask(series[index]) for index, key in keys.items()}
    finally:
        looker.stop()
    if seen != known:
        _remember(memory, seen)
    told = {index: _found(seen[key]) for index, key in keys.items()}
    return [with_role(one, told[index], contrasts) if index in told else one for index, one in enumerate(series)]


def _key(series: Series, config: Config, detector_id: str) -> str:
    images = (series.sop_uids, series.frames, series.sizes, series.mtimes_ns)
    text = json.dumps([contrast_from_pixels.VERSION, config.grading_hash(), detector_id, series.series_uid, *images])
    return hashlib.sha256(text.encode()).hexdigest()


def _found(seen: Seen) -> RoleFound:
    return seen if isinstance(seen, RoleFound) else RoleFound("unknown", f"pixels: {seen}")


def _remembered(memory: Path) -> dict[str, Seen]:
    """Nothing where the file is missing or damaged: then all are looked at again."""
    with suppress(OSError, ValueError, TypeError):
        return {key: RoleFound(*found) for key, found in json.loads(memory.read_bytes()).items()}
    return {}


def _remember(memory: Path, seen: Mapping[str, Seen]) -> None:
    found = {key: [one.role, one.evidence] for key, one in seen.items() if isinstance(one, RoleFound)}
    write_json(memory, found)


class _Looker:
    """A process that looks at one series at a time, started when it is first asked and after each one that ended it."""

    def __init__(self, config: Config, device: str) -> None:
        self._config, self._device = config, device
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def ask(self, series: Series) -> Seen:
        """What its pixels tell, within the limits of a study."""
        try:
            pipe = self._pipe or self._start()
            pipe.send(series)
            if pipe.poll(self._config.run.study_time_limit_s):
                seen: Seen = pipe.recv()
                if isinstance(seen, str):
                    self.stop()  # a GPU may be lost to it
                return seen
            trouble = "time limit"
        except (EOFError, OSError):
            trouble = "the process that looked at them died"
        self.stop()
        return trouble

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, self._config, self._device), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of either is seen by the other
        self._pipe.recv()
        return self._pipe

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._pipe and self._process:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _answer(pipe: Connection, config: Config, device: str) -> None:
    """What the process does until nobody asks any more."""
    here = "auto" if device == "cuda" else device  # the GPUs may be those of the workers
    detector = load_detector(config.detector, device=resolve_device(here))
    pipe.send("ready")
    with suppress(EOFError):
        while True:
            pipe.send(_look(pipe.recv(), detector, config))


def _look(series: Series, detector: Model, config: Config) -> Seen:
    try:
        with memory_limit(config.run.study_memory_limit_mb):
            return look_at(series, detector=detector, config=config)
    except Exception as error:  # noqa: BLE001  (a bad series costs only itself)
        return "out of memory" if is_out_of_memory(error) else where(error)


LOG = logging.getLogger(__name__)


LOOK_SLICES = 9  # around the middle of the stack, about 36 mm; the canal is 20 to 25 mm wide


def look_at(series: Series, *, detector: Model, config: Config) -> RoleFound:
    """The role of a series that modic.series.identify could not tell (`is_untold`): load → levels → look."""
    volume = load_volume(replace(series, rejected=None), options=config.identify)
    if isinstance(volume, Rejected):
        return RoleFound("unknown", f"pixels: {volume.reason} {volume.detail}".rstrip())
    volume = volume.canonical()
    levels = find_levels(volume, detector=detector, options=config.levels)
    n = len(volume.voxels)  # the midline that is found is that of a bright canal, which a T1 has not
    return look(volume, [box.box for box in levels.boxes], slices_around(n // 2, LOOK_SLICES, n, volume.spacing_mm[2]))
