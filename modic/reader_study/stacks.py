"""The whole stacks of T1 and T2 of a study, for the reading page: one image a contrast, all slices side by side.

The archive is read again, through what the cohort's private folder remembers of it. A study whose files are gone or
changed has no stacks; its page shows the tiles that were kept when it was graded. The images hold pixels only.

Encoding, measured on a real study (22 slices of 512²) within a window as narrow as that of marrow: lossy 8-bit WebP of
quality 90 takes 0.57 MB a study at 3.2 of 255 grey levels (RMS), JPEG 0.91 MB at 2.6, lossless 8-bit WebP 2.0 MB at
0.4, 16-bit PNG 7.1 MB. The noise of the images is larger than any of these errors.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modic.archive.header_index import HEADERS, DamagedIndex, is_of, reading
from modic.archive.sources import Opener
from modic.cohort import Cohort
from modic.config import IdentifyOptions
from modic.files import write_whole
from modic.imaging.load import load_volume
from modic.imaging.regions import move_box
from modic.imaging.volume import CanonicalVolume
from modic.records import LevelBox, Series
from modic.series.identify import identify
from modic.tables.query import published

CONTRASTS = ("t1", "t2")
QUALITY = 90  # of WebP
MOST_SLICES = 48  # of a thinner (3D) stack every second, third … is shown, so that a browser can hold it
SIGNAL = (0.0, 99.99)  # percentiles of a stack that are stored as black and white
REGION_SIGNAL = (0.0, 99.9)  # of the surroundings of a disc: the window that a page begins with
AROUND = 0.75  # surroundings: widths of the box to either side of its centre, on the slices SLICES_AROUND
SLICES_AROUND = 2

Disc = dict[str, Any]
"""A row of `levels` with the columns of its study."""


@dataclass(frozen=True, eq=False)
class Stack:
    """One contrast as it is shown: every `every`-th slice of `volume`, grey levels from `black` to `white`."""

    volume: CanonicalVolume
    every: int
    black: float
    white: float

    @classmethod
    def of(cls, volume: CanonicalVolume) -> "Stack":
        """All that is needed to show a volume."""
        every = -(-len(volume.voxels) // MOST_SLICES)
        black, white = np.percentile(volume.voxels[::every], SIGNAL)
        return cls(volume, every, float(black), float(max(white, black + 1e-6)))

    @property
    def slices(self) -> np.ndarray:
        """float32 (n, rows, columns), 0 for black to 1 for white, right to left."""
        values = (self.volume.voxels[:: self.every] - self.black) / (self.white - self.black)
        return np.clip(values, 0, 1)

    def write(self, path: Path) -> dict[str, Any]:
        """Write the image; returns what the page needs to find a slice in it."""
        slices = self.slices
        n, rows, columns = slices.shape
        across = int(np.ceil(np.sqrt(n)))
        sheet = np.zeros((-(-n // across) * rows, across * columns), np.uint8)
        for index, plane in enumerate(slices):
            top, left = index // across * rows, index % across * columns
            sheet[top : top + rows, left : left + columns] = np.round(255 * plane)
        write_whole(path, encoded(sheet))
        spacing = [round(side, 4) for side in self.volume.spacing_mm[:2]]
        return {"across": across, "size": [columns, rows], "n": n, "spacing": spacing}


def encoded(image: np.ndarray) -> bytes:
    """A grey image as WebP, without metadata."""
    import cv2

    return cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()


class Archive:
    """The series of some studies of a cohort, as its last run found them."""

    def __init__(self, root: Path, study_keys: set[str]) -> None:
        self._cohort = Cohort(root)
        self._opener = Opener.of_cache(self._cohort.cache)
        keys = {"t1_series_key", "t2_series_key"}
        studies = pq.read_table(published(root) / "studies.parquet", partitioning=None, columns=["study_key", *keys])
        self._keys = {row["study_key"]: row for row in studies.to_pylist() if row["study_key"] in study_keys}
        self.links = self._read_links()
        self._series = self._find_series()

    def stacks(self, study_key: str) -> dict[str, Stack] | None:
        """The stacks of T1 and T2; None if the archive no longer holds them as they were."""
        stacks = {}
        for contrast in CONTRASTS:
            series = self._series.get(self._keys[study_key][f"{contrast}_series_key"])
            volume = None if series is None else load_volume(series, options=IdentifyOptions(), source=self._opener)
            if not isinstance(volume, CanonicalVolume):
                return None
            stacks[contrast] = Stack.of(volume)
        return stacks

    def identifiers(self, study_key: str) -> dict[str, str]:
        """UIDs of the study and of its T2, and the PatientID: what a link to a viewer may need."""
        row = self.links.get(self._keys[study_key]["t2_series_key"], {})
        return {name: row.get(name) or "" for name in ("StudyInstanceUID", "SeriesInstanceUID", "PatientID")}

    def _read_links(self) -> dict[str, dict[str, Any]]:
        """Series key → its row of the links."""
        columns = ["study_key", "series_key", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "stack"]
        if not self._cohort.links.is_file():
            return {}
        wanted = {row[f"{contrast}_series_key"] for row in self._keys.values() for contrast in CONTRASTS}
        filters = [("study_key", "in", sorted(self._keys))]
        rows = pq.read_table(self._cohort.links, partitioning=None, columns=columns, filters=filters).to_pylist()
        return {row["series_key"]: row for row in rows if row["series_key"] in wanted}

    def _find_series(self) -> dict[str, Series]:
        """Series key → the series, whatever refused it by itself: it was graded."""
        if not self.links:
            return {}
        uids = pa.array(sorted({row["StudyInstanceUID"] for row in self.links.values()}), pa.string())
        try:
            with reading(self._cohort.header_index) as index:
                if not index.is_of_this_version:
                    return {}
                studies = index.read(["StudyInstanceUID"])["StudyInstanceUID"]
                headers = index.take_sorted(HEADERS.names, is_of(studies, uids).to_numpy())
        except DamagedIndex:  # or there is none
            return {}
        found = identify(headers, options=IdentifyOptions())
        series = {(item.study_uid, item.series_uid, item.stack): replace(item, rejected=None) for item in found}
        places = {
            key: (row["StudyInstanceUID"], row["SeriesInstanceUID"], row["stack"]) for key, row in self.links.items()
        }
        return {key: series[place] for key, place in places.items() if place in series}


def place(stacks: dict[str, Stack], disc: Disc) -> list[dict[str, Any]]:
    """Where a disc lies in the stacks of T1 and T2, as the page reads it.

    `box`: edges in pixels of the stack. `first` and `step`: place of its slices in mm along T2's normal, 0 at the slice
    of the T2 box. `window`: the grey levels (0-1) around the disc.
    """
    boxes = {name: _box(stacks[name], name, disc) for name in CONTRASTS}
    steps = {"t2": _along_itself(stacks["t2"], boxes["t2"]), "t1": _along_t2(stacks, boxes)}
    return [
        {
            "box": [round(edge, 1) for edge in boxes[name].box],
            "first": round(steps[name][0], 2),
            "step": round(steps[name][1], 3),
            "window": _window(stacks[name], boxes[name]),
        }
        for name in CONTRASTS
    ]


def _box(stack: Stack, name: str, disc: Disc) -> LevelBox:
    """The box of the table `levels`, in the pixels and slices of a stack."""
    x0, y0, x1, y1 = (float(disc[f"{name}_{edge}"]) for edge in ("x0", "y0", "x1", "y1"))
    native = LevelBox(disc["level"], (x0, y0, x1, y1), disc[f"{name}_slice"], 0.0)
    return move_box(stack.volume.native, stack.volume.grid, native)


def _along_itself(stack: Stack, box: LevelBox) -> tuple[float, float]:
    """Place of the first slice, and distance between slices that are shown, in mm."""
    spacing = stack.volume.spacing_mm[2]
    return -box.slice_index * spacing, stack.every * spacing


def _along_t2(stacks: dict[str, Stack], boxes: dict[str, LevelBox]) -> tuple[float, float]:
    """The same of T1, on the line through the disc's centre along T2's normal.

    If T1 does not lie where its header says (modic.imaging.in_place.placed moved it), its slice in the table is taken.
    """
    t1, t2 = stacks["t1"].volume, stacks["t2"].volume
    x0, y0, x1, y1 = boxes["t2"].box
    centre = t2.to_mm(np.array([[(x0 + x1) / 2, (y0 + y1) / 2, boxes["t2"].slice_index]]))
    normal = t2.affine[:3, 2] / t2.spacing_mm[2]
    start, end = (float(t1.grid.to_index(centre + mm * normal)[0, 2]) for mm in (0.0, 1.0))
    per_mm = end - start if end - start > 0.1 / t1.spacing_mm[2] else 1 / t1.spacing_mm[2]
    if abs(start - boxes["t1"].slice_index) > 1:
        start = boxes["t1"].slice_index
    return -start / per_mm, stacks["t1"].every / per_mm


def _window(stack: Stack, box: LevelBox) -> list[float]:
    """Lowest and highest grey level around a disc, as shares of what is stored."""
    (x0, y0, x1, y1), spacing = box.box, stack.volume.spacing_mm
    reach = AROUND * (x1 - x0)
    rows = _span((y0 + y1) / 2, reach * spacing[0] / spacing[1], stack.volume.voxels.shape[1])
    columns = _span((x0 + x1) / 2, reach, stack.volume.voxels.shape[2])
    slices = _span(box.slice_index, SLICES_AROUND * stack.every, len(stack.volume.voxels))
    low, high = np.percentile(stack.volume.voxels[slices, rows, columns], REGION_SIGNAL)
    shares = np.clip((np.array([low, high]) - stack.black) / (stack.white - stack.black), 0, 1)
    return [round(float(share), 3) for share in shares]


def _span(middle: float, reach: float, size: int) -> slice:
    """The pixels up to `reach` away from `middle`, at least one."""
    first = int(np.clip(np.floor(middle - reach), 0, size - 1))
    return slice(first, max(first + 1, int(np.ceil(middle + reach)) + 1))
