"""`coco=FILE.json`: COCO detection JSON → slices for the detector.

Category names are levels. Each image's `file_name` is relative to the JSON, or to a folder `images` beside it. It is a
picture, a single DICOM image, or a volume, of which one sagittal slice is taken: `slice`, counted from 0 from the
patient's right, or else the middle one. The patient is `patient_id`, or else the file's name up to its first `_`. The
contrast is `contrast`, or else a part of the file's name.

COCO boxes are [x, y, width, height] from the outer edge of the first pixel, ours (x0, y0, x1, y1) from its centre.
"""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from modic.errors import UsageError
from modic.labels.level_names import disc_name, disc_rank, name_of, shown
from modic.labels.table import Box
from modic.labels.tally import Tally
from modic.train.data.images import (
    PICTURES,
    VOLUMES,
    Unusable,
    read_dicom,
    read_picture,
    read_sagittal,
    stem_of,
    to_uint8,
)
from modic.train.data.samples import Sample
from modic.train.data.studies import check_boxes, too_few

Entry = dict[str, Any]


def coco_samples(path: Path, tally: Tally) -> list[Sample]:
    """One sample for each image that can be used. Raises UsageError for an error in the JSON, naming the entry."""
    images, boxes = read_coco(path)
    samples = []
    for image_id, image in images.items():
        of_image, name = boxes.get(image_id, {}), shown(image["file_name"])
        if few := too_few(of_image) if of_image else "no boxes":
            tally.skip(f"images with {few}", name)
            continue
        try:
            pixels = read_slice(_locate(path, image), image.get("slice"))
            _check_size(image, pixels)
            grey = to_uint8(pixels)
        except Unusable as why:
            tally.skip(f"images that {why}", name)
            continue
        check_boxes(of_image, pixels.shape, f"{path}, image {name}")
        ranks = sorted(of_image)
        image_boxes, names = np.array([of_image[r] for r in ranks]), np.array([name_of(r) for r in ranks])
        samples.append(Sample(_patient(image), _contrast(image), grey, image_boxes, names))
    return samples


def read_coco(path: Path) -> tuple[dict[int, Entry], dict[int, dict[int, Box]]]:
    """Images by id, and the boxes of each by rank (`disc_rank`), px as ours. Raises UsageError, naming the entry."""
    content = _read(path)
    categories = {_whole(entry, "id", path): entry.get("name") for entry in _entries(content, "categories", path)}
    images: dict[int, Entry] = {}
    for entry in _entries(content, "images", path):
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            raise UsageError(f"{path}: image {shown(entry.get('id'))} has no file_name")
        if images.setdefault(_whole(entry, "id", path), entry) is not entry:
            raise UsageError(f"{path}: two images have the id {entry['id']}")
    boxes: dict[int, dict[int, Box]] = defaultdict(dict)
    for entry in _entries(content, "annotations", path):
        image, where = _whole(entry, "image_id", path), f"{path}: annotation {shown(entry.get('id'))}"
        rank = _rank(categories, _whole(entry, "category_id", path), where)
        if image not in images:
            raise UsageError(f"{where} is of image {image}, which is not among the images")
        if rank in boxes[image]:
            raise UsageError(f"{where}: image {shown(images[image]['file_name'])} has two boxes of {disc_name(rank)}")
        boxes[image][rank] = _box(entry.get("bbox"), where)
    return images, boxes


def read_slice(path: Path, index: Any) -> np.ndarray:
    """float32 (rows, columns): a picture, a DICOM image, or sagittal slice `index` of a volume. Raises Unusable."""
    if not path.is_file():
        raise Unusable("are missing beside the JSON and in its folder images")
    if stem_of(path, PICTURES) is not None:
        return read_picture(path)
    if stem_of(path, VOLUMES) is None:
        return read_dicom(path)
    voxels = read_sagittal(path).voxels
    index = len(voxels) // 2 if index is None else index
    if not isinstance(index, int) or not 0 <= index < len(voxels):
        raise Unusable("have no such slice (counted from 0 from the patient's right)")
    return voxels[index]


def _read(path: Path) -> Entry:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON in UTF-8: {shown(error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is no COCO file: give an object with images, annotations and categories")
    return content


def _entries(content: Entry, key: str, path: Path) -> list[Entry]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise UsageError(f"{path} is no COCO file: `{key}` must be a list of objects, with at least one")
    return entries


def _whole(entry: Entry, key: str, path: Path) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise UsageError(f"{path}: `{key}` is {shown(value)}; give a whole number")
    return value


def _rank(categories: dict[int, Any], category: int, where: str) -> int:
    if category not in categories:
        raise UsageError(f"{where} has category {category}, which is not among the categories")
    rank = disc_rank(str(categories[category]))
    if rank is None:
        name = shown(repr(categories[category]))
        raise UsageError(f"{where}: category {name} is no disc; name it T12/L1 … L5/S1, or remove it")
    return rank


def _box(bbox: Any, where: str) -> Box:
    """Edges of pixels → our frame."""
    numbers = isinstance(bbox, list) and len(bbox) == 4 and all(type(v) in (int, float) for v in bbox)
    if not numbers or not all(map(math.isfinite, bbox)) or min(bbox[2:]) <= 0:
        raise UsageError(f"{where}: bbox is {shown(bbox)}; give [x, y, width, height] in pixels")
    x, y, width, height = bbox
    return x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5


def _locate(path: Path, image: Entry) -> Path:
    """The image's file, within the JSON's folder. Raises UsageError for a name that leads out of it."""
    name = Path(image["file_name"])
    if name.is_absolute() or ".." in name.parts or "\0" in image["file_name"]:
        raise UsageError(f"{path}: file_name {shown(name)} must be relative to the JSON or to its folder images")
    beside = path.parent / name
    return beside if beside.is_file() else path.parent / "images" / name


def _check_size(image: Entry, pixels: np.ndarray) -> None:
    stated = (image.get("height") or pixels.shape[0], image.get("width") or pixels.shape[1])
    if stated != pixels.shape:
        raise Unusable("are of another size than the JSON says")


def _patient(image: Entry) -> str:
    given = image.get("patient_id")
    return str(given).strip() if given not in (None, "") else _stem(image).split("_")[0]


def _contrast(image: Entry) -> str:
    """`contrast`, or else the part of the file's name that names one, or else `unknown`."""
    if image.get("contrast"):
        return shown(image["contrast"])
    words = _stem(image).lower().replace("-", "_").split("_")
    return next((word for word in words if word in ("t1", "t2", "stir", "pd")), "unknown")


def _stem(image: Entry) -> str:
    name = Path(image["file_name"])
    return stem_of(name, (*PICTURES, *VOLUMES, ".dcm")) or name.name
