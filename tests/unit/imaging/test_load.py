"""What can happen between the crawl and the moment the pixels are read. (Geometry:
tests/unit/series/test_identify.py.)"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless

import dicoms
from modic.archive.crawl import crawl
from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected
from modic.imaging.load import load_volume
from modic.imaging.volume import CanonicalVolume, Volume
from modic.records import Series
from modic.series.identify import identify

OPTIONS = IdentifyOptions()


def identified(archive: Path) -> Series:
    (found,) = identify(crawl(archive, index=None).headers, options=OPTIONS)
    return found


@pytest.mark.parametrize("happens", ["gone", "grown", "replaced"])
def test_files_that_changed_since_the_crawl(happens: str, tmp_path: Path) -> None:
    paths = dicoms.write(dicoms.series(n=6), tmp_path)
    found = identified(tmp_path)
    if happens == "gone":
        paths[3].unlink()
    elif happens == "grown":
        paths[3].write_bytes(paths[3].read_bytes() + b"\0\0")
    else:
        other = replace(found.images[3], sop_uid="1.2.3")
        found = replace(found, images=(*found.images[:3], other, *found.images[4:]))
    refused = load_volume(found, options=OPTIONS)
    assert isinstance(refused, Rejected)
    assert refused.reason == Reason.STUDY_FILES_CHANGED
    assert str(tmp_path) not in refused.detail


@pytest.mark.parametrize(
    "name", [b"M\xfcller", "Müller".encode(), "\uf7fc\uf6ff".encode(), b"\xef\x9f\xbc\xff", b"a\nb"]
)
def test_files_of_any_name_are_read_and_known_again(name: bytes, tmp_path: Path) -> None:
    """Latin-1 as archives of the nineties have it, and what our own way of writing that down looks like."""
    folder = tmp_path / "archive" / os.fsdecode(name)
    paths = dicoms.write(dicoms.series(n=6), folder)
    for path in paths[:3]:
        path.rename(folder / os.fsdecode(os.fsencode(path.name) + name))
    volume = load_volume(identified(tmp_path / "archive"), options=OPTIONS)
    assert isinstance(volume, Volume)
    assert volume.voxels[:, 1, 0].tolist() == [1, 101, 201, 301, 401, 501]
    for _ in range(2):
        again = crawl(tmp_path / "archive", index=tmp_path / "index.parquet").counts
    assert (again["files_unchanged"], again["files_gone"], again["files_seen"]) == (6, 0, 6)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels(syntax: str, tmp_path: Path) -> None:
    slices = dicoms.series(n=6, rows=64, columns=64)
    for slice_ in slices:
        slice_.compress(syntax, encoding_plugin="pylibjpeg" if syntax == JPEG2000Lossless else "pydicom")
    dicoms.write(slices, tmp_path)
    volume = load_volume(identified(tmp_path), options=OPTIONS)
    assert isinstance(volume, Volume)
    assert volume.voxels[:, 1, 0].tolist() == [1, 101, 201, 301, 401, 501]


def test_pixels_that_cannot_be_decoded(tmp_path: Path) -> None:
    slices = dicoms.series(n=6, rows=64, columns=64)
    for slice_ in slices:
        slice_.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    data = bytearray(slices[2].PixelData)
    data[20:60] = bytes(40)
    slices[2].PixelData = bytes(data)
    dicoms.write(slices, tmp_path)
    refused = load_volume(identified(tmp_path), options=OPTIONS)
    assert isinstance(refused, Rejected)
    assert refused.reason == Reason.STUDY_PIXELS_UNREADABLE


def test_a_refused_series_stays_refused(tmp_path: Path) -> None:
    dicoms.write(dicoms.series(n=3), tmp_path)
    found = identified(tmp_path)
    assert load_volume(found, options=OPTIONS) == found.rejected


def test_the_frames_of_an_enhanced_image(shared_data: Path) -> None:
    archive = shared_data / "dicom-corpus" / "dcm_qa_enh" / "In" / "Philips"
    first, *_ = identify(crawl(archive, index=None).headers, options=OPTIONS)
    volume = load_volume(replace(first, rejected=None), options=OPTIONS)
    assert isinstance(volume, CanonicalVolume)
    assert volume.native.shape == (32, 64, 64)
    assert np.ptp(volume.voxels) > 0
    np.testing.assert_allclose(volume.spacing_mm, 4.0, rtol=1e-4)


def test_a_blank_before_the_transfer_syntax_does_not_hide_the_pixels(tmp_path: Path) -> None:
    paths = dicoms.write(dicoms.series(), tmp_path)
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b" 1.2.840.10008.1.2.1"))
    (found,) = identify(crawl(tmp_path, index=None).headers, options=IdentifyOptions())
    volume = load_volume(found, options=IdentifyOptions())
    assert isinstance(volume, Volume) and volume.voxels.shape == (11, 16, 12)


@pytest.mark.parametrize(
    "bits, padding, limit, stored",
    [
        ("<u2", 65535, None, [65535]),
        ("<u2", 0, None, [0]),
        ("<i2", -2000, None, [-2000]),
        ("<i2", 63536, None, [-2000]),  # the same bits, written unsigned
        ("<u2", 60000, 65535, [60000, 62000, 65535]),
        ("<i2", -1024, -2000, [-2000, -1500, -1024]),  # either end may come first
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_padding_is_background_before_anything_is_scaled(
    bits: str, padding: int, limit: int | None, stored: list[int], photometric: str, tmp_path: Path
) -> None:
    slices = dicoms.series(n=6)
    for index, slice_ in enumerate(slices):
        pixels = (50 * index + np.arange(16)[:, None] + np.zeros(12)).astype(bits) + 100
        pixels[:, :3] = np.resize(stored, 3)
        dicoms.set_pixels(slice_, pixels)
        slice_.PixelRepresentation = int(np.dtype(bits).kind == "i")
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, 10
        slice_.PhotometricInterpretation = photometric
        kind = "SS" if padding < 0 else "US"
        slice_.add_new("PixelPaddingValue", kind, padding)
        if limit is not None:
            slice_.add_new("PixelPaddingRangeLimit", kind, limit)
    dicoms.write(slices, tmp_path)
    volume = load_volume(identified(tmp_path), options=OPTIONS)
    assert isinstance(volume, Volume)
    lowest = 0 if photometric == "MONOCHROME1" else 2 * 100 + 10
    assert (volume.voxels.min(), volume.voxels.max()) == (lowest, lowest + 2 * 265)
    assert (volume.voxels[:, :, :3] == lowest).all()
    inside = volume.voxels[0, :, 5].tolist()
    expected = [2 * (100 + row) + 10 for row in range(16)]
    assert inside == (expected if photometric == "MONOCHROME2" else [740 - value for value in expected])


def test_a_slice_of_padding_alone_is_blank(tmp_path: Path) -> None:
    slices = dicoms.series(n=6)
    for slice_ in slices:
        slice_.add_new("PixelPaddingValue", "US", 9)
    dicoms.set_pixels(slices[2], np.full((16, 12), 9, np.uint16))
    dicoms.write(slices, tmp_path)
    refused = load_volume(identified(tmp_path), options=OPTIONS)
    assert isinstance(refused, Rejected)
    assert refused.reason == Reason.STUDY_PIXELS_UNREADABLE


def test_pixels_without_padding_stay_as_they_are(tmp_path: Path) -> None:
    slices = dicoms.series(n=6)
    for slice_ in slices:
        slice_.add_new("PixelPaddingValue", "US", 60_000)
    dicoms.write(slices, tmp_path)
    volume = load_volume(identified(tmp_path), options=OPTIONS)
    assert isinstance(volume, Volume)
    assert volume.voxels[:, 0, 0].tolist() == [0, 100, 200, 300, 400, 500]


def written(tmp_path: Path, change: Callable[[int, Dataset], None]) -> tuple[list[int], list[int]]:
    """First values of a series' slices as loaded, and which of the files pydicom read."""
    slices = dicoms.series(n=6)
    for index, slice_ in enumerate(slices):
        change(index, slice_)
    dicoms.write(slices, tmp_path)
    found, read, dcmread = identified(tmp_path), list[str](), pydicom.dcmread

    def counted(file: BinaryIO, **options: bool) -> Dataset:
        dataset = dcmread(file, **options)
        read.append(str(dataset.SOPInstanceUID))
        return dataset

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modic.imaging.load.pydicom.dcmread", counted)
        volume = load_volume(found, options=OPTIONS)
    assert isinstance(volume, Volume)
    uids = [image.sop_uid for image in found.images]
    return volume.voxels[:, 0, 0].tolist(), [uids.index(uid) for uid in read]


def test_pydicom_reads_only_the_first_of_files_that_say_the_same_of_their_pixels(tmp_path: Path) -> None:
    assert written(tmp_path, lambda index, slice_: None) == ([0, 100, 200, 300, 400, 500], [0])


def test_a_file_with_another_slope_is_scaled_by_its_own(tmp_path: Path) -> None:
    def change(index: int, slice_: Dataset) -> None:
        slice_.RescaleSlope, slice_.RescaleIntercept = (1, 1, 3, 3, 1, 1)[index], 0

    assert written(tmp_path, change) == ([0, 100, 600, 900, 400, 500], [0, 2, 4])


def test_a_sequence_that_may_rescale_is_compared_byte_by_byte(tmp_path: Path) -> None:
    def change(index: int, slice_: Dataset) -> None:
        groups, scaling = Dataset(), Dataset()
        scaling.RescaleSlope, scaling.RescaleIntercept = (1, 1, 1, 1, 5, 5)[index], 0
        groups.PixelValueTransformationSequence = [scaling]
        slice_.SharedFunctionalGroupsSequence = [groups]
        slice_["SharedFunctionalGroupsSequence"].is_undefined_length = True

    assert written(tmp_path, change) == ([0, 100, 200, 300, 2000, 2500], [0, 4])


def test_pixels_with_a_table_or_an_overlay_are_read_by_pydicom(tmp_path: Path) -> None:
    def change(index: int, slice_: Dataset) -> None:
        slice_.add_new(0x60000102, "US", 15)

    assert written(tmp_path, change) == ([0, 100, 200, 300, 400, 500], [0, 1, 2, 3, 4, 5])
