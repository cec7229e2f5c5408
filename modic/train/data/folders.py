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
from modic.models.card import DEFAULT_CONTRASTS
from modic.train.data.images import PICTURES, VOLUMES, Unusable, read_picture, read_sagittal, simple_itk, stem_of
from modic.train.data.samples import slice_volume
from modic.train.data.studies import Study, study_of

Files = dict[str, dict[str, Path]]
"""Patient → contrast → file."""
PIXELS = (".raw", ".zraw")  # files that belong to .mhd headers


def volume_studies(folder: Path, labels: list[Label], path: Path, tally: Tally) -> Iterator[Study]:
    """The labelled studies of a folder of volumes; boxes are in pixels of the upright T2.

    Args:
        labels: of the table `path`.
        tally: counts what is left out.

    Raises:
        UsageError: SimpleITK is not installed, or the folder holds no volumes.
    """
    simple_itk()
    yield from _studies(folder, VOLUMES, read_sagittal, labels, path, tally)


def slice_studies(folder: Path, labels: list[Label], path: Path, tally: Tally) -> Iterator[Study]:
    """The labelled studies of a folder of mid-sagittal pictures, each a volume of one slice.

    Both contrasts of a study must have one size. Arguments and errors as of `volume_studies`.
    """
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
        paths, lines = files.pop(patient, {}), [row.where for row in rows]
        missing = [name.upper() for name in DEFAULT_CONTRASTS if name not in paths]
        if missing:
            what = "labels without images" if not paths else f"labels of patients without {missing[0]}"
            tally.skip(f"{what}; check the spelling, leading zeros too", *lines)
            continue
        try:
            yield study_of(patient, read(paths["t1"]), read(paths["t2"]), rows)
        except Unusable as why:
            tally.skip(f"labels whose images {why}", *lines)
    if files:
        names = [next(iter(paths.values())).name for paths in files.values()]
        tally.skip("patients without labels", *map(shown, names))


def _files(folder: Path, suffixes: tuple[str, ...], tally: Tally) -> Files:
    """The images of a folder. Raises UsageError if there are none, or two of one patient and contrast."""
    if not folder.is_dir():
        raise UsageError(f"{folder} " + ("is not a folder" if folder.exists() else "does not exist"))
    files: Files = defaultdict(dict)
    for path in sorted(path for path in folder.iterdir() if not path.name.lower().endswith(PIXELS)):
        patient, _, contrast = (stem_of(path, suffixes) or "").rpartition("_")
        if not patient or contrast.lower() not in DEFAULT_CONTRASTS:
            tally.skip("files of other names", shown(path.name))
        elif earlier := files[patient].get(contrast.lower()):
            names = f"{shown(earlier.name)} and {shown(path.name)}"
            raise UsageError(f"{folder}: {names} are both the {contrast.upper()} of one patient; keep one")
        else:
            files[patient][contrast.lower()] = path
    if not files:
        wanted = " and ".join(f"<patient_id>_{name}{suffixes[0]}" for name in DEFAULT_CONTRASTS)
        raise UsageError(f"{folder} holds no images named {wanted} ({', '.join(suffixes)})")
    return files
