"""`spider-release=DIR`: the public SPIDER release (van der Graaf 2024, Zenodo 10159290, CC BY 4.0) as it is downloaded.

    DIR/images/<n>_t1.mha  <n>_t2.mha  <n>_t2_SPACE.mha      volumes
    DIR/masks/<the same>.mha                                 0 background, 1.. vertebrae from L5 upwards, 100 spinal
                                                             canal, 201.. discs from L5/S1 upwards
    DIR/radiological_gradings.csv                            IVD label 1 is L5/S1, counting upwards

Boxes are the discs of the masks with the project's margin (`BOX_MARGIN_MM`). The midline is that of the spinal canal,
not the middle of the stack. Type 1 is left out: SPIDER's four discs of it are too few to learn from or to judge by.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modic.config import LevelOptions
from modic.errors import UsageError
from modic.imaging.volume import CanonicalVolume
from modic.labels.level_names import name_of
from modic.labels.table import Box
from modic.labels.tally import Tally
from modic.phantom.render import BOX_MARGIN_MM
from modic.records import LEVELS, LevelBox
from modic.train.data.discs import Disc, cut_discs
from modic.train.data.images import Unusable, read_sagittal, simple_itk, to_uint8
from modic.train.data.samples import Sample
from modic.train.data.spider_slices import AMBIGUOUS_PATIENTS
from modic.train.data.studies import check_boxes, too_few

SOURCE = "spider-release"
CANAL, DISCS = 100, range(201, 211)
NEIGHBOUR_MM = 4.0  # distance of the neighbouring slices shown to the detector, at least one slice
APART_MM = 6.0  # discs of T1 and T2 masks further apart than this: the series do not line up


@dataclass(frozen=True, eq=False)
class Scan:
    """A series and its mask on one canonical grid."""

    image: CanonicalVolume
    mask: np.ndarray  # uint8 (slices, rows, columns)
    midline: int  # the slice in the middle of the spinal canal

    def boxes(self, index: int) -> dict[int, Box]:
        """Boxes of the discs on one slice by rank (`disc_rank`), px, with margin."""
        boxes, (x_mm, y_mm, _) = {}, self.image.spacing_mm
        across, along = BOX_MARGIN_MM[0] / x_mm + 0.5, BOX_MARGIN_MM[1] / y_mm + 0.5  # to the pixels' outer edges
        for value in DISCS:
            rows, columns = np.nonzero(self.mask[index] == value)
            if len(rows) and np.ptp(columns) * x_mm >= LevelOptions().width_reject_mm:
                left, right, top, bottom = columns.min(), columns.max(), rows.min(), rows.max()
                box = (float(left - across), float(top - along), float(right + across), float(bottom + along))
                boxes[len(LEVELS) - 1 - (value - DISCS[0])] = box
        return boxes

    def centres_mm(self) -> dict[int, np.ndarray]:
        """Centre (3,) of each disc, LPS mm, by the value of its mask."""
        values = [value for value in DISCS if (self.mask == value).any()]
        points = [np.argwhere(self.mask == value).mean(0)[::-1] for value in values]
        return dict(zip(values, self.image.to_mm(np.array(points).reshape(-1, 3)), strict=True))


def release_samples(folder: Path, tally: Tally) -> list[Sample]:
    """The slice on the midline of every series and its neighbours, boxed by the masks; `tally` counts the others."""
    samples: list[Sample] = []
    for name, path in _series(folder, tally).items():
        patient, contrast = name.split("_", 1)
        try:
            scan = _scan(folder, path)
        except Unusable as why:
            tally.skip(f"series that {why}", name)
            continue
        step = max(1, round(NEIGHBOUR_MM / scan.image.spacing_mm[2]))
        slices = {scan.midline + offset for offset in (-step, 0, step)} & set(range(len(scan.mask)))
        for index in sorted(slices):
            samples += _sample(scan, index, patient, contrast, tally)
    return samples


def _sample(scan: Scan, index: int, patient: str, contrast: str, tally: Tally) -> Iterator[Sample]:
    boxes, pixels = scan.boxes(index), scan.image.voxels[index]
    try:
        check_boxes(boxes, pixels.shape, "the mask")
        if few := too_few(boxes):
            raise Unusable(f"have {few}")
        image = to_uint8(pixels)
    except (Unusable, UsageError) as why:
        tally.skip(
            f"slices that {why}" if isinstance(why, Unusable) else "slices with discs out of order",
            f"{patient}_{contrast}",
        )
        return
    ranks = sorted(boxes)
    yield Sample(patient, contrast, image, np.array([boxes[r] for r in ranks]), np.array([name_of(r) for r in ranks]))


def release_discs(folder: Path, preprocessing: dict[str, Any], tally: Tally) -> list[Disc]:
    """Discs of types 0 and 2 of all patients with T1 and T2; `tally` counts the others."""
    grades, series = read_gradings(folder / "radiological_gradings.csv"), _series(folder, tally)
    discs: list[Disc] = []
    for patient, labels in grades.items():
        left_out = [grade for grade, _ in labels.values() if grade not in (0, 2)]
        if left_out:
            tally.skip("discs of type 1 (too few to learn) or 3", *[patient] * len(left_out))
        try:
            t1, t2 = (_scan(folder, _path_of(series, f"{patient}_{name}")) for name in ("t1", "t2"))
            _check_aligned(t1, t2)
        except Unusable as why:
            tally.skip(f"patients whose series {why}", patient)
            continue
        wanted = {LEVELS[rank]: grade for rank, grade in labels.items() if grade[0] in (0, 2)}
        boxes = [LevelBox(LEVELS[r], b, t2.midline, 1.0) for r, b in t2.boxes(t2.midline).items() if name_of(r) >= 0]
        boxes = sorted((b for b in boxes if b.level in wanted), key=lambda b: LEVELS.index(b.level))
        volumes = {"t1": t1.image, "t2": t2.image}
        cut = list(
            cut_discs(volumes, boxes, wanted, patient=patient, source=SOURCE, preprocessing=preprocessing)
        )  # fmt: skip
        if len(cut) < len(wanted):
            tally.skip("discs not on the midline of both series", *[patient] * (len(wanted) - len(cut)))
        discs += cut
    if ungraded := {name.split("_")[0] for name in series} - set(grades):
        tally.skip("patients without gradings", *sorted(ungraded))
    return discs


def read_gradings(path: Path) -> dict[str, dict[int, tuple[int, int]]]:
    """Patient → index in LEVELS → (Modic type, Pfirrmann grade or 0). Raises UsageError naming the line."""
    grades: dict[str, dict[int, tuple[int, int]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                level = len(LEVELS) - _number(row, "IVD label", path, reader.line_num)
                grade = _number(row, "Modic", path, reader.line_num)
                degeneration = _number(row, "Pfirrman grade", path, reader.line_num, blank=0)
                labels = grades.setdefault(str(_number(row, "Patient", path, reader.line_num)), {})
                if level in labels or not 0 <= grade <= 3:
                    what = "repeats a disc" if level in labels else f"has Modic type {grade}"
                    raise UsageError(f"{path} line {reader.line_num} {what}; is it SPIDER's own file?")
                if level >= 0:
                    labels[level] = (grade, degeneration)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return grades


def _number(row: dict[str, str], column: str, path: Path, line: int, *, blank: int | None = None) -> int:
    text = (row.get(column) or "").strip()
    if not text and blank is not None:
        return blank
    try:
        return int(float(text))
    except ValueError as error:
        raise UsageError(f"{path} line {line}: `{column}` is missing or no number; is it SPIDER's own file?") from error


def _series(folder: Path, tally: Tally) -> dict[str, Path]:
    """Files by `<n>_<contrast>`, in order of the numbers. Raises UsageError if the folder does not hold the release."""
    simple_itk()
    paths = {path.stem: path for path in (folder / "images").glob("*_t[12]*.mha")}
    if not paths or not (folder / "masks").is_dir():
        raise UsageError(f"{folder} is not the SPIDER release: give the folder with images/*_t1.mha … and masks/")
    doubtful = sorted(name for name in paths if name.split("_")[0] in AMBIGUOUS_PATIENTS)
    if doubtful:
        tally.skip("series of a patient with another disc below L5/S1", *doubtful)
    return {
        name: paths[name] for name in sorted(paths, key=lambda n: (len(n.split("_")[0]), n)) if name not in doubtful
    }


def _path_of(series: dict[str, Path], name: str) -> Path:
    """The file of a series. Raises Unusable if there is none."""
    if name not in series:
        raise Unusable("are not both there")
    return series[name]


def _scan(folder: Path, path: Path) -> Scan:
    """A series with its mask. Raises Unusable if one cannot be read, they differ in geometry, or no canal is marked."""
    image, labels = read_sagittal(path), read_sagittal(folder / "masks" / path.name)
    if image.voxels.shape != labels.voxels.shape or np.abs(image.affine - labels.affine).max() > 0.5:
        raise Unusable("differ in geometry from their mask")
    mask = np.round(labels.voxels).astype(np.uint8)
    canal = np.argwhere(mask == CANAL)
    discs = np.argwhere(np.isin(mask, DISCS))
    if not len(canal) or not len(discs):
        raise Unusable("have no spinal canal or no discs in their mask")
    beside = canal[(canal[:, 1] >= discs[:, 1].min()) & (canal[:, 1] <= discs[:, 1].max())]
    return Scan(image, mask, round(float((beside if len(beside) else canal)[:, 0].mean())))


def _check_aligned(t1: Scan, t2: Scan) -> None:
    """Raise Unusable if the discs of one name lie in different places."""
    first, second = t1.centres_mm(), t2.centres_mm()
    apart = [float(np.linalg.norm(first[value] - second[value])) for value in first.keys() & second.keys()]
    if not apart or np.median(apart) > APART_MM:
        raise Unusable("do not line up: their masks put discs of one name in different places")
