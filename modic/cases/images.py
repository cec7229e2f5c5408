"""The pictures of one graded study, for people: `runs/<run_id>/cases/<study_key>/`, at most `MOST_BYTES` together.

| file         | what it holds                                                                                        |
|--------------|------------------------------------------------------------------------------------------------------|
| t1.webp      | T1 in the plane of the T2 slice on which the discs were found                                        |
| t2.webp      | that T2 slice, upright, square pixels                                                                |
| regions.webp | what was graded: a row a level (T12/L1 first), its T1 slices right to left, then its T2 slices       |
| maps.webp    | the same places, coloured where the classifier saw the grade; clear elsewhere (grading/saliency.py) |
| case.json    | boxes in pixels of the first two, shares of the maps, each slice graded alone; written last          |

Pixels only: no text of a header, no metadata. The same input gives the same bytes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from modic.files import write_whole
from modic.grading.saliency import Saliency
from modic.imaging.regions import Box, box_on
from modic.imaging.volume import CanonicalVolume, Volume
from modic.records import LEVELS, LevelResult, LevelSet, Region

MOST_BYTES = 150_000
LONGER_SIDE, TILE, MAP_TILE = 448, 112, 28  # px; maps are as coarse as the network's own
QUALITIES = (80, 60, 40, 20, 5, 1)  # of WebP: the first with which a study is small enough; real ones take 80
WINDOW, MARROW_WINDOW = (
    (0.5, 99.5),
    (0.5, 97.0),
)  # percentiles that become black and white; in regions fluid and fat may


def write_case(
    folder: Path, t1: CanonicalVolume, t2: CanonicalVolume, levels: LevelSet, cut: list[Region | LevelResult],
    saliency: list[Saliency], *, region_scale: float,
) -> Path:  # fmt: skip
    """Write the pictures of one study, each file whole or not at all; returns the path of `case.json`.

    Args:
        folder: made where it does not exist.
        cut: regions as they were cut, not yet normalized; levels that could not be cut are passed over.
        saliency: of the regions, in their order.
        region_scale: side of a region over the width of its box, of the classifier's card.
    """
    on_upright = {found.level: box_on(t2.grid, t2.native, found) for found in levels.boxes}
    boxes = {level: box for level, (box, _) in on_upright.items()}
    slice_index = next(index for _, index in on_upright.values())
    overview = [_overview(volume, t2, slice_index) for volume in (t1, t2)]
    regions = [one for one in cut if isinstance(one, Region)]
    files = _small_enough([*overview, _regions_sheet(regions), _maps_sheet(saliency)])
    said: dict[str, dict[str, Any]] = {
        level: {"box": _in_picture(box, t2, overview[0])} for level, box in boxes.items()
    }
    for one in saliency:
        level = one.grade.level
        said[level] |= facts(one, spine_direction(level, boxes, t2.spacing_mm[:2]), region_scale)
    slices = regions[0].contrasts["t2"].shape[0] if regions else 0
    case = {"size": overview[0].shape[::-1], "slices": slices, "levels": said}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_whole(folder / name, data)
    return write_whole(folder / "case.json", json.dumps(case, separators=(",", ":")))


def shown_maps(saliency: Saliency) -> np.ndarray:
    """float32 (2, slices, size, size): the maps of T1 and T2; zero for a contrast that the classifier is not shown."""
    nothing = np.zeros_like(next(iter(saliency.maps.values())))
    return np.stack([saliency.maps.get(name, nothing) for name in ("t1", "t2")])


def facts(saliency: Saliency, downwards: np.ndarray, region_scale: float) -> dict[str, Any]:
    """What `case.json` says of one graded level: shares of its map, and its slices graded alone."""
    grade, maps = saliency.grade, shown_maps(saliency)
    of_slice = maps.sum((0, 2, 3))
    return {
        "shown": grade.shown,
        "slice": int(of_slice.argmax()),
        "alone": [round(p[grade.shown], 2) for p in grade.alone],
        "agree": sum(p.index(max(p)) == grade.shown for p in grade.alone),
        **{name: round(share, 3) for name, share in shares(maps, downwards, region_scale).items()},
    }


def shares(maps: np.ndarray, downwards: np.ndarray, region_scale: float) -> dict[str, float]:
    """Shares of a map (2, slices, n, n): `upper` and `lower`, on either side of the disc's middle plane; and `t1`.

    `upper` is the endplate above the disc with its marrow and the upper half of the disc. What lies in front of or
    behind the box is in neither. Empty where the map is zero everywhere. `downwards`: the spine's direction there.
    """
    total = float(maps.sum())
    if total <= 0:
        return {}
    n = maps.shape[-1]
    y, x = (np.mgrid[:n, :n] + 0.5) / n - 0.5  # in sides of the region, from its centre
    across, along = x * downwards[0] + y * downwards[1], x * downwards[1] - y * downwards[0]
    inside = np.abs(along) <= 0.5 / region_scale
    flat = maps.sum((0, 1))
    upper, lower = (float(flat[inside & side].sum()) / total for side in (across < 0, across > 0))
    return {"upper": upper, "lower": lower, "t1": float(maps[0].sum()) / total}


def spine_direction(level: str, boxes: dict[str, Box], spacing_mm: tuple[float, float]) -> np.ndarray:
    """Unit vector (column, row) from the disc above to the disc below, or from and to the level itself at an end."""
    found = [name for name in LEVELS if name in boxes]
    at = found.index(level)
    ends = [boxes[found[max(at - 1, 0)]], boxes[found[min(at + 1, len(found) - 1)]]]
    (x0, y0), (x1, y1) = (((b[0] + b[2]) / 2 * spacing_mm[0], (b[1] + b[3]) / 2 * spacing_mm[1]) for b in ends)
    length = float(np.hypot(x1 - x0, y1 - y0))
    return np.array([x1 - x0, y1 - y0]) / length if length else np.array([0.0, 1.0])


def _overview(volume: Volume, t2: Volume, slice_index: int) -> np.ndarray:
    """uint8 (rows, columns), square pixels: `volume` at the places of one slice of an upright T2, black outside it."""
    import cv2

    _, rows, columns = t2.voxels.shape
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    index = volume.to_index(t2.to_mm(np.stack([x, y, np.full_like(x, slice_index)], -1)))
    index[:, 2] = np.round(index[:, 2])  # the nearest slice, not a mixture of two
    plane = map_coordinates(volume.voxels, index.T[::-1], order=1, output=np.float32).reshape(rows, columns)
    size_mm = np.array([columns * t2.spacing_mm[0], rows * t2.spacing_mm[1]])
    size = np.maximum(np.round(LONGER_SIDE * size_mm / size_mm.max()).astype(int), 1)
    shrinks = size[1] < rows
    larger = cv2.resize(plane, size.tolist(), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return _grey(larger, *np.percentile(plane, WINDOW))


def _in_picture(box: Box, t2: Volume, picture: np.ndarray) -> list[float]:
    """A box in pixels of an upright T2 → edges in the overview, counted from the picture's corner."""
    scale = np.array(picture.shape[::-1]) / np.array(t2.voxels.shape[:0:-1])
    return np.round((np.array(box).reshape(2, 2) + 0.5) * scale, 1).ravel().tolist()


def _grey(values: np.ndarray, black: float, white: float) -> np.ndarray:
    return np.round(255 * np.clip((values - black) / max(white - black, 1e-6), 0, 1)).astype(np.uint8)


def _regions_sheet(regions: list[Region]) -> np.ndarray:
    """uint8 (6 * TILE, 2 * slices * TILE). One window a contrast for the whole study, so that levels compare."""
    rows = {}
    for contrast in ("t1", "t2"):
        stacks = {region.level: region.contrasts[contrast] for region in regions}
        window = np.percentile(list(stacks.values()), MARROW_WINDOW) if stacks else (0.0, 1.0)
        rows[contrast] = {level: [_grey(one, *window) for one in stack] for level, stack in stacks.items()}
    return _sheet({r.level: rows["t1"][r.level] + rows["t2"][r.level] for r in regions}, TILE)


def _maps_sheet(saliency: list[Saliency]) -> np.ndarray:
    """uint8 (6 * MAP_TILE, 2 * slices * MAP_TILE, 4), blue green red alpha: each level by its own largest value."""
    import cv2

    scaled = {one.grade.level: np.concatenate(shown_maps(one)) for one in saliency}
    tiles = {level: [_grey(m, 0.0, float(maps.max())) for m in maps] for level, maps in scaled.items()}
    sheet = _sheet(tiles, MAP_TILE)
    return np.dstack([cv2.applyColorMap(sheet, cv2.COLORMAP_INFERNO), sheet])


def _sheet(tiles: dict[str, list[np.ndarray]], size: int) -> np.ndarray:
    """Rows of tiles, one row for each of LEVELS, black where a level has none."""
    import cv2

    columns = max((len(row) for row in tiles.values()), default=1)
    sheet = np.zeros((len(LEVELS) * size, columns * size), np.uint8)
    for level, row in tiles.items():
        top = LEVELS.index(level) * size
        for index, tile in enumerate(row):
            fit = cv2.resize(tile, (size, size), interpolation=cv2.INTER_AREA)
            sheet[top : top + size, index * size : (index + 1) * size] = fit
    return sheet


def _small_enough(pictures: list[np.ndarray]) -> dict[str, bytes]:
    """The four files as WebP, with the best of QUALITIES that keeps them below MOST_BYTES. Raises ValueError else."""
    import cv2

    names = ("t1.webp", "t2.webp", "regions.webp", "maps.webp")
    for quality in QUALITIES:
        encoded = [cv2.imencode(".webp", one, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes() for one in pictures]
        if sum(map(len, encoded)) <= MOST_BYTES * 0.95:  # the rest is for case.json
            return dict(zip(names, encoded, strict=True))
    raise ValueError("pictures do not fit")
