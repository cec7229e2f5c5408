"""Odd series as archives hold them, each with the right outcome: its voxels and their places, or why it is refused.

A kind is a function that makes a `Case`: the files, the volumes that must come out of them, and the reasons why all
other stacks are refused. Every voxel of a spine has its own value, so that a swapped, flipped or shifted voxel cannot
go unnoticed.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage

import dicoms
from modic.archive.crawl import crawl
from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.records import Series
from modic.series.identify import identify

OPTIONS = IdentifyOptions()
Slices = list[FileDataset]


@dataclass(frozen=True, eq=False)
class Truth:
    """A volume that must come out: voxels (slices, rows, columns) and the affine to LPS mm of (column, row, slice)."""

    voxels: np.ndarray
    affine: np.ndarray
    contrast: str = "t2"


@dataclass(frozen=True, eq=False)
class Case:
    """The files of one kind of series, and what must become of them."""

    files: Sequence[Dataset | bytes]
    right: list[Truth] = field(default_factory=list)
    refused: list[Reason] = field(default_factory=list)  # one for each stack that gives no volume
    rejected: dict[Reason, int] = field(default_factory=dict)  # files that the crawl refuses
    warned: str = ""  # part of a warning of a stack; empty if no stack of `right` has any
    within_mm: float = 0.002
    within: float = 0.0  # of a voxel's value; lossy compression


KINDS: dict[str, Callable[[], Case]] = {}


def kind(make: Callable[[], Case]) -> Callable[[], Case]:
    """Register a kind under its function's name, with blanks."""
    KINDS[make.__name__.replace("_", " ")] = make
    return make


def spine(values: dict[str, Any] | None = None, **options: Any) -> Slices:
    """`dicoms.series` with a value of its own for every voxel."""
    slices = dicoms.series(values, **options)
    for index, slice_ in enumerate(slices):
        dicoms.set_pixels(slice_, pattern(index, slice_.Rows, slice_.Columns))
    return slices


def pattern(index: int, rows: int = 16, columns: int = 12) -> np.ndarray:
    """uint16 (rows, columns), different in every pixel of every slice."""
    return (rows * columns * index + np.arange(rows * columns)).reshape(rows, columns).astype(np.uint16)


def truth_of(slices: Slices, contrast: str = "t2") -> Truth:
    """What classic slices, in order of place, mean by DICOM PS3.3 C.7.6.2.1.1."""
    voxels = np.stack(
        [np.frombuffer(slice_.PixelData, "<u2").reshape(slice_.Rows, slice_.Columns) for slice_ in slices]
    )
    corners = [np.array(slice_.ImagePositionPatient, float) for slice_ in slices]
    directions = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = directions[0] * between_columns, directions[1] * between_rows
    affine[:3, 2], affine[:3, 3] = (corners[-1] - corners[0]) / (len(slices) - 1), corners[0]
    return Truth(voxels.astype(float), affine, contrast)


def difference(volume: Volume, truth: Truth, *, within_mm: float, within: float) -> str:
    """What is wrong with a volume; empty if each voxel has the value that the truth has at its place."""
    if sorted(volume.voxels.shape) != sorted(truth.voxels.shape):
        return f"shape {volume.voxels.shape}, not {truth.voxels.shape}"
    index = np.stack(np.meshgrid(*map(np.arange, volume.voxels.shape[::-1]), indexing="ij"), -1).reshape(-1, 3)
    place = (volume.to_mm(index) - truth.affine[:3, 3]) @ np.linalg.inv(truth.affine[:3, :3]).T
    nearest = np.rint(place).astype(int)
    off_mm = np.linalg.norm((place - nearest) @ truth.affine[:3, :3].T, axis=1).max()
    if off_mm > within_mm or nearest.min() < 0 or (nearest >= truth.voxels.shape[::-1]).any():
        return f"up to {off_mm:.4f} mm from the grid, indices {nearest.min(0)} to {nearest.max(0)}"
    expected = truth.voxels[nearest[:, 2], nearest[:, 1], nearest[:, 0]]
    error = float(np.abs(volume.voxels[index[:, 2], index[:, 1], index[:, 0]] - expected).max())
    return "" if error <= within else f"a value is wrong by {error:g}"


def outcomes(
    files: Sequence[Dataset | bytes], folder: Path
) -> tuple[dict[str, int], list[Series], list[Volume | Rejected]]:
    """Numbers of files refused by reason, the stacks, and the volume of each or the reason why there is none."""
    (folder / "archive").mkdir()
    for number, file in enumerate(files):
        (folder / "archive" / f"{number:05}").write_bytes(file if isinstance(file, bytes) else encoded(file))
    crawled = crawl(folder / "archive", index=None)
    stacks = identify(crawled.headers, options=OPTIONS)
    return crawled.counts["rejected"], stacks, [load_volume(stack, options=OPTIONS) for stack in stacks]


def encoded(slice_: Dataset) -> bytes:
    """The file that holds a data set."""
    buffer = io.BytesIO()
    slice_.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def in_one_series(*parts: Slices) -> Slices:
    """The slices of all parts under the first one's series, numbered through."""
    slices = [slice_ for part in parts for slice_ in part]
    for number, slice_ in enumerate(slices, 1):
        slice_.SeriesInstanceUID, slice_.InstanceNumber = slices[0].SeriesInstanceUID, number
    return slices


def changed(slices: Slices, which: slice | list[int] = slice(None), **values: Any) -> Slices:
    """Set elements of some slices, or remove those that are None; returns all slices."""
    for slice_ in slices[which] if isinstance(which, slice) else [slices[index] for index in which]:
        for keyword, value in values.items():
            if value is None:
                slice_.pop(keyword, None)
            else:
                setattr(slice_, keyword, value)
    return slices


def enhanced(*stacks: Slices) -> FileDataset:
    """One Enhanced MR image of the slices, StackID counting stacks; geometry and physics in functional groups only."""
    slices = [slice_ for stack in stacks for slice_ in stack]
    image = dicoms.series(n=1, name="enhanced")[0]
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime"):
        delattr(image, keyword)
    for keyword in ("RepetitionTime", "EchoTrainLength", "ScanningSequence", "InstanceNumber"):
        delattr(image, keyword)
    image.NumberOfFrames, image.EchoPulseSequence = len(slices), "SPIN"
    image.Rows, image.Columns = slices[0].Rows, slices[0].Columns
    image.PixelData = b"".join(slice_.PixelData for slice_ in slices)
    image.SharedFunctionalGroupsSequence = Items([Dataset()])
    image.PerFrameFunctionalGroupsSequence = Items(
        [_groups(slice_, number) for number, stack in enumerate(stacks, 1) for slice_ in stack]
    )
    return image


def _groups(slice_: Dataset, stack: int) -> Dataset:
    """The functional groups of one frame."""
    groups = Dataset()
    for sequence, values in {
        "FrameContentSequence": {"StackID": str(stack), "InStackPositionNumber": slice_.InstanceNumber},
        "PlanePositionSequence": {"ImagePositionPatient": slice_.ImagePositionPatient},
        "PlaneOrientationSequence": {"ImageOrientationPatient": slice_.ImageOrientationPatient},
        "PixelMeasuresSequence": {"PixelSpacing": slice_.PixelSpacing, "SliceThickness": 4.0},
        "MREchoSequence": {"EffectiveEchoTime": float(slice_.EchoTime)},
        "MRTimingAndRelatedParametersSequence": {
            "RepetitionTime": float(slice_.RepetitionTime),
            "EchoTrainLength": int(slice_.EchoTrainLength),
        },
    }.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(groups, sequence, Items([item]))
    return groups


def rotation(degrees: float, axis: int) -> np.ndarray:
    """Rotation matrix (3, 3) about one patient axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    first, second = [index for index in range(3) if index != axis]
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def turned(*turns: tuple[float, int]) -> list[float]:
    """ImageOrientationPatient of a sagittal slice turned by some degrees about patient axes, one after the other."""
    directions = np.array(dicoms.SAGITTAL).reshape(2, 3)
    for degrees, axis in turns:
        directions = directions @ rotation(degrees, axis).T
    return directions.ravel().tolist()
