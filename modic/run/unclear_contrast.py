"""Finds the contrast of series whose header does not give it, from their pixels (modic/series/contrast_from_pixels.py).

The pixels are read in another process. A broken file that crashes a decoder, stalls it or takes all memory therefore
costs its own series alone, which stays unclear and is tried again in the next run. Results are remembered in the
cohort's private folder, by the UID, size and time of every image, the detector, the options and the version of the
decision table.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from modic.archive.sources import Opener
from modic.config import Config, LevelOptions
from modic.errors import Rejected, where
from modic.files import write_json
from modic.imaging.load import load_volume
from modic.imaging.volume import CanonicalVolume, slices_around, square_pixels
from modic.levels.detect import named_discs
from modic.models.device import working_device
from modic.models.weights import Model, load_detector
from modic.records import Series
from modic.resources import is_out_of_memory, memory_limit
from modic.series import contrast_from_pixels
from modic.series.contrast import ContrastFinding
from modic.series.contrast_from_pixels import contrast_of_pixels
from modic.series.identify import T1_AND_T2, is_unclear, with_contrast

N_SLICES = 9  # around the middle of the stack, about 36 mm; the canal is 20 to 25 mm wide
N_DETECTED = 5  # of them, on which discs are found
Reading = ContrastFinding | str
"""The contrast that the pixels show, known or unknown, or the trouble that kept them from being read."""


def find_unclear_contrasts(
    series: list[Series],
    *,
    memory: Path,
    config: Config,
    device: str,
    detector_id: str,
    contrasts: Collection[str] = T1_AND_T2,
    reader: "PixelReader | None" = None,
) -> list[Series]:
    """`series`, in which each that `is_unclear` has the contrast that its pixels show.

    Args:
        series: what modic.series.identify returns.
        memory: JSON file of earlier results; written anew if there are new ones.
        config: options of loading and detection, and the limits of time and memory.
        device: of the run, `auto`, `cpu` or `cuda`.
        detector_id: id of the detector's weights; results of another detector do not count.
        contrasts: contrasts that the classifier grades.
        reader: reads pixels, and is not stopped, so that more can be read; None: one of its own.
    """
    keys = {index: _key(stack, config, detector_id) for index, stack in enumerate(series) if is_unclear(stack)}
    if not keys:
        return series
    known = _remembered(memory)
    pixels = reader or PixelReader(config, device)
    try:
        readings = known | {key: known.get(key) or pixels.read(series[index]) for index, key in keys.items()}
    finally:
        if pixels is not reader:
            pixels.stop()
    if readings != known:
        _remember(memory, readings)
    results = list(series)
    for index, key in keys.items():
        results[index] = with_contrast(series[index], _finding(readings[key]), contrasts)
    return results


def _key(series: Series, config: Config, detector_id: str) -> str:
    parts = [contrast_from_pixels.VERSION, config.grading_hash(), detector_id, series.series_uid, *series.image_state]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _finding(reading: Reading) -> ContrastFinding:
    return reading if isinstance(reading, ContrastFinding) else ContrastFinding("unknown", f"pixels: {reading}")


def _remembered(memory: Path) -> dict[str, Reading]:
    """Earlier results by key; none if the file is missing or damaged, so that all series are read again."""
    with suppress(OSError, ValueError, TypeError):
        return {key: ContrastFinding(*finding) for key, finding in json.loads(memory.read_bytes()).items()}
    return {}


def _remember(memory: Path, readings: Mapping[str, Reading]) -> None:
    """Write the results; series that met trouble are left out, so that they are tried again."""
    findings = {key: reading for key, reading in readings.items() if isinstance(reading, ContrastFinding)}
    write_json(memory, {key: [finding.contrast, finding.evidence] for key, finding in findings.items()})


class PixelReader:
    """Another process that reads one series at a time. Started when first needed, and anew after it had to be ended."""

    def __init__(self, config: Config, device: str) -> None:
        self._config, self._device = config, device
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def read(self, series: Series) -> Reading:
        """The contrast that the pixels show, within the time limit of a study."""
        try:
            pipe = self._pipe or self._start()
            pipe.send(series)
            if pipe.poll(self._config.run.study_time_limit_s):
                reading: Reading = pipe.recv()
                if isinstance(reading, str):
                    self.stop()  # the trouble may have cost it the GPU
                return reading
            trouble = "time limit"
        except (EOFError, OSError):
            trouble = "the process that looked at them died"
        self.stop()
        return trouble

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._config, self._device), daemon=True)
        self._process.start()
        theirs.close()  # so that each side notices if the other ends
        self._pipe.recv()
        return self._pipe

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._pipe and self._process:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def serve(pipe: Connection, config: Config, device: str) -> None:
    """What the other process does: answers "ready", then each series with its Reading, until the pipe is closed."""
    here = "auto" if device == "cuda" else device  # the GPUs may be those of the workers
    detector = load_detector(config.detector, device=working_device(here))
    pipe.send("ready")
    with suppress(EOFError):
        while True:
            pipe.send(_read_or_trouble(pipe.recv(), detector, config))


def _read_or_trouble(series: Series, detector: Model, config: Config) -> Reading:
    try:
        with memory_limit(config.run.study_memory_limit_mb):
            return read_contrast(series, detector=detector, config=config)
    except Exception as error:  # noqa: BLE001  (a bad series costs only itself)
        return "out of memory" if is_out_of_memory(error) else where(error)


def read_contrast(series: Series, *, detector: Model, config: Config) -> ContrastFinding:
    """The contrast that the pixels of a series show: load → find discs → measure the tissues between them."""
    source = Opener(config.archive)
    volume = load_volume(replace(series, rejected=None), options=config.identify, source=source)
    if isinstance(volume, Rejected):
        return ContrastFinding("unknown", f"pixels: {volume.reason} {volume.detail}".rstrip())
    return contrast_of_volume(volume, detector=detector, options=config.levels)


def contrast_of_volume(volume: CanonicalVolume, *, detector: Model, options: LevelOptions) -> ContrastFinding:
    """The contrast of a volume by its discs on the middle slices (find_levels needs the bright canal of a T2)."""
    volume = square_pixels(volume)
    n, spacing_mm = len(volume.voxels), volume.spacing_mm[2]
    images = volume.voxels[slices_around(n // 2, N_DETECTED, n, spacing_mm)]
    boxes = [tuple(map(float, disc.box)) for _, disc in named_discs(images, detector, options.score_min)]
    return contrast_of_pixels(volume, boxes, slices_around(n // 2, N_SLICES, n, spacing_mm))
