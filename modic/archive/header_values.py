"""The columns of a header row, and how the bytes of one element become a column's value."""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pydicom.datadict import dictionary_VR

from modic.archive.fast_headers import ODD, Unusual
from modic.archive.numerals import number

TEXT, REAL, WHOLE, REALS = pa.string(), pa.float64(), pa.int64(), pa.list_(pa.float64())
TEXTS = """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID TransferSyntaxUID Modality
    ImageType Manufacturer ManufacturerModelName ScanningSequence SequenceVariant SequenceName ScanOptions
    MRAcquisitionType ContrastBolusAgent SeriesDescription BodyPartExamined PatientID PatientSex PatientAge
    PatientBirthDate StudyDate SeriesDate AcquisitionDate SeriesTime AcquisitionTime AcquisitionDateTime
    ContrastBolusStartTime ContrastBolusIngredient AcquisitionContrast ProtocolName PhotometricInterpretation StackID
"""
NUMBERS = """
    MagneticFieldStrength RepetitionTime EchoTime InversionTime FlipAngle DiffusionBValue SliceThickness
    SpacingBetweenSlices RescaleSlope RescaleIntercept ContrastBolusVolume ContrastBolusTotalDose
"""
COUNTS = """
    EchoTrainLength EchoNumbers SeriesNumber AcquisitionNumber InstanceNumber TemporalPositionIdentifier Rows Columns
    SamplesPerPixel NumberOfFrames BitsAllocated BitsStored PixelRepresentation
"""
VECTORS = "PixelSpacing ImageOrientationPatient ImagePositionPatient"
COLUMNS: dict[str, pa.DataType] = {
    keyword: kind
    for keywords, kind in ((TEXTS, TEXT), (NUMBERS, REAL), (COUNTS, WHOLE), (VECTORS, REALS))
    for keyword in keywords.split()
} | {"Unparsed": TEXT}
"""DICOM keyword → Arrow type. Several values of one text element are joined by a backslash, as the file holds them;
of several numbers of REAL and WHOLE the first is kept. A value that is empty or cannot be parsed is null; `Unparsed`
holds the keywords of numbers that are there and cannot be parsed (modic.archive.numerals). If only a code names the
contrast agent (Enhanced MR), ContrastBolusAgent holds the keyword of that code, `CODED`."""

ODD_VR = ODD.decode("ascii")
BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}


@lru_cache(maxsize=10_000)
def convert_ascii(keyword: str, vr: str, value: bytes) -> Any:
    """The value of a little-endian ASCII element. Cached, because the slices of a series share most values.

    Raises `Unusual` for other text.
    """
    vr = standard_vr(keyword, vr, value)
    if vr not in BINARY and (not value.isascii() or b"\x1b" in value):
        raise Unusual
    return convert(keyword, numbers_or_text(vr, value, True, lambda text: text.decode("ascii")))


def standard_vr(keyword: str, vr: str, value: bytes) -> str:
    """The VR to read a value by: the file's, or the standard's if the file's is none or hides a binary number."""
    standard = dictionary_VR(keyword)
    if vr == ODD_VR:
        return standard
    is_number = vr not in BINARY and standard in BINARY and len(value) == struct.calcsize(BINARY[standard])
    return standard if is_number else vr


def numbers_or_text(vr: str, value: bytes, little: bool, decode: Callable[[bytes], str]) -> list[Any]:
    """The values of one element: numbers for binary VRs, else text cut at backslashes and stripped."""
    if vr in BINARY:
        code = BINARY[vr]
        count = len(value) // struct.calcsize(code)
        return list(struct.unpack_from(f"{'<' if little else '>'}{count}{code}", value))
    return [part.strip(" \0\t\r\n") for part in decode(value).split("\\")]


UNPARSED: Any = object()
"""Stands for a number that is there and cannot be parsed."""


def convert(keyword: str, values: list[Any]) -> Any:
    """`values` of one element as the column's type holds them; None if they are empty, UNPARSED if they are no numbers.

    An inversion time that is no finite number is a placeholder for none (dcm2niix#385).
    """
    kind = COLUMNS[keyword]
    if kind is TEXT:
        return "\\".join(map(str, values)) or None
    if not any(value != "" for value in values):
        return None
    try:
        if kind is REALS:
            return [number(value, keyword) for value in values]
        found = number(values[0], keyword)
        return found if kind is REAL else _whole(found)
    except (ValueError, OverflowError, IndexError):
        return None if keyword == "InversionTime" and _is_float(values[0]) else UNPARSED


def _is_float(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _whole(number: float) -> int:
    if abs(number) > 2**53 or number != int(number):
        raise ValueError("not whole")
    return int(number)
