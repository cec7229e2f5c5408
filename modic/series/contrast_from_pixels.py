"""Volume + discs → the contrast of a sagittal lumbar stack whose header does not give it (modic/series/contrast.py).

Between each two neighbouring discs of each slice, the signal of four tissues is measured, less that of the air: marrow
of the vertebral body, canal behind it (cerebrospinal fluid), fat behind the canal, and both discs. Each body on each
slice shows

| row | condition                                                                               | contrast |
|-----|-----------------------------------------------------------------------------------------|----------|
| L1  | the canal's signal varies by over `MAX_CANAL_VARIATION` along the body: the slice shows | unknown  |
|     | pedicles and foramina instead of the canal                                              |          |
| L2  | canal <= 0.65 marrow, disc <= 0.95 marrow, fat >= 1.5 canal                             | t1       |
| L3  | canal >= 1.1 marrow and >= 1.5 disc, disc <= 1.25 marrow, fat >= 0.3 canal; or, if the  | t2       |
|     | discs are bright, canal >= 1.5 marrow and >= 1.6 disc, disc <= 2 marrow, fat >= 0.45    |          |
|     | canal                                                                                   |          |
| L4  | canal >= 2 marrow, disc >= 1.2 marrow, fat <= 0.25 canal: fat is suppressed             | stir     |
| L5  | canal <= 1.3 disc, disc >= 1.2 marrow, fat <= 0.9 canal: no T2, and marrow and fat are  | t1_fat_  |
|     | suppressed                                                                              | suppressed|
| L6  | otherwise                                                                               | unknown  |

A stack with at least `MIN_DISCS` discs has the contrast that at least `MIN_BODIES` of these show, on two slices (or
its only one) and at two levels, if those that show another are at most `MAX_OTHERS` as many. In a scoliosis the canal
leaves each slice somewhere, so that no slice shows all of it, and all slices together do. L1 matters because the fat of
the foramina makes a slice beside the canal of a T1 look like a T2. The thresholds were chosen on SPIDER's training
patients, wide apart: a T1 taken for a T2 is worse than no answer. The pixels cannot distinguish a T1 after a contrast
agent from one before it, a gradient echo with bright fluid and fat from a T2, or STIR from another fat-suppressed T2.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from modic.errors import Reason, Rejected
from modic.imaging.regions import Volumes, contrast_label, move_box, reference_of, slices_at
from modic.imaging.volume import CanonicalVolume, Volume
from modic.quantiles import medians, quantiles
from modic.records import Contrast, LevelSet
from modic.series.contrast import ContrastFinding

Box = tuple[float, ...]
"""(x0, y0, x1, y1)."""
MIN_DISCS = 4
CHECKED_SLICES = 5  # around the midline, whose pixels must not show another contrast than the header
BETWEEN = np.linspace(0.2, 0.8, 19)  # places of measurement, as shares of the way from one disc to the next
CANAL = (-0.10, 0.10)  # front and back of the canal behind a disc box's posterior edge, as shares of the box's width
FAT = (0.8, 2.5)  # the same of the fat
INNER = 0.2  # half the width of the marrow and disc that is measured, as a share of the box's width
MIN_BODIES, MIN_SLICES, MIN_LEVELS = 3, 2, 2
MAX_OTHERS = 0.3
SUPPRESSED: frozenset[Contrast] = frozenset(("stir", "t1_fat_suppressed"))  # they do not speak against each other
MAX_CANAL_VARIATION = 0.3  # 15th to 85th percentile along a body, as a share of the median
VERSION = 2  # of this table; a contrast that another version found is looked for again


def shows_another_contrast(volumes: Volumes, levels: LevelSet) -> Rejected | None:
    """Why the pixels of T1 or T2 are those of another contrast (modic/series/contrast_from_pixels.py); None if not so.

    Whatever the header says: fat suppression that it does not name, or a series under a wrong name.
    """
    reference = reference_of(volumes)
    for name, reason in (("t1", Reason.STUDY_NO_SAGITTAL_T1), (reference, Reason.STUDY_NO_SAGITTAL_T2)):
        found = contrast_at(volumes[name], volumes[reference], levels)
        alike = SUPPRESSED if name == "stir" else frozenset((name,))
        if found.contrast != "unknown" and found.contrast not in alike:
            return Rejected(reason, f"the {contrast_label(name)} shows {found.contrast}; {found.evidence}")
    return None


def contrast_at(volume: CanonicalVolume, t2: CanonicalVolume, levels: LevelSet) -> ContrastFinding:
    """What the pixels of a volume show on the slices around the discs that were found on T2."""
    discs = [move_box(t2.native, volume.grid, disc) for disc in levels.boxes]
    slices = slices_at(discs, CHECKED_SLICES, len(volume.voxels), volume.spacing_mm[2])
    if not slices:
        return ContrastFinding("unknown", "pixels: no slice near the discs")
    return contrast_of_pixels(volume, [disc.box for disc in discs], slices)


def contrast_of_pixels(volume: Volume, boxes: Iterable[Box], slices: Iterable[int]) -> ContrastFinding:
    """The contrast that some slices of a volume show, with the measurements as evidence.

    Args:
        volume: in canonical axes (modic.imaging.volume.Volume.canonical).
        boxes: (x0, y0, x1, y1) of the discs from head to foot, in pixels of the volume, with the detector's margin of
            about 5 mm.
        slices: indices of the slices to measure.
    """
    discs = np.array([*boxes], float).reshape(-1, 4)
    if len(discs) < MIN_DISCS:
        return ContrastFinding("unknown", f"pixels: {len(discs)} discs found, {MIN_DISCS} needed")
    bodies = [
        (index, level, signals)
        for index in slices
        for level, signals in enumerate(measure(volume.voxels[index], discs))
    ]
    found: dict[Contrast, list[tuple[int, int, Signals]]] = defaultdict(list)
    for body in bodies:
        found[body[2].decide()[1]].append(body)
    unclear = found.pop("unknown", [])
    known = max(found, key=lambda contrast: len(found[contrast]), default=None)
    against = {*found} - (SUPPRESSED if known in SUPPRESSED else {known})
    others = sum(len(found[contrast]) for contrast in against)
    if known is None or not _enough(found[known], others, len({body[0] for body in bodies})):
        middle = (unclear or bodies)[len(unclear or bodies) // 2][2]
        counts = "".join(f", {contrast} {len(shown)}" for contrast, shown in sorted(found.items()))
        return ContrastFinding("unknown", f"pixels: {middle}{counts} → unknown")
    shown = found[known]
    signals = shown[len(shown) // 2][2]
    return ContrastFinding(known, f"pixels: {signals} → {known} ({signals.decide()[0]}, {len(shown)} bodies)")


def _enough(shown: list[tuple[int, int, "Signals"]], others: int, slices: int) -> bool:
    """Whether the bodies (slice, level, signals) that show one contrast decide against those that show `others`."""
    places, levels = {index for index, _, _ in shown}, {level for _, level, _ in shown}
    enough = len(shown) >= MIN_BODIES and len(places) >= min(MIN_SLICES, slices) and len(levels) >= MIN_LEVELS
    return enough and others <= MAX_OTHERS * len(shown)


@dataclass(frozen=True, slots=True)
class Signals:
    """Signals of the tissues between two discs on one slice, less the air."""

    marrow: float
    canal: float
    fat: float
    disc: float
    canal_variation: float  # along a body, 15th to 85th percentile as a share of the median

    def __str__(self) -> str:
        if self.marrow <= 0:
            return "no marrow"
        tissues = (("canal", self.canal), ("fat", self.fat), ("disc", self.disc))
        return ", ".join(f"{name} {signal / self.marrow:.2f}" for name, signal in tissues) + " of marrow"

    def decide(self) -> tuple[str, Contrast]:
        """The row of the table that holds, and its contrast."""
        marrow, canal, fat, disc = self.marrow, self.canal, self.fat, self.disc
        if min(marrow, canal, disc) <= 0:
            return "L6", "unknown"
        if self.canal_variation > MAX_CANAL_VARIATION:
            return "L1", "unknown"
        if canal <= 0.65 * marrow and disc <= 0.95 * marrow and fat >= 1.5 * canal:
            return "L2", "t1"
        if canal >= 1.1 * marrow and canal >= 1.5 * disc and disc <= 1.25 * marrow and fat >= 0.3 * canal:
            return "L3", "t2"
        if canal >= 1.5 * marrow and canal >= 1.6 * disc and disc <= 2 * marrow and fat >= 0.45 * canal:
            return "L3", "t2"
        if canal >= 2 * marrow and disc >= 1.2 * marrow and fat <= 0.25 * canal:
            return "L4", "stir"
        if canal <= 1.3 * disc and disc >= 1.2 * marrow and fat <= 0.9 * canal:
            return "L5", "t1_fat_suppressed"
        return "L6", "unknown"


def measure(image: np.ndarray, discs: np.ndarray) -> list[Signals]:
    """The signals of the four tissues between each two neighbouring discs of one slice, from head to foot.

    Args:
        image: (rows, columns), rows head to foot, columns anterior to posterior.
        discs: (n, 4), boxes (x0, y0, x1, y1) in pixels from head to foot.
    """
    x0, y0, x1, y1 = discs.T
    x, y, inner, width = (x0 + x1) / 2, (y0 + y1) / 2, INNER * (x1 - x0), float(np.median(x1 - x0))
    between = (np.arange(len(discs) - 1)[:, None] + BETWEEN).ravel()
    row, middle, back, half = (np.interp(between, np.arange(len(discs)), v) for v in (y, x, x1, inner))
    marrow = medians(patches(image, row, row, middle - half, middle + half))
    canal, fat = (patches(image, row, row, back + a * width, back + b * width) for a, b in (CANAL, FAT))
    high = 0.1 * (y1 - y0)
    disc = medians(patches(image, y - high, y + high, x - inner, x + inner))
    air = np.percentile(image, 2)
    tissues = marrow, medians(canal), quantiles(fat, 0.9)
    bodies = [values.reshape(-1, len(BETWEEN)) - air for values in tissues]  # (bodies, places) each
    low, signal, high_signal = np.percentile(bodies[1], (15, 50, 85), axis=1)
    variation = (high_signal - low) / np.maximum(signal, 1e-6)
    beside = (disc[1:] + disc[:-1]) / 2 - air
    columns = (*(np.median(values, axis=1) for values in bodies), beside, variation)
    return [Signals(*map(float, values)) for values in zip(*columns, strict=True)]


def patches(image: np.ndarray, *sides: np.ndarray) -> np.ndarray:
    """The pixels within each rectangle: (n, pixels of the largest), filled up with NaN. At least one pixel each.

    Args:
        image: floating point (rows, columns).
        sides: first and last row, first and last column, (n,) each, fractional; both ends belong to the rectangle.
    """
    last = np.array(image.shape).repeat(2)[:, None] - 1
    top, bottom, left, right = np.clip(np.rint(np.stack(sides)), 0, last).astype(int)
    bottom, right = np.maximum(bottom, top), np.maximum(right, left)
    rows = top[:, None] + np.arange((bottom - top).max() + 1)
    columns = left[:, None] + np.arange((right - left).max() + 1)
    there = (rows <= bottom[:, None])[:, :, None] & (columns <= right[:, None])[:, None]
    values = image[rows.clip(max=last[0])[:, :, None], columns.clip(max=last[2])[:, None]]
    return np.where(there, values, np.nan).astype(image.dtype).reshape(len(top), -1)
