"""One DICOM file → its header rows, or the reason why it has none.

Only the values of `COLUMNS` (header_values.py) are kept. The first row that holds decides:

| order | condition                                                              | outcome            |
|-------|------------------------------------------------------------------------|--------------------|
| 1     | no `DICM` at byte 128, and no data element at byte 0                   | file.not_dicom     |
| 2     | cannot be opened or parsed; nested too deeply; inflates to too much    | file.unreadable    |
| 3     | Modality is not MR and SOPClassUID is no MR image (DICOMDIR, CT, …);   | file.not_mr        |
|       | if the data set gives no SOPClassUID or SOPInstanceUID, that of the    |                    |
|       | file meta information counts                                           |                    |
| 4     | no SOPInstanceUID, SeriesInstanceUID or StudyInstanceUID               | file.missing_uid   |
| 5     | no PixelData, Rows, Columns or BitsAllocated                           | file.no_pixels     |
| 6     | a side over `MAX_SIDE`, over `MAX_FRAMES` frames, over `MAX_BYTES`     | file.absurd_size   |
| 7     | fewer bytes of PixelData in the file than the header promises          | file.truncated     |
| 8     | so many more that a row, a column or a frame is not counted            | file.size_mismatch |
| 9     | otherwise                                                              | one row a frame    |

The frames of a classic (not Enhanced) image get no ImagePositionPatient, because its header has one for all of them.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, BinaryIO

import pydicom
from pydicom import dcmwrite
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from modic.archive.enhanced_mr import frame_rows
from modic.archive.fast_headers import (
    AGENT_CODES,
    CHUNK,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT,
    UNDEFINED,
    ReadAt,
    Unusual,
    fast_elements,
)
from modic.archive.header_values import COLUMNS, UNPARSED, convert, convert_ascii, numbers_or_text, standard_vr
from modic.archive.source import Row
from modic.errors import Reason
from modic.resources import memory_limit

CODED = "ContrastBolusAgentSequence"
EXPLICIT_PIXELS = (b"OB", b"OW", b"UN")  # no length can look like one: as numbers they are odd
EMPTY_ROW: dict[str, Any] = {"frame": 0, **dict.fromkeys(COLUMNS)}
NO_ELEMENT = frozenset({"TransferSyntaxUID", "Unparsed"})  # columns that are no element of the data set
TAGS = {int(Tag(keyword)): keyword for keyword in COLUMNS if keyword not in NO_ELEMENT}
META = {0x00020002: "SOPClassUID", 0x00020003: "SOPInstanceUID"}  # of the file meta information: what it stands in for
FAST = {**TAGS, **META}
CHARSET = 0x00080005
NEEDED = (
    "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Rows", "Columns", "BitsAllocated", "PixelSpacing",
    "ImageOrientationPatient", "ImagePositionPatient",
)  # fmt: skip
BEHIND_BYTES = 65_536  # read behind PixelData, if one of these is missing
AGENT = int(Tag("ContrastBolusAgent"))
WANTED: list[Any] = [*TAGS, CHARSET, AGENT_CODES]
MAX_SIDE = 8192
MAX_FRAMES = 20_000
MAX_BYTES = 2**31
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED = frozenset({f"{MR_IMAGE}.1", f"{MR_IMAGE}.4"})  # Enhanced MR, Legacy Converted Enhanced MR
MR_CLASSES = ENHANCED | {MR_IMAGE}
"""SOP classes of MR images."""
DEFLATED = "1.2.840.10008.1.2.1.99"
UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED})
MAX_INFLATED = 2**28
SLOW_MIB = 1024  # of memory that pydicom may take for one header, whatever lengths the file claims
META_MOST = 2048  # bytes in which the file meta information names the transfer syntax


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file, or of a deflated data set once inflated."""

    read_at: ReadAt
    size: int


@dataclass(frozen=True, slots=True)
class Elements:
    """Elements of a data set as the file holds them, and where PixelData begins (None if there is none)."""

    content: Content
    transfer_syntax: str
    raw: Mapping[int, tuple[str, bytes]]  # tag → (VR, value)
    pixels_at: int | None  # byte of `content`
    little_endian: bool = True


def read_rows(file: BinaryIO) -> list[Row] | Reason:
    """One row a frame (`frame`, then COLUMNS) of an MR image, or the reason why there is none.

    `file` is open for reading and can be sought; an unbuffered one (io.FileIO) is read fastest.
    """
    try:
        return _rows(file)
    except InvalidDicomError:
        return Reason.FILE_NOT_DICOM
    except Exception:  # noqa: BLE001  (what pydicom meets in broken files: RecursionError, struct.error, KeyError, …)
        return Reason.FILE_UNREADABLE


def read_metadata(dataset: pydicom.Dataset) -> list[Row] | Reason:
    """As `read_rows`, of a header whose pixels lie elsewhere, and are taken to be as many as it says.

    A server may say by AvailableTransferSyntaxUID (DICOM PS3.18) how it stores them.
    """
    try:
        stored = str(dataset.get("AvailableTransferSyntaxUID") or ExplicitVRLittleEndian)
        rows = read_rows(_Header(dataset))
    except Exception:  # noqa: BLE001  (what pydicom meets in values that are none)
        return Reason.FILE_UNREADABLE
    return rows if isinstance(rows, Reason) else [{**row, "TransferSyntaxUID": stored} for row in rows]


class _Header(io.BytesIO):
    """A file that breaks off where its pixels begin, and says that it is as long as if it held them."""

    def __init__(self, dataset: pydicom.Dataset) -> None:
        sizes = [int(dataset.get(keyword) or 0) for keyword in ("Rows", "Columns", "BitsAllocated")]
        counts = [int(dataset.get(keyword) or 1) for keyword in ("NumberOfFrames", "SamplesPerPixel")]
        self._pixels = min(prod((*sizes, *counts)) // 8, UNDEFINED - 1)
        elements = pydicom.Dataset({tag: element for tag, element in dataset.items() if 0x2FFFF < tag < PIXEL_DATA})
        elements.SpecificCharacterSet = "ISO_IR 192"
        with disable_value_validation():
            dcmwrite(self, elements, implicit_vr=False, little_endian=True)
        content = self.getvalue()
        meta = b"\x02\x00\x10\x00UI\x14\x00" + f"{ExplicitVRLittleEndian}\0".encode()
        head = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(meta)) + meta
        pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, self._pixels) if self._pixels else b""
        super().__init__(head + content + pixels)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As io.BytesIO; the end lies behind the pixels."""
        return super().seek(offset, whence) + (self._pixels if whence == io.SEEK_END else 0)


def _rows(file: BinaryIO) -> list[Row] | Reason:
    content = content_of(file)
    try:
        elements = Elements(content, *fast_elements(content.read_at, FAST))
        row = _row(elements, convert_ascii)
    except (Unusual, struct.error):
        with memory_limit(SLOW_MIB):
            elements = _pydicom_elements(file, content)
        row = _row(elements, _converter(elements))
    _complete_from_behind(row, elements)
    reason = _refusal(row, elements)
    if reason is not None:
        return reason
    if row["SOPClassUID"] in ENHANCED:  # also of one frame and without functional groups (RSNA 2024)
        file.seek(0)
        with memory_limit(SLOW_MIB):
            return frame_rows(row, pydicom.dcmread(with_sound_vrs(file), stop_before_pixels=True))
    if row["NumberOfFrames"] and row["NumberOfFrames"] > 1:  # a classic header has one position for all of them
        return [{**row, "ImagePositionPatient": None, "frame": index} for index in range(row["NumberOfFrames"])]
    return [row]


def with_sound_vrs(file: BinaryIO) -> BinaryIO:
    """The file, or a copy in memory in which each odd VR (fast_elements) is the dictionary's or LO.

    pydicom would take what follows such a VR for its length.
    """
    odd: list[tuple[int, int]] = []
    try:
        fast_elements(content_of(file).read_at, FAST, odd)
    except (Unusual, struct.error):
        odd = []
    file.seek(0)
    if not odd:
        return file
    content = bytearray(file.read())
    for at, tag in odd:
        vr = dictionary_VR(tag).encode("ascii") if dictionary_has_tag(tag) else b"LO"
        content[at : at + 2] = vr if vr in SHORT else b"LO"
    return io.BytesIO(content)


def content_of(file: BinaryIO) -> Content:
    """The bytes of an open file."""
    if isinstance(file, io.FileIO):
        return Content(partial(os.pread, file.fileno()), os.fstat(file.fileno()).st_size)

    def read_at(size: int, at: int) -> bytes:
        file.seek(at)
        return file.read(size)

    return Content(read_at, file.seek(0, os.SEEK_END))


def _pydicom_elements(file: BinaryIO, content: Content) -> Elements:
    """The elements of `TAGS` by pydicom, which knows every transfer syntax. Raises what pydicom raises."""
    file.seek(0)
    head = file.read(CHUNK)
    bare = head[128:132] != b"DICM"
    if bare and head[:2] not in (b"\x08\x00", b"\x02\x00", b"\x00\x08", b"\x00\x02"):
        raise InvalidDicomError
    if DEFLATED.encode() in head[:META_MOST]:
        return _inflated_elements(file)
    file.seek(0)
    buffered = io.BufferedReader(file) if isinstance(file, io.FileIO) else file
    dataset = pydicom.dcmread(buffered, stop_before_pixels=True, force=bare, specific_tags=WANTED)
    at = buffered.tell()
    if isinstance(buffered, io.BufferedReader) and buffered is not file:
        buffered.detach()  # it would close the file
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")).strip(" \0") if hasattr(dataset, "file_meta") else ""
    implicit, little = dataset.original_encoding
    syntax = syntax or ("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2")
    if bare and not len(dataset):
        raise ValueError("empty")
    order = "<HH" if little else ">HH"
    tag = content.read_at(4, at)
    has_pixels = len(tag) == 4 and struct.unpack(order, tag) == (0x7FE0, 0x0010)
    raw = _raw_elements(dataset) | _meta_elements(dataset)
    return Elements(content, syntax, raw, at if has_pixels else None, bool(little))


def _inflated_elements(file: BinaryIO) -> Elements:
    """The elements of a deflated data set of at most `MAX_INFLATED` bytes (a few bytes may inflate to gigabytes)."""
    file.seek(0)
    deflated = file.read(MAX_INFLATED)
    (length,) = struct.unpack_from("<I", deflated, 140)  # (0002,0000) File Meta Information Group Length
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(deflated[144 + length :], MAX_INFLATED)
    if not inflater.eof:
        raise ValueError("cut off, or larger than can be")
    buffer = io.BytesIO(inflated)
    dataset = read_dataset(buffer, False, True, stop_when=lambda tag, *_: tag == PIXEL_DATA, specific_tags=WANTED)
    at = buffer.tell()
    content = Content(lambda size, at: inflated[at : at + size], len(inflated))
    return Elements(content, DEFLATED, _raw_elements(dataset), at if at + 12 < len(inflated) else None)


def _meta_elements(dataset: pydicom.Dataset) -> dict[int, tuple[str, bytes]]:
    """The elements of `META`."""
    meta = getattr(dataset, "file_meta", pydicom.Dataset())
    return {tag: ("UI", str(meta[tag].value).encode("ascii", "replace")) for tag in META if tag in meta}


def _raw_elements(dataset: pydicom.Dataset) -> dict[int, tuple[str, bytes]]:
    """Tag → (VR, value) of all elements that pydicom read."""
    tags = {int(key) for key in dataset.keys()}  # noqa: SIM118  (a Dataset is no dict)
    raw = {tag: _raw(dataset, tag) for tag in tags - {AGENT_CODES}}
    if AGENT_CODES in tags and dataset.get_item(AGENT_CODES).value and not raw.get(AGENT, ("", b""))[1].strip():
        raw[AGENT] = ("LO", CODED.encode())
    return raw


def _raw(dataset: pydicom.Dataset, tag: int) -> tuple[str, bytes]:
    element = dataset.get_item(tag)
    if not isinstance(element, RawDataElement):  # pydicom converts only the character set at once
        values = element.value if not isinstance(element.value, str) else [element.value]
        return "CS", "\\".join(map(str, values or [])).encode("ascii", "replace")
    value = element.value or b""
    vr = dictionary_VR(tag) if tag in TAGS and element.VR in (None, "UN") else str(element.VR)
    return standard_vr(TAGS[tag], vr, value) if tag in TAGS else vr, value


def _decoder(elements: Elements) -> Callable[[bytes], str]:
    """Decodes text under the file's SpecificCharacterSet; bytes it does not define become a replacement mark."""
    names = elements.raw.get(CHARSET, ("CS", b""))[1].decode("ascii", "replace").split("\\")
    try:
        encodings = convert_encodings(names)
    except Exception:  # noqa: BLE001  (an unknown character set is no reason to lose a file)
        encodings = ["iso8859"]

    def decode(value: bytes) -> str:
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii")
        try:
            return decode_bytes(value, encodings, set())
        except Exception:  # noqa: BLE001
            return value.decode("utf-8", "replace")

    return decode


def _row(elements: Elements, convert_one: Callable[[str, str, bytes], Any]) -> Row:
    row = dict(EMPTY_ROW)
    row["TransferSyntaxUID"] = elements.transfer_syntax or None
    for tag, (vr, value) in elements.raw.items():
        keyword = TAGS.get(tag)
        if keyword and value:
            found = convert_one(keyword, vr, value)
            if found is not UNPARSED:
                row[keyword] = found
            else:
                row["Unparsed"] = "\\".join(filter(None, (row["Unparsed"], keyword)))
    if row["SOPClassUID"] is None or row["SOPInstanceUID"] is None:
        for tag, keyword in META.items():
            if row[keyword] is None and tag in elements.raw:
                row[keyword] = convert_one(keyword, *elements.raw[tag])
    return row


def _converter(elements: Elements) -> Callable[[str, str, bytes], Any]:
    """Converts one value of this file, whatever its byte order and character set."""
    decode, little = _decoder(elements), elements.little_endian

    def convert_one(keyword: str, vr: str, value: bytes) -> Any:
        return convert(keyword, numbers_or_text(standard_vr(keyword, vr, value), value, little, decode))

    return convert_one


def _refusal(row: Row, elements: Elements) -> Reason | None:
    """Rows 3 to 8 of the table; None if the file is accepted."""
    if row["Modality"] != "MR" and row["SOPClassUID"] not in MR_CLASSES:
        return Reason.FILE_NOT_MR
    if not all(row[key] for key in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")):
        return Reason.FILE_MISSING_UID
    needed = [row[key] for key in ("Rows", "Columns", "BitsAllocated")]
    if elements.pixels_at is None or not all(needed):
        return Reason.FILE_NO_PIXELS
    rows, columns, bits = needed
    frames = 1 if row["NumberOfFrames"] is None else row["NumberOfFrames"]
    samples = 1 if row["SamplesPerPixel"] is None else row["SamplesPerPixel"]
    size = rows * columns * frames * samples * bits // 8
    if min(size, frames, samples) < 1 or frames > MAX_FRAMES or size > MAX_BYTES or max(rows, columns) > MAX_SIDE:
        return Reason.FILE_ABSURD_SIZE
    return _wrong_length(elements, size, columns * bits // 8)


def _complete_from_behind(row: Row, elements: Elements) -> None:
    """Fill what an image needs and this one lacks from elements that follow PixelData, against the standard."""
    if elements.pixels_at is None or all(row[keyword] for keyword in NEEDED):
        return
    with suppress(Exception), memory_limit(SLOW_MIB):  # what lies there may be anything
        head = elements.content.read_at(12, elements.pixels_at)
        behind = elements.content.read_at(BEHIND_BYTES, _end_of_pixels(elements, head))
        implicit = head[4:6] not in EXPLICIT_PIXELS
        dataset = read_dataset(io.BytesIO(behind), implicit, elements.little_endian, specific_tags=WANTED)
        whole = {tag: raw for tag, raw in _raw_elements(dataset).items() if _is_whole(dataset, tag)}
        late = replace(elements, raw=whole)
        for keyword, value in _row(late, _converter(late)).items():
            row[keyword] = value if row[keyword] is None else row[keyword]


def _is_whole(dataset: pydicom.Dataset, tag: int) -> bool:
    """Whether the file did not end within an element."""
    element = dataset.get_item(tag)
    return not isinstance(element, RawDataElement) or len(element.value or b"") == element.length


def _end_of_pixels(elements: Elements, head: bytes) -> int:
    """The byte after PixelData. Raises struct.error if the file ends before."""
    at = (elements.pixels_at or 0) + (12 if head[4:6] in EXPLICIT_PIXELS else 8)
    (length,) = struct.unpack_from("<I" if elements.little_endian else ">I", head, at - (elements.pixels_at or 0) - 4)
    if length != UNDEFINED:
        return at + int(length)
    tag = 0
    while tag != SEQUENCE_END:
        group, element, length = struct.unpack("<HHI", elements.content.read_at(8, at))
        tag, at = group << 16 | element, at + 8 + length
    return at


def _wrong_length(elements: Elements, size: int, row: int) -> Reason | None:
    """Whether PixelData is shorter than `size` bytes, or longer by a `row` of bytes or more (padding is shorter)."""
    content, at = elements.content, elements.pixels_at or 0
    head = content.read_at(12, at)
    start = at + (12 if head[4:6] in EXPLICIT_PIXELS else 8)  # the header may name the wrong transfer syntax
    if elements.transfer_syntax not in UNCOMPRESSED:
        return None if _fragments_whole(content, start) else Reason.FILE_TRUNCATED
    order = "<I" if elements.little_endian else ">I"
    (length,) = struct.unpack_from(order, head, start - at - 4)
    if min(length, content.size - start) < size:
        return Reason.FILE_TRUNCATED
    return Reason.FILE_SIZE_MISMATCH if length - size >= row else None


def _fragments_whole(content: Content, at: int) -> bool:
    """Whether every fragment of encapsulated pixel data ends within the file. A missing last delimiter is forgiven."""
    fragments = 0
    while at + 8 <= content.size:
        tag, length = struct.unpack("<II", content.read_at(8, at))
        if tag == 0xE0DDFFFE:
            break
        if tag != 0xE000FFFE or at + 8 + length > content.size:
            return False
        at, fragments = at + 8 + length, fragments + 1
    return fragments > 1  # the first is the offset table
