"""Small DICOM series for tests: plain lists of pydicom datasets, to be changed by a test and written to a folder.

    slices = series(t2(), n=11)
    slices[3].ImagePositionPatient = None
    write(slices, tmp_path)

Sagittal slices run from the patient's right to left (x from -22.5 to 22.5 mm), rows from head to feet, columns from
front to back. Every voxel of slice k holds 100 * k + row, so a test sees which slice and row each came from.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SAGITTAL = [0.0, 1, 0, 0, 0, -1]
AXIAL = [1.0, 0, 0, 0, 1, 0]
CORONAL = [1.0, 0, 0, 0, 0, -1]


def t1(**values: Any) -> dict[str, Any]:
    """Header values of a T1 spin echo."""
    return {"ScanningSequence": "SE", "RepetitionTime": 500, "EchoTime": 12, "EchoTrainLength": 3, **values}


def t2(**values: Any) -> dict[str, Any]:
    """Header values of a T2 turbo spin echo."""
    return {"ScanningSequence": "SE", "RepetitionTime": 3500, "EchoTime": 100, "EchoTrainLength": 17, **values}


def stir(**values: Any) -> dict[str, Any]:
    """Header values of a short-tau inversion recovery."""
    return t2(**{"ScanningSequence": "IR", "EchoTime": 60, "InversionTime": 150, **values})


def uid(*parts: object) -> str:
    """The same UID for the same parts."""
    return generate_uid(entropy_srcs=[str(part) for part in parts])


def series(
    values: dict[str, Any] | None = None,
    *,
    n: int = 11,
    name: object = "series",
    study: object = "study",
    patient: str = "patient-1",
    rows: int = 16,
    columns: int = 12,
    spacing: tuple[float, float] = (1.0, 1.0),
    gap: float = 4.5,
    orientation: list[float] | None = None,
    origin: tuple[float, float, float] | None = None,
) -> list[FileDataset]:
    """`n` slices `gap` mm apart, centred on the patient's origin unless `origin` gives the first corner."""
    axes = np.array(orientation or SAGITTAL).reshape(2, 3)
    normal = np.cross(axes[0], axes[1])
    normal = normal if normal[np.argmax(np.abs(normal))] > 0 else -normal
    if origin is None:
        sides = np.array([(columns - 1) * spacing[1], (rows - 1) * spacing[0]])
        first = -(sides / 2) @ axes - normal * gap * (n - 1) / 2
    else:
        first = np.array(origin)
    slices = []
    for index in range(n):
        pixels = (100 * index + np.arange(rows)[:, None] + np.zeros(columns)).astype(np.uint16)
        slices.append(_slice(pixels, spacing, index, name, study, patient))
        slices[-1].ImageOrientationPatient = axes.ravel().tolist()
        slices[-1].ImagePositionPatient = np.round(first + normal * gap * index, 4).tolist()
        slices[-1].update(dataset(t2() if values is None else values))
    return slices


def dataset(values: dict[str, Any]) -> Dataset:
    """A data set of DICOM keywords and their values."""
    elements = Dataset()
    for keyword, value in values.items():
        setattr(elements, keyword, value)
    return elements


def _slice(
    pixels: np.ndarray, spacing: tuple[float, float], index: int, name: object, study: object, patient: str
) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid(patient, study, name, index)
    slice_ = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    slice_.SOPClassUID, slice_.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID = uid(patient, study), uid(patient, study, name)
    slice_.FrameOfReferenceUID = uid(patient, study, "frame")
    slice_.Modality, slice_.PatientID, slice_.InstanceNumber = "MR", patient, index + 1
    slice_.Manufacturer, slice_.MagneticFieldStrength = "MADE", 1.5
    slice_.ImageType, slice_.MRAcquisitionType = ["ORIGINAL", "PRIMARY", "M"], "2D"
    slice_.StudyDate, slice_.SliceThickness = "20200102", 4.0
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
    slice_.PixelSpacing = list(spacing)
    set_pixels(slice_, pixels)
    return slice_


def set_pixels(slice_: Dataset, pixels: np.ndarray) -> None:
    """Replace the pixels, with Rows and Columns as they are."""
    slice_.Rows, slice_.Columns = pixels.shape[:2]
    slice_.PixelData = pixels.tobytes()
    slice_["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"


def study(**values: Any) -> list[FileDataset]:
    """One T1 and one T2 that make a pair; `values` go to `series` for both."""
    return series(t1(), name="t1", **values) + series(t2(), name="t2", **values)


def write(slices: Iterable[Dataset], folder: Path) -> list[Path]:
    """One file a slice, in order; names are numbers, from which nothing can be guessed."""
    folder.mkdir(parents=True, exist_ok=True)
    start = len(list(folder.iterdir()))
    paths = []
    for number, slice_ in enumerate(slices, start):
        paths.append(folder / f"{number:05}")
        slice_.save_as(paths[-1], enforce_file_format=True)
    return paths
