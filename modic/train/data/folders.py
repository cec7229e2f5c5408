"""`volumes=DIR` and `slices=DIR`: labelled images in files named `<patient_id>_t1.*` and `<patient_id>_t2.*`."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from modic.errors import UsageError
from modic.imaging.volume import CanonicalVolume
from modic.labels.level_names import shown
from modic.labels.table import Label, by_patient
from modic.labels.tally import Tally
from modic.train.data.images import PICTURES, VOLUMES, Unusable, read_picture, read_sagittal, simple_itk, stem_of
from modic.train.data.spider_slices import slice_volume
from modic.train.data.studies import Study, study_of

Files = dict[str, dict[str, Path]]  # patient → contrast → file
PIXELS = (".raw", ".zraw")  # of .mhd headers


def volume_studies(folder: Path, labels: list[Label], path: Path, tally: Tally) -> Iterator[Study]:
    """Studies of volumes, boxes in pixels of the upright T2. Raises UsageError without SimpleITK or without files."""
    simple_itk()
    yield from _studies(folder, VOLUMES, read_sagittal, labels, path, tally)


def slice_studies(folder: Path, labels: list[Label], path: Path, tally: Tally) -> Iterator[Study]:
    """Studies of one mid-sagittal picture a contrast, both on one grid of pixels, each a volume of one slice."""
    for study in _studies(folder, PICTURES, _picture_volume, labels, path, tally):
        if study.t1.voxels.shape == study.t2.voxels.shape:
            yield study
        else:
            tally.skip("labels of patients whose T1 and T2 differ in size; save both on one grid", *study.lines)


def _picture_volume(path: Path) -> CanonicalVolume:
    return slice_volume(read_picture(path), np.eye(3))


def _studies(
    folder: Path,
    suffixes: tuple[str, ...],
    read: Callable[[Path], CanonicalVolume],
    labels: list[Label],
    path: Path,
    tally: Tally,
) -> Iterator[Study]:
    files, of_patient = _files(folder, suffixes, tally), by_patient(path, labels)
    for patient, rows in of_patient.items():
        found, lines = files.pop(patient, {}), [row.where for row in rows]
        missing = [name.upper() for name in ("t1", "t2") if name not in found]
        if missing:
            what = "labels without images" if len(missing) == 2 else f"labels of patients without {missing[0]}"
            tally.skip(f"{what}; check the spelling, leading zeros too", *lines)
            continue
        try:
            yield study_of(patient, read(found["t1"]), read(found["t2"]), rows)
        except Unusable as why:
            tally.skip(f"labels whose images {why}", *lines)
    if files:
        tally.skip("patients without labels", *(shown(next(iter(one.values())).name) for one in files.values()))


def _files(folder: Path, suffixes: tuple[str, ...], tally: Tally) -> Files:
    if not folder.is_dir():
        raise UsageError(f"{folder} " + ("is not a folder" if folder.exists() else "does not exist"))
    files: Files = defaultdict(dict)
    for path in sorted(one for one in folder.iterdir() if not one.name.lower().endswith(PIXELS)):
        patient, _, contrast = (stem_of(path, suffixes) or "").rpartition("_")
        if not patient or contrast.lower() not in ("t1", "t2"):
            tally.skip("files of other names", shown(path.name))
        elif earlier := files[patient].get(contrast.lower()):
            names = f"{shown(earlier.name)} and {shown(path.name)}"
            raise UsageError(f"{folder}: {names} are both the {contrast.upper()} of one patient; keep one")
        else:
            files[patient][contrast.lower()] = path
    if not files:
        wanted = " and ".join(f"<patient_id>_{name}{suffixes[0]}" for name in ("t1", "t2"))
        raise UsageError(f"{folder} holds no images named {wanted} ({', '.join(suffixes)})")
    return files
