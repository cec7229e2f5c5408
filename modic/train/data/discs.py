"""Labelled discs for the classifier: regions cut by `modic.imaging.regions`, as in service, with a margin for
augmentation."""

import csv
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from modic.config import LevelOptions
from modic.errors import UsageError
from modic.imaging.regions import cut_regions
from modic.imaging.volume import CanonicalVolume
from modic.records import LEVELS, LevelBox, LevelSet, Region
from modic.train.data.disc_geometry import DiscGeometry, disc_geometry
from modic.train.data.disc_marrow import disc_marrow
from modic.train.data.spider_slices import boxed_by, slice_volume, split_of, trusted

if TYPE_CHECKING:
    from modic.phantom.anatomy import Patient

MARGIN = 1.5  # cached regions are this much larger on each axis than what the network sees
ONE_SLICE = frozenset({"spider", "slices"})  # sources with one slice a contrast
Boxes = list[tuple[float, float, float, float]]


@dataclass(frozen=True, eq=False)
class Disc:
    """One labelled disc. `t1`, `t2`: float32 (slices, n, n), n = region_size * MARGIN."""

    t1: np.ndarray
    t2: np.ndarray
    label: int  # Modic type 0, 1, 2
    level: str
    patient: str  # SPIDER's number, `phantom-<seed>`, or who a user's labels say
    source: str  # spider | phantom | one of modic.train.data.KINDS
    geometry: DiscGeometry
    degeneration: int  # Pfirrmann grade 1-5, 0 unknown
    scanner: str = ""  # `scanner_name`; empty where unknown
    marrow: np.ndarray | None = None  # float64 (modic.grading.marrow_features.FEATURES,); None: not measured

    @property
    def real(self) -> bool:
        """Of a patient."""
        return self.source != "phantom"

    @property
    def one_slice(self) -> bool:
        """Whether all slices repeat one."""
        return self.source in ONE_SLICE


def scanner_name(manufacturer: Any, field_t: Any) -> str:
    """Manufacturer (first word, of letters only: header text is not to be trusted) and field strength: `Philips 3 T`;
    empty where either is missing."""
    word = re.match(r"\W*([A-Za-z]{2,20})", str(manufacturer or ""))
    try:
        field = float(field_t)
    except (TypeError, ValueError):
        return ""
    return f"{word.group(1).title()} {field:.2g} T" if word and 0 < field < 20 else ""


def wide(preprocessing: dict[str, Any]) -> dict[str, Any]:
    """Preprocessing for a region with margin, on the same pixel grid as the region without."""
    size = round(preprocessing["region_size"] * MARGIN / 2) * 2
    scale = preprocessing["region_scale"] * size / preprocessing["region_size"]
    return {**preprocessing, "region_scale": scale, "region_size": size}


def cut_discs(
    t1: CanonicalVolume, t2: CanonicalVolume, boxes: list[LevelBox], labels: dict[str, tuple[int, int]], *,
    patient: str, source: str, preprocessing: dict[str, Any], scanner: str = "",
    marrow: dict[str, np.ndarray] | None = None,
) -> Iterator[Disc]:  # fmt: skip
    """Discs of one patient that can be cut; `labels` holds (Modic type, Pfirrmann grade) by level name, `marrow` what
    was measured (modic.train.data.disc_marrow)."""
    larger = wide(preprocessing)
    levels = LevelSet(tuple(boxes), "ok", 1.0)
    parts = cut_regions({"t1": t1, "t2": t2}, levels, preprocessing=larger, options=LevelOptions())
    for found, part in zip(boxes, parts, strict=True):
        if isinstance(part, Region) and found.level in labels:
            width = larger["region_size"] / larger["region_scale"]
            shape = disc_geometry(found.box, front_down=found.level in LEVELS[-2:], width_px=width)
            label, degeneration = labels[found.level]
            pair, numbers = (part.contrasts["t1"], part.contrasts["t2"]), (marrow or {}).get(found.level)
            yield Disc(*pair, label, found.level, patient, source, shape, degeneration, scanner, numbers)


def spider_discs(
    folder: Path, preprocessing: dict[str, Any], *, detector: str = "", segmenter: str = ""
) -> list[Disc]:  # fmt: skip
    """Discs of SPIDER patients with upright mid-sagittal T1 and T2 slices, disc boxes and grades 0 to 2.

    `detector` names weights that box the slices without trusted boxes (`boxed_by`); `segmenter` weights that find the
    endplates, beside which the marrow is measured.

    One slice per series, so discs have one. T1 and T2 of one size register to a pixel; others
    are placed by the boxes of both. The two discs of type 1 among these slices (patients 50 and 154) are of test
    patients; type 1 of other patients would be left out (`for_training`). Raises UsageError if the files are missing.
    """
    try:
        boxes = json.loads((folder / "disc_boxes.json").read_text(encoding="utf-8"))
        grades = _grades(folder / "gradings.csv")
    except OSError as error:
        raise UsageError(f"--data spider: {error}") from error
    if detector:
        boxes = boxed_by(detector, folder, boxes)
    scanners = _scanners(folder / "series.csv")
    discs: list[Disc] = []
    for t2_path in sorted((folder / "images").glob("*_t2.png")):
        patient = t2_path.stem.removesuffix("_t2")
        pair = spider_pair(folder / "images", patient, boxes)
        if pair is not None:
            t1, t2, on_t2 = pair
            labels = {
                LEVELS[-n]: grade for n, grade in grades[int(patient)].items() if n <= 6 and usable(patient, grade)
            }
            found = [
                LevelBox(name, box, 0, 1.0)
                for name, box in zip(LEVELS[-len(on_t2) :], on_t2[-len(LEVELS) :], strict=True)
            ]
            one = {**preprocessing, "slices": 1}
            marrow = disc_marrow(t1, t2, found, segmenter, scaled=True) if segmenter else None
            discs += cut_discs(
                t1, t2, found, labels, patient=patient, source="spider", preprocessing=one,
                scanner=scanners.get(patient, ""), marrow=marrow,
            )  # fmt: skip
    return discs


def usable(patient: str, grade: tuple[int, int]) -> bool:
    """Types 0 and 2; and type 1, for testing only, of test patients."""
    return grade[0] in (0, 2) or (grade[0] == 1 and split_of(patient) == "test")


def _scanners(path: Path) -> dict[str, str]:
    """Patient → scanner of the T2 series; of SPIDER's release only some copies have the file."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["new_file_name"].endswith("_t2")]
    return {
        row["new_file_name"].removesuffix("_t2"): scanner_name(row["Manufacturer"], row["MagneticFieldStrength"])
        for row in rows
    }


def _grades(path: Path) -> dict[int, dict[int, tuple[int, int]]]:
    """Patient → disc counted from L5/S1 upwards → (Modic type, Pfirrmann grade)."""
    grades: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            grades[int(row["Patient"])][int(row["IVD label"])] = (int(row["Modic"]), int(row["Pfirrman grade"] or 0))
    return grades


def spider_pair(
    images: Path, patient: str, boxes: dict[str, Any]
) -> tuple[CanonicalVolume, CanonicalVolume, Boxes] | None:
    """T1, T2 and the boxes on T2, or None where boxes are missing, cannot be trusted or do not fit both contrasts."""
    paths = [images / f"{patient}_{name}.png" for name in ("t1", "t2")]
    if not all(path.is_file() for path in paths):
        return None
    t1, t2 = (np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths)
    entries = {name: boxes.get(f"{patient}_{name}", {}) for name in ("t1", "t2")}
    on1, on2 = (e["boxes_xyxy_top_to_bottom"] if trusted(f"{patient}_{name}", e) else [] for name, e in entries.items())
    same_size, shared = t1.shape == t2.shape, min(len(on1), len(on2))
    if not (on1 or on2) or not (same_size or shared):
        return None
    affine1 = np.eye(3)
    if shared:  # counted from L5/S1
        first, second = np.array(on1[-shared:], float), np.array(on2[-shared:], float)
        affine1 = affine1 if same_size else _place(first, second)
        if not _agree(first, second, affine1, t1.shape, t2.shape):
            return None
    on_t2 = [(float(a), float(b), float(c), float(d)) for a, b, c, d in on2 or on1]
    return slice_volume(t1, affine1), slice_volume(t2, np.eye(3)), on_t2


def _agree(
    on1: np.ndarray, on2: np.ndarray, affine1: np.ndarray, shape1: tuple[int, ...], shape2: tuple[int, ...]
) -> bool:
    """Whether both contrasts name the same discs: boxes fall together, and so do the middles of the images (a spine
    is a ladder, and boxes named one level apart also fit each other). Neighbouring discs are 0.9 widths apart."""
    moved = on1 * np.diag(affine1)[[0, 1, 0, 1]] + affine1[[0, 1, 0, 1], 2]
    middle = affine1 @ (shape1[1] / 2, shape1[0] / 2, 1)
    off = np.abs(middle[:2] - (shape2[1] / 2, shape2[0] / 2)).max()
    width = (on2[:, 2] - on2[:, 0]).mean()
    return bool(np.abs(moved - on2).mean() < 0.15 * width and off < 0.4 * width)


def _place(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) map of (column, row, 1): scale and shift per axis that bring boxes (n, 4) onto boxes (n, 4)."""
    matrix = np.eye(3)
    for axis in (0, 1):
        scale, shift = np.polyfit(source[:, axis::2].ravel(), target[:, axis::2].ravel(), 1)
        matrix[axis, axis], matrix[axis, 2] = scale, shift
    return matrix


def save_discs(path: Path, discs: list[Disc]) -> None:
    """A cache in half precision, each contrast scaled to 0..1 of its region first."""
    images = np.stack([np.stack([_unit(d.t1), _unit(d.t2)]).astype(np.float16) for d in discs])
    rows = [(d.label, d.level, d.patient, d.source, d.degeneration, d.scanner) for d in discs]
    shapes = np.array([(d.geometry.width, d.geometry.thickness, d.geometry.tilt) for d in discs])
    nothing = np.full(max((len(d.marrow) for d in discs if d.marrow is not None), default=0), np.nan)
    marrow = np.array([nothing if d.marrow is None else d.marrow for d in discs])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=images, rows=np.array(json.dumps(rows)), shapes=shapes, marrow=marrow)


def load_discs(path: Path) -> list[Disc]:
    """What `save_discs` wrote."""
    with np.load(path) as file:
        images, rows, shapes = file["images"], json.loads(str(file["rows"])), file["shapes"]
        marrow = file["marrow"] if "marrow" in file else np.zeros((len(rows), 0))
    discs = []
    for (t1, t2), row, shape, measured in zip(images, rows, shapes, marrow, strict=True):
        label, level, patient, source, degeneration, scanner = row
        pair, geometry = (t1.astype(np.float32), t2.astype(np.float32)), DiscGeometry(*map(float, shape))
        numbers = measured if len(measured) else None
        discs.append(Disc(*pair, label, level, patient, source, geometry, degeneration, scanner, numbers))
    return discs


def _unit(values: np.ndarray) -> np.ndarray:
    return values / max(float(np.abs(values).max()), 1e-6)


def part_of(patient: str) -> str:
    """`test` (20 %, the detector's too), `stop` (10 %), `calibrate` (20 %) or `train`: by a hash of the patient."""
    split = split_of(patient)
    if split == "train":
        fifth = int(hashlib.sha256(f"calibrate {patient}".encode()).hexdigest(), 16) % 7
        return "calibrate" if fifth < 2 else "train"
    return "stop" if split == "validation" else "test"


def fold_of(patient: str, folds: int) -> int:
    """The fold of a patient in cross-validation, by a hash."""
    return int(hashlib.sha256(f"fold {patient}".encode()).hexdigest(), 16) % folds


def phantom_discs(patients: int, preprocessing: dict[str, Any], *, first_seed: int = 7_000_000) -> list[Disc]:
    """Discs of synthetic patients, lesions more frequent than in life; 1-3 s of a core each.

    Transitional spines are left out. Echo and repetition times and fields are drawn from those of SPIDER's headers.
    """
    from modic.phantom.many import on_all_cores

    seeds = range(first_seed, first_seed + patients)
    return [
        disc for discs in on_all_cores(partial(_phantom_discs, preprocessing=preprocessing), seeds) for disc in discs
    ]


def _phantom_discs(seed: int, preprocessing: dict[str, Any]) -> list[Disc]:
    from modic.phantom.anatomy import make_patient

    patient = make_patient(seed, p_mc1=0.3, p_mc2=0.3)
    return [] if patient.transitional else imaged_discs(patient, preprocessing)


def imaged_discs(
    patient: "Patient", preprocessing: dict[str, Any], *, matrix: tuple[int, int] = (272, 176),
    pixel_mm: tuple[float, float] = (0.95, 1.15), snr: tuple[float, float] = (12, 60),
) -> list[Disc]:  # fmt: skip
    """T1 and T2 of a synthetic patient, rendered with a scanner drawn from his seed, and cut into his six discs.

    `matrix`: rows, columns; `pixel_mm` and `snr` are drawn between these bounds.
    """
    from modic.phantom.physics import Sequence
    from modic.phantom.render import Grid, disc_boxes, render_many

    rng = np.random.default_rng([patient.seed, 11])
    _, y, z = patient.lumbar_centre_mm
    centre = (float(patient.lateral(z) + rng.normal(0, 2)), y, z - 15.0)
    spacing = float(rng.uniform(3.5, 5.0))
    grid = Grid("sagittal", *matrix, float(rng.uniform(*pixel_mm)), preprocessing["slices"], spacing, 2.0, centre)
    field = float(rng.choice([0.3, 1.0, 1.5, 1.5, 3.0]))
    t1 = Sequence("t1", float(rng.uniform(400, 800)), float(rng.uniform(7, 25)), field_t=field)
    t2 = Sequence("t2", float(rng.uniform(2500, 5500)), float(rng.uniform(80, 125)), field_t=field)
    noise, coil = float(rng.uniform(*snr)), float(rng.random())
    volumes = render_many(patient, grid, [t1, t2], seed=0, snr=noise, coil=coil)
    middle = preprocessing["slices"] // 2
    boxes = [LevelBox(name, box, middle, 1.0) for name, box in disc_boxes(patient, grid, middle) if name]
    labels = {level: (int(grade), 0) for level, grade in patient.grades.items()}
    return list(
        cut_discs(
            volumes[0].canonical(),
            volumes[1].canonical(),
            boxes,
            labels,
            patient=f"phantom-{patient.seed}",
            source="phantom",
            preprocessing=preprocessing,
        )
    )
