"""Series as archives really hold them: the right volume comes out, or a refusal by name; never a wrong volume."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dicoms
import numpy as np
import pyarrow as pa
import pytest
from pydicom.dataset import Dataset

from modic.config import IdentifyOptions
from modic.crawl import COLUMNS, crawl
from modic.errors import Reason, Rejected
from modic.identify import identify
from modic.records import Series, Volume
from modic.roles import find_role
from modic.volume import load_volume

OPTIONS = IdentifyOptions()
Slices = list[Dataset]


def series_of(slices: Slices, folder: Path) -> list[Series]:
    dicoms.write(slices, folder / "archive")
    return identify(crawl(folder / "archive", index=None).headers, options=OPTIONS)


def load(series: Series) -> Volume:
    volume = load_volume(series, options=OPTIONS)
    assert isinstance(volume, Volume), volume
    return volume


def interleaved(slices: Slices) -> Slices:
    for number, slice_ in enumerate(slices[::2] + slices[1::2], 1):
        slice_.InstanceNumber = number
    return slices[::-1]


def truncated(slices: Slices) -> Slices:
    slices[5].PixelData = slices[5].PixelData[:100]
    return slices


def localizer_inside(slices: Slices) -> Slices:
    other = dicoms.series(dicoms.t2(), n=1, name="x", orientation=dicoms.CORONAL, rows=32, columns=32)[0]
    other.SeriesInstanceUID = slices[0].SeriesInstanceUID
    return [*slices[:4], other, *slices[4:]]


def mixed_matrix(slices: Slices) -> Slices:
    slices[4].PixelSpacing = [2.0, 2.0]
    dicoms.set_pixels(slices[4], np.zeros((8, 6), np.uint16))
    return slices


def duplicate(slices: Slices) -> Slices:
    again = dicoms.series(n=11)[6]
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = dicoms.uid("again")
    again.InstanceNumber = 12
    return [*slices, again]


def conflicting(slices: Slices) -> Slices:
    *slices, again = duplicate(slices)
    dicoms.set_pixels(again, np.full((16, 12), 7, np.uint16))
    return [*slices, again]


def rescaled(slices: Slices) -> Slices:
    for slice_ in slices:
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, -3
    return slices


def without(keyword: str, *indices: int) -> Callable[[Slices], Slices]:
    def change(slices: Slices) -> Slices:
        for index in indices or range(len(slices)):
            if keyword in slices[index]:
                delattr(slices[index], keyword)
        return slices

    return change


def uneven(slices: Slices) -> Slices:
    slices[5].ImagePositionPatient[0] += 1.2
    return slices


def turned(slices: Slices) -> Slices:
    slices[5].ImageOrientationPatient = [0.02, 0.9998, 0, 0, 0, -1]
    return slices


def coloured(slices: Slices) -> Slices:
    for slice_ in slices:
        slice_.PhotometricInterpretation, slice_.SamplesPerPixel, slice_.PlanarConfiguration = "RGB", 3, 0
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 8, 8, 7
        slice_.PixelData = bytes(16 * 12 * 3)
    return slices


@dataclass(frozen=True)
class Case:
    change: Callable[[Slices], Slices]
    reason: Reason | None = None  # of the first stack; None: the volume is right
    warned: str = ""
    factor: tuple[float, float] = (1, 0)  # of the expected voxels
    stacks: int = 1


CASES = {
    "plain": Case(lambda slices: slices),
    "interleaved instance numbers": Case(interleaved),
    "missing slice": Case(lambda slices: slices[:4] + slices[5:], Reason.SERIES_MISSING_SLICE),
    "localizer inside": Case(localizer_inside, stacks=2),
    "mixed matrix": Case(mixed_matrix, Reason.SERIES_MIXED_MATRIX),
    "duplicate slice, new UID": Case(duplicate, warned="duplicate"),
    "truncated file": Case(truncated, Reason.SERIES_MISSING_SLICE),
    "rescale slope 2": Case(rescaled, factor=(2, -3)),
    "a slice without position": Case(without("ImagePositionPatient", 3), warned="inferred"),
    "the last without position": Case(without("ImagePositionPatient", 10), warned="inferred"),
    "no positions": Case(without("ImagePositionPatient"), Reason.SERIES_NO_POSITION),
    "no orientation": Case(without("ImageOrientationPatient"), Reason.SERIES_NO_POSITION),
    "no instance number": Case(without("InstanceNumber")),
    "no description": Case(without("SeriesDescription")),
    "no spacing": Case(without("PixelSpacing"), Reason.SERIES_NO_SPACING),
    "uneven spacing": Case(uneven, Reason.SERIES_UNEVEN_SPACING),
    "mixed orientation": Case(turned, Reason.SERIES_MIXED_ORIENTATION),
    "few slices": Case(lambda slices: slices[:4], Reason.SERIES_TOO_FEW_SLICES),
    "colour": Case(coloured, Reason.SERIES_NOT_GREYSCALE),
}


@pytest.mark.parametrize("name", CASES)
def test_the_right_volume_or_a_refusal_by_name(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    first, *others = series_of(case.change(dicoms.series(n=11)), tmp_path)
    assert len(others) == case.stacks - 1
    assert all(other.rejected for other in others)
    assert (first.rejected.reason if first.rejected else None) == case.reason
    assert case.warned in " ".join(first.warnings)
    assert bool(first.warnings) == bool(case.warned) or case.reason
    if case.reason is None:
        volume = load(first)
        expected = 100 * np.arange(11)[:, None, None] + np.arange(16)[:, None] + np.zeros(12)
        np.testing.assert_array_equal(volume.voxels, expected * case.factor[0] + case.factor[1])
        corner = volume.to_mm(np.array([[0, 0, 0], [11, 15, 10]]))
        np.testing.assert_allclose(corner, [[-22.5, -5.5, 7.5], [22.5, 5.5, -7.5]], atol=1e-3)


def test_duplicates_with_different_pixels_are_refused(tmp_path: Path) -> None:
    (found,) = series_of(conflicting(dicoms.series(n=11)), tmp_path)
    refused = load_volume(found, options=OPTIONS)
    assert isinstance(refused, Rejected)
    assert refused.reason == Reason.SERIES_CONFLICTING_SLICES


def test_the_same_file_twice_is_one_slice(tmp_path: Path) -> None:
    (found,) = series_of(dicoms.series(n=11) + dicoms.series(n=11), tmp_path)
    assert (found.n_slices, len(found.duplicates), found.rejected) == (11, 11, None)
    assert load(found).voxels.shape == (11, 16, 12)


def test_t1_and_t2_in_one_folder_and_one_series_uid(tmp_path: Path) -> None:
    slices = dicoms.series(dicoms.t1(), name="one") + dicoms.series(dicoms.t2(), name="two")
    for slice_ in slices:
        slice_.SeriesInstanceUID = slices[0].SeriesInstanceUID
    first, second = series_of(slices, tmp_path)
    assert {first.role, second.role} == {"t1", "t2"}
    assert load(first).voxels.shape == load(second).voxels.shape == (11, 16, 12)


@pytest.mark.parametrize("second", [{"origin": (-22.5, -5.5, -40.0)}, {}], ids=["two stations", "acquired twice"])
def test_two_stacks_of_one_series_are_two_volumes(second: dict[str, Any], tmp_path: Path) -> None:
    slices = dicoms.series(n=11) + dicoms.series(name="other", n=11, **second)
    for number, slice_ in enumerate(slices, 1):
        slice_.SeriesInstanceUID, slice_.InstanceNumber = slices[0].SeriesInstanceUID, number
    for slice_ in slices[11:]:
        slice_.AcquisitionTime = "120000"
    first, other = series_of(slices, tmp_path)
    for stack in (first, other):
        assert stack.rejected is None
        assert load(stack).voxels[:, 0, 0].tolist() == list(range(0, 1100, 100))
    assert (first.stack, other.stack) == (0, 1)


@pytest.mark.parametrize("stored", ["int16", "uint8"])
def test_signed_eight_bit_and_inverted_pixels(stored: str, tmp_path: Path) -> None:
    slices = dicoms.series(n=6)
    for slice_ in slices:
        pixels = (np.arange(16 * 12).reshape(16, 12) - (50 if stored == "int16" else 0)).astype(stored)
        dicoms.set_pixels(slice_, pixels)
        bits = pixels.itemsize * 8
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = bits, bits, bits - 1
        slice_.PixelRepresentation = int(stored == "int16")
        slice_.PhotometricInterpretation = "MONOCHROME1"
    (found,) = series_of(slices, tmp_path)
    low, high = (-50, 141) if stored == "int16" else (0, 191)
    voxels = load(found).voxels
    assert (voxels[0, 0, 0], voxels[0, -1, -1]) == (high, low)


def test_oblique_and_non_square(tmp_path: Path) -> None:
    c, s = np.cos(0.4), np.sin(0.4)
    orientation = [-s, c, 0.0, 0.0, 0.0, -1.0]
    (found,) = series_of(dicoms.series(orientation=orientation, spacing=(0.7, 1.3), rows=20, columns=10), tmp_path)
    assert found.plane == "sagittal"
    assert "degrees" in found.warnings[0]
    volume = load(found)
    np.testing.assert_allclose(volume.spacing_mm, (1.3, 0.7, 4.5), rtol=1e-3)
    centre = volume.to_mm(np.array([[4.5, 9.5, 5.0]]))
    np.testing.assert_allclose(centre, 0, atol=1e-3)


@pytest.mark.parametrize(
    "values, role",
    [
        (dicoms.t1(), "t1"),
        (dicoms.t2(), "t2"),
        (dicoms.stir(), "stir"),
        (dicoms.t1(ScanOptions="FS"), "t1_fat_suppressed"),
        (dicoms.t2(ScanOptions=["SP", "FS"]), "t2_fat_suppressed"),
        (dicoms.t2(ScanOptions=["SP", "FC"]), "t2"),
        (dicoms.t1(ContrastBolusAgent="Gadovist"), "t1_post_contrast"),
        (dicoms.t1(ContrastBolusAgent="off"), "t1"),
        (dicoms.t2(EchoTime=20), "proton_density"),
        (dicoms.t2(ScanningSequence="EP", DiffusionBValue=800.0), "diffusion"),
        (dicoms.t1(ScanningSequence="GR", FlipAngle=30), "gradient_echo"),
        (dicoms.t2(ImageType=["ORIGINAL", "PRIMARY", "WATER"]), "dixon"),
        (dicoms.t2(ImageType=["DERIVED", "PRIMARY", "LOCALIZER"]), "localizer"),
        (dicoms.t2(ImageType=["DERIVED", "PRIMARY", "ADC"]), "derived"),
        (dicoms.t2(ImageType=["DERIVED", "SECONDARY", "OTHER"]), "t2"),
        (dicoms.t1(ScanningSequence="IR", RepetitionTime=2000, InversionTime=860), "t1"),
        (dicoms.t2(EchoTime=50), "unknown"),
        (dicoms.t2(EchoTime=50, SeriesDescription="SAG T2 TSE"), "t2"),
        (dicoms.t1(SeriesDescription="T2 SAG"), "t1"),
    ],
)
def test_roles_come_from_physics(values: dict[str, Any], role: str, tmp_path: Path) -> None:
    (found,) = series_of(dicoms.series(values, n=6), tmp_path)
    assert found.role == role
    assert (found.rejected is None) == (role in ("t1", "t2"))
    assert "T2 SAG" not in found.role_evidence


def test_a_blank_patient_id_links_no_studies(tmp_path: Path) -> None:
    found = series_of(dicoms.series(patient="", study=1, n=6) + dicoms.series(patient="", study=2, n=6), tmp_path)
    assert len({one.patient_id for one in found}) == 2


def test_thousands_of_orientations_in_one_series_end(tmp_path: Path) -> None:
    (row,) = crawl(_one_file(tmp_path), index=None).headers.to_pylist()
    angles = np.linspace(0, 1.5, 5000)
    turned_rows = [
        {**row, "frame": k, "ImageOrientationPatient": [-np.sin(a), np.cos(a), 0, 0, 0, -1]}
        for k, a in enumerate(angles)
    ]
    found = identify(pa.Table.from_pylist(turned_rows), options=OPTIONS)
    assert sum(one.n_slices for one in found) == 5000
    assert all(one.rejected for one in found)


def _one_file(folder: Path) -> Path:
    dicoms.write(dicoms.series(n=1), folder)
    return folder


def test_planes(tmp_path: Path) -> None:
    for orientation, plane in ((dicoms.AXIAL, "axial"), (dicoms.CORONAL, "coronal"), (dicoms.SAGITTAL, "sagittal")):
        (found,) = series_of(dicoms.series(orientation=orientation, n=6), tmp_path / plane)
        assert found.plane == plane


def test_real_header_values_of_spider(shared_data: Path) -> None:
    """Descriptions blanked: 97 % right, and no T1 for a T2 or the other way round."""
    with (shared_data / "spider" / "series.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    named = [(row["new_file_name"].split("_", 1)[1][:2], find_role(_spider_header(row)).role) for row in rows]
    right = sum(name == role for name, role in named)
    assert right / len(named) >= 0.97
    assert not {("t1", "t2"), ("t2", "t1")} & set(named)
    assert ("t2", "stir") in named  # the one inversion recovery that the file calls a T2


def _spider_header(row: dict[str, str]) -> dict[str, Any]:
    header: dict[str, Any] = {**dict.fromkeys(COLUMNS), "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}
    for keyword in ("RepetitionTime", "EchoTime", "FlipAngle", "EchoTrainLength"):
        header[keyword] = float(row[keyword]) if row[keyword] else None
    header["ScanningSequence"] = row["ScanningSequence"].strip("[]").replace("'", "").replace(", ", "\\")
    return {**header, "SequenceName": row["SequenceName"], "MRAcquisitionType": row["MRAcquisitionType"]}


def test_hitachi_study_is_identified(shared_data: Path) -> None:
    found = identify(crawl(shared_data / "hitachi-lspine", index=None).headers, options=OPTIONS)
    sagittal = {one.role: one.rejected is None for one in found if one.plane == "sagittal"}
    assert sagittal == {"t1": True, "t2": True, "stir": False}
    assert sum(one.n_slices for one in found) == 67
