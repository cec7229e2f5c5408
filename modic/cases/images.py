"""Images of one graded study for people to look at: `runs/<run_id>/cases/<study_key>/`, at most `MOST_BYTES` together.

| file         | what it holds                                                                                        |
|--------------|------------------------------------------------------------------------------------------------------|
| t1.webp      | T1 in the plane of the T2 slice on which the discs were found                                        |
| t2.webp      | that T2 slice, upright, with square pixels                                                           |
| regions.webp | what was graded: a row for each level (T12/L1 first) with its T1 slices, right to left, then its T2  |
| maps.webp    | saliency of the same tiles (grading/saliency.py): coloured if the classifier saw the grade there     |
| case.json    | boxes in pixels of the overviews, shares of the saliency, each slice graded alone; written last      |

The files hold pixels only: no text of a header, no metadata. The same input gives the same bytes.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from modic.errors import where
from modic.files import make_folder, write_whole
from modic.grading.saliency import Saliency, explain
from modic.imaging.regions import Box, Volumes, box_on
from modic.imaging.volume import CanonicalVolume, Volume, places_on, read_lattice
from modic.models.weights import Model
from modic.records import LEVELS, Grade, LevelResult, LevelSet, Region, StudyWarning

MOST_BYTES = 220_000
CONTRASTS = ("t1", "t2")
"""Contrasts that are shown, in the order of their tiles."""

LONGER_SIDE, TILE, MAP_TILE = 448, 160, 28
"""Pixels of an overview's longer side, and of a tile, as many as the network sees; maps are as coarse as its own."""

QUALITIES = (75, 60, 40, 20, 5, 1)
"""Of WebP. The first with which the study is small enough is taken; for real studies that is 75."""

EFFORT = 0
"""Of WebP's encoder, 0-6: of 14 real studies 0.05 s at quality 75, 38.9 dB of the regions; effort 2 at quality 80, as
many bytes, takes 0.10 s for 40.1 dB."""

OVERVIEW_WINDOW, REGION_WINDOW = (0.5, 99.5), (0.05, 99.95)
"""Percentiles stored as black and white. Regions keep their whole signal, since pages set the window: the marrow beside
an endplate may be as bright as anything in them."""


@dataclass(frozen=True, slots=True)
class LevelImages:
    """One level in `case.json`: its box in the overviews; if it was graded, also `facts`."""

    box: tuple[float, float, float, float] | None = None
    shown: int | None = None
    slice: int | None = None
    alone: tuple[float, ...] = ()
    agree: int | None = None
    upper: float | None = None
    lower: float | None = None
    t1: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """`case.json`."""

    size: tuple[int, int]  # columns and rows of the overviews
    slices: int
    levels: dict[str, LevelImages]


def draw_case(
    folder: Path, volumes: Volumes, levels: LevelSet, cut: list[Region | LevelResult], regions: list[Region],
    grades: list[Grade], classifier: Model[Any], encoding: Any,
) -> tuple[str, ...]:  # fmt: skip
    """Write the study's pictures; what goes wrong comes back as a warning of the study."""
    if "t2" not in volumes:
        return (StudyWarning.NO_IMAGES.text("they show T1 and T2, and there is no T2"),)
    try:
        saliency = explain(regions, grades, classifier=classifier, encoding=encoding)
        scale = classifier.card["preprocessing"]["region_scale"]
        write_case(folder, volumes["t1"], volumes["t2"], levels, cut, saliency, region_scale=scale)
    except Exception as error:  # noqa: BLE001  (pictures are for looking at; the grade stands without them)
        return (StudyWarning.NO_IMAGES.text(where(error)),)
    return ()


def write_case(
    folder: Path, t1: CanonicalVolume, t2: CanonicalVolume, levels: LevelSet, cut: list[Region | LevelResult],
    saliency: list[Saliency], *, region_scale: float,
) -> Path:  # fmt: skip
    """Write the images of one study, each file whole or not at all; returns the path of `case.json`.

    Args:
        folder: made if it does not exist.
        t1, t2: the volumes on canonical axes.
        cut: regions as they were cut, not yet normalized; levels that could not be cut are skipped.
        saliency: of the regions, in their order.
        region_scale: side of a region over the width of its box, from the classifier's card.
    """
    on_upright = {disc.level: box_on(t2.grid, t2.native, disc) for disc in levels.boxes}
    boxes = {level: box for level, (box, _) in on_upright.items()}
    slice_index = next(index for _, index in on_upright.values())
    overview = [_overview(volume, t2, slice_index) for volume in (t1, t2)]
    regions = [region for region in cut if isinstance(region, Region)]
    files = encode_images([*overview, regions_sheet(regions), maps_sheet(saliency)])
    facts_of: dict[str, dict[str, Any]] = {
        level: {"box": _in_overview(box, t2, overview[0])} for level, box in boxes.items()
    }
    for of_level in saliency:
        level = of_level.grade.level
        facts_of[level] |= facts(of_level, spine_direction(level, boxes, t2.spacing_mm[:2]), region_scale)
    slices = regions[0].contrasts["t2"].shape[0] if regions else 0
    case = {"size": overview[0].shape[::-1], "slices": slices, "levels": facts_of}
    make_folder(folder)
    for name, data in files.items():
        write_whole(folder / name, data)
    return write_whole(folder / "case.json", json.dumps(case, separators=(",", ":")))


def shown_maps(saliency: Saliency) -> np.ndarray:
    """float32 (2, slices, size, size): the maps of T1 and T2; zero for a contrast that the classifier is not shown."""
    nothing = np.zeros_like(next(iter(saliency.maps.values())))
    return np.stack([saliency.maps.get(name, nothing) for name in CONTRASTS])


def facts(saliency: Saliency, downwards: np.ndarray, region_scale: float) -> dict[str, Any]:
    """What `case.json` holds of one graded level: shares of its saliency, and its slices graded alone."""
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
    """Shares (0-1) of the saliency on either side of the disc's middle plane, `upper` and `lower`, and in T1, `t1`.

    Args:
        maps: float (2, slices, n, n), of T1 and T2.
        downwards: unit vector (column, row) along the spine.
        region_scale: side of a region over the width of its box.

    `upper` is the endplate above the disc with its marrow and the upper half of the disc. Saliency in front of the box
    or behind it is in neither. Empty if the maps are zero everywhere.
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
    """Unit vector (column, row) of the spine at a level: from the disc above to the disc below.

    At either end of the boxes the level itself takes the place of the missing disc; (0, 1) if there is no other disc.
    """
    names = [name for name in LEVELS if name in boxes]
    at = names.index(level)
    ends = [boxes[names[max(at - 1, 0)]], boxes[names[min(at + 1, len(names) - 1)]]]
    (x0, y0), (x1, y1) = (((b[0] + b[2]) / 2 * spacing_mm[0], (b[1] + b[3]) / 2 * spacing_mm[1]) for b in ends)
    length = float(np.hypot(x1 - x0, y1 - y0))
    return np.array([x1 - x0, y1 - y0]) / length if length else np.array([0.0, 1.0])


def _overview(volume: Volume, t2: Volume, slice_index: int) -> np.ndarray:
    """`volume` in the plane of one slice of an upright T2: uint8 (rows, columns), square pixels, black outside it."""
    import cv2

    _, rows, columns = t2.voxels.shape
    plane = _plane(volume, t2, slice_index)
    size_mm = np.array([columns * t2.spacing_mm[0], rows * t2.spacing_mm[1]])
    size = np.maximum(np.round(LONGER_SIDE * size_mm / size_mm.max()).astype(int), 1)
    shrinks = size[1] < rows
    larger = cv2.resize(plane, size.tolist(), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return _grey(larger, *np.percentile(plane, OVERVIEW_WINDOW))


def _plane(volume: Volume, t2: Volume, slice_index: int) -> np.ndarray:
    """`volume` at the pixels of a slice of T2, float32 (rows, columns), from its nearest slice; 0 outside."""
    _, rows, columns = t2.voxels.shape
    lattice = np.array([slice_index]), np.arange(rows), np.arange(columns)
    if (places := places_on(volume, t2, lattice)) is not None:
        nearest = np.round(places[0]), *places[1:]
        z, y, x = ((at >= 0) & (at <= n - 1) for at, n in zip(nearest, volume.voxels.shape, strict=True))
        return np.where(z & y[:, None] & x, read_lattice(volume.voxels, nearest)[0], 0).astype(np.float32)
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    index = volume.to_index(t2.to_mm(np.stack([x, y, np.full_like(x, slice_index)], -1)))
    index[:, 2] = np.round(index[:, 2])  # no interpolation between two
    plane: np.ndarray = map_coordinates(volume.voxels, index.T[::-1], order=1, output=np.float32)
    return plane.reshape(rows, columns)


def _in_overview(box: Box, t2: Volume, picture: np.ndarray) -> list[float]:
    """Edges of a box (pixels of an upright T2) in pixels of the overview, counted from its corner."""
    scale = np.array(picture.shape[::-1]) / np.array(t2.voxels.shape[:0:-1])
    return np.round((np.array(box).reshape(2, 2) + 0.5) * scale, 1).ravel().tolist()


def _grey(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """uint8 from 0 at `black` to 255 at `white`."""
    return np.round(255 * np.clip((values - black) / max(white - black, 1e-6), 0, 1)).astype(np.uint8)


def regions_sheet(regions: list[Region]) -> np.ndarray:
    """Tiles of all regions: uint8 (6 * TILE, 2 * slices * TILE).

    All levels of a study share one window for each contrast, so that they can be compared.
    """
    rows = {}
    for contrast in CONTRASTS:
        stacks = {region.level: region.contrasts[contrast] for region in regions}
        window = np.percentile(list(stacks.values()), REGION_WINDOW) if stacks else (0.0, 1.0)
        rows[contrast] = {level: [_grey(plane, *window) for plane in stack] for level, stack in stacks.items()}
    return _sheet({r.level: rows["t1"][r.level] + rows["t2"][r.level] for r in regions}, TILE)


def maps_sheet(saliency: list[Saliency]) -> np.ndarray:
    """Tiles of all saliency maps: uint8 (6 * MAP_TILE, 2 * slices * MAP_TILE, 4), blue, green, red and alpha.

    Each level is scaled by its own largest value.
    """
    import cv2

    maps_of = {level.grade.level: np.concatenate(shown_maps(level)) for level in saliency}
    tiles = {level: [_grey(plane, 0.0, float(maps.max())) for plane in maps] for level, maps in maps_of.items()}
    sheet = _sheet(tiles, MAP_TILE)
    return np.dstack([cv2.applyColorMap(sheet, cv2.COLORMAP_INFERNO), sheet])


def _sheet(tiles: dict[str, list[np.ndarray]], size: int) -> np.ndarray:
    """Tiles in one row for each of LEVELS; a level without tiles is black."""
    import cv2

    columns = max((len(row) for row in tiles.values()), default=1)
    sheet = np.zeros((len(LEVELS) * size, columns * size), np.uint8)
    for level, row in tiles.items():
        top = LEVELS.index(level) * size
        for index, tile in enumerate(row):
            fit = cv2.resize(tile, (size, size), interpolation=cv2.INTER_AREA)
            sheet[top : top + size, index * size : (index + 1) * size] = fit
    return sheet


def encode_images(images: list[np.ndarray]) -> dict[str, bytes]:
    """The four files as WebP, with the best of QUALITIES that keeps them below MOST_BYTES; ValueError if none."""
    names = ("t1.webp", "t2.webp", "regions.webp", "maps.webp")
    for quality in QUALITIES:
        encoded = [_webp(image, quality) for image in images]
        if sum(map(len, encoded)) <= MOST_BYTES * 0.95:  # the rest is for case.json
            return dict(zip(names, encoded, strict=True))
    raise ValueError(f"the images of a study take more than {MOST_BYTES} bytes")


def _webp(image: np.ndarray, quality: int) -> bytes:
    """A file of uint8 (rows, columns), or (rows, columns, 4) in OpenCV's order of colours."""
    import PIL.Image
    import PIL.WebPImagePlugin  # else Pillow imports each of its formats

    file = io.BytesIO()
    colours = image if image.ndim == 2 else image[..., [2, 1, 0, 3]]
    PIL.Image.fromarray(colours).save(file, "WEBP", quality=quality, method=EFFORT)
    return file.getvalue()
