"""Every transfer syntax that the installed decoders claim, and broken encodings (see tests/support/adversaries.py)."""

import base64
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

import dicoms
from adversaries import KINDS, Case, Slices, Truth, encoded, kind, spine, truth_of
from modic.errors import Reason

HTJ2K_OF_PATTERN = base64.b64decode(
    "/0//UQApQAAAAAAMAAAAEAAAAAAAAAAAAAAADAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAMEBEAB/1wADSCI"
    "kJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAFQAAf+TwAArAP9/I/9t/yP8AoG0AKAACYBs9gAjVADA"
    "ABLAABUA4q/bdAA0pcAAAIy2AMAAJoAAVYAA3ilL5QDWzMz+/Az3yey3AP/Z"
)
"""`pattern(0)` as a lossless high-throughput JPEG 2000 codestream, by OpenJPH 0.26; nothing here encodes one."""

GDCM = {  # pydicom's UID: gdcm's name, bits stored, largest error
    "1.2.840.10008.1.2": ("ImplicitVRLittleEndian", 16, 0),
    "1.2.840.10008.1.2.2": ("ExplicitVRBigEndian", 16, 0),
    "1.2.840.10008.1.2.1.99": ("DeflatedExplicitVRLittleEndian", 16, 0),
    "1.2.840.10008.1.2.4.50": ("JPEGBaselineProcess1", 8, 3),
    "1.2.840.10008.1.2.4.51": ("JPEGExtendedProcess2_4", 8, 3),
    "1.2.840.10008.1.2.4.57": ("JPEGLosslessProcess14", 16, 0),
    "1.2.840.10008.1.2.4.70": ("JPEGLosslessProcess14_1", 16, 0),
    "1.2.840.10008.1.2.4.80": ("JPEGLSLossless", 16, 0),
    "1.2.840.10008.1.2.4.81": ("JPEGLSNearLossless", 16, 3),
    "1.2.840.10008.1.2.4.90": ("JPEG2000Lossless", 16, 0),
    "1.2.840.10008.1.2.4.91": ("JPEG2000", 16, 3),
    "1.2.840.10008.1.2.5": ("RLELossless", 16, 0),
}
HIGH_THROUGHPUT = {HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K}


def transcoded(slice_: pydicom.Dataset, name: str) -> bytes:
    """The file of a slice in another transfer syntax, by gdcm."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(encoded(slice_))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


def _smooth(bits: int) -> tuple[Slices, Truth]:
    """A spine of `bits` stored bits (8 in 8, else 16 in 16) that lossy coders change little."""
    slices, truth = spine(n=6), truth_of(spine(n=6))
    if bits == 16:
        return slices, truth
    voxels = np.stack([(20 * index + np.arange(16)[:, None] * 4 + np.arange(12)) for index in range(6)])
    for slice_, voxel in zip(slices, voxels, strict=True):
        dicoms.set_pixels(slice_, voxel.astype(np.uint8))
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 8, 8, 7
    return slices, Truth(voxels.astype(float), truth.affine)


def _by_gdcm(uid: str) -> Case:
    name, bits, within = GDCM[uid]
    slices, truth = _smooth(bits)
    files = [transcoded(slice_, name) for slice_ in slices]
    assert all(pydicom.dcmread(io.BytesIO(file)).file_meta.TransferSyntaxUID == uid for file in files)
    return Case(files, [truth], within=within)


def _high_throughput(uid: UID) -> Case:
    """All slices hold `pattern(0)`; RescaleIntercept makes them differ."""
    slices, truth = spine(n=6), truth_of(spine(n=6))
    for index, slice_ in enumerate(slices):
        slice_.file_meta.TransferSyntaxUID = uid
        slice_.PixelData = encapsulate([HTJ2K_OF_PATTERN])
        slice_["PixelData"].is_undefined_length = True
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, 192 * index
    return Case(slices, [truth])


def _register(uid: str, make: Callable[[], Case]) -> None:
    KINDS[f"transfer syntax {uid}"] = make


for _uid in GDCM:
    _register(_uid, partial(_by_gdcm, _uid))
for _uid in sorted(HIGH_THROUGHPUT):
    _register(_uid, partial(_high_throughput, _uid))


@kind
def jpeg_of_twelve_bits_that_no_decoder_reads() -> Case:
    slices = spine(n=6)
    for slice_ in slices:
        slice_.BitsStored, slice_.HighBit = 12, 11
    files = [transcoded(slice_, "JPEGExtendedProcess2_4") for slice_ in slices]
    assert pydicom.dcmread(io.BytesIO(files[0])).file_meta.TransferSyntaxUID == JPEGExtended12Bit
    return Case(files, refused=[Reason.STUDY_PIXELS_UNREADABLE])


def _of_another_size(name: str, rows: int, columns: int) -> Case:
    """Compressed pixels of 16 × 12 under a header with other Rows and Columns."""
    files = []
    for slice_ in spine(n=6):
        dataset = pydicom.dcmread(io.BytesIO(transcoded(slice_, name)))
        dataset.Rows, dataset.Columns = rows, columns
        files.append(encoded(dataset))
    return Case(files, refused=[Reason.STUDY_PIXELS_UNREADABLE])


for _name in ("JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"):
    KINDS[f"{_name} of swapped rows and columns"] = partial(_of_another_size, _name, 12, 16)
for _name in ("JPEGLSLossless", "RLELossless"):
    KINDS[f"{_name} of more rows than the header says"] = partial(_of_another_size, _name, 12, 12)


@kind
def a_compressed_slice_that_is_damaged() -> Case:
    files = [transcoded(slice_, "JPEG2000Lossless") for slice_ in spine(n=6)]
    at = files[2].index(b"\xff\x4f\xff\x51") + 20
    return Case([*files[:2], files[2][:at] + bytes(60) + files[2][at + 60 :], *files[3:]], refused=[UNREADABLE])


UNREADABLE = Reason.STUDY_PIXELS_UNREADABLE


@kind
def compressed_slices_of_which_one_is_cut_off() -> Case:
    files = [transcoded(slice_, "JPEGLSLossless") for slice_ in spine()]
    cut = [*files[:5], files[5][:-40], *files[6:]]
    return Case(cut, refused=[Reason.SERIES_MISSING_SLICE], rejected={Reason.FILE_TRUNCATED: 1})


@kind
def native_pixels_that_are_called_compressed() -> Case:
    files = [encoded(slice_).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1) for slice_ in spine(n=6)]
    return Case(files, rejected={Reason.FILE_TRUNCATED: 6})


@kind
def compressed_pixels_that_are_called_native() -> Case:
    files = [transcoded(slice_, "RLELossless") for slice_ in spine(n=6)]
    files = [file.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0", 1) for file in files]
    return Case(files, rejected={Reason.FILE_TRUNCATED: 6})


@kind
def no_preamble() -> Case:
    return Case([encoded(slice_)[132:] for slice_ in spine()], [truth_of(spine())])


def _bare(implicit: bool) -> Case:
    """Data sets with neither preamble nor file meta information, as old archives wrote them."""
    files = []
    for slice_ in spine():
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, slice_without_meta(slice_), implicit_vr=implicit, little_endian=True)
        files.append(buffer.getvalue())
    return Case(files, [truth_of(spine())])


def slice_without_meta(slice_: pydicom.Dataset) -> pydicom.Dataset:
    """Only the data set."""
    bare = pydicom.Dataset()
    bare.update(slice_)
    return bare


@kind
def no_file_meta_information() -> Case:
    return _bare(implicit=False)


@kind
def no_file_meta_information_and_implicit_vr() -> Case:
    return _bare(implicit=True)


@kind
def implicit_vr_under_the_name_of_explicit_vr() -> Case:
    slices, files = spine(), []
    for slice_ in slices:
        slice_.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        file = encoded(slice_)
        at, length = file.index(b"UI\x12\x001.2.840.10008.1.2\0"), int.from_bytes(file[140:144], "little")
        renamed = file[:at] + b"UI\x14\x001.2.840.10008.1.2.1\0" + file[at + 22 :]
        files.append(renamed[:140] + (length + 2).to_bytes(4, "little") + renamed[144:])
    return Case(files, [truth_of(spine())])
