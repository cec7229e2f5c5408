"""What a file's header says of its pixels, read in a tenth of the time that pydicom takes for the whole header.

Files of a series mostly say the same of their pixels. The first is read by pydicom; the pixels of the next are then
decoded as the first's, if every element that decoding asks for has the same bytes. What is unusual is read by pydicom.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.tag import Tag

from modic.archive.fast_headers import PIXEL_DATA, UNDEFINED, Unusual, fast_elements
from modic.archive.headers import content_of

UID = 0x00080018
DESCRIBED = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleIntercept", "RescaleSlope",
)  # fmt: skip
ELSEWHERE = (
    "ModalityLUTSequence", "PerFrameFunctionalGroupsSequence", "FloatPixelData", "DoubleFloatPixelData",
)  # fmt: skip
"""With one of these, `DESCRIBED` is not all that pixels depend on."""
REFUSED = frozenset({int(Tag(keyword)) for keyword in ELSEWHERE} | {0x60000102})  # and an overlay within the pixels
SHARED = 0x52009229  # SharedFunctionalGroupsSequence, which may rescale
SHARED_BYTES = struct.pack("<HH", SHARED >> 16, SHARED & 0xFFFF)
WANTED = dict.fromkeys([UID, SHARED, *REFUSED, *(int(Tag(keyword)) for keyword in DESCRIBED)], "")
HEADS = {
    "1.2.840.10008.1.2.1": struct.Struct("<4s2s2xI"),
    "1.2.840.10008.1.2": struct.Struct("<4s0sI"),
}
"""Of uncompressed pixels, by transfer syntax: tag, VR (an implicit one has none), length."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """Uncompressed pixels of one file: `elements` are those that decoding asks for, tag → VR and value."""

    sop_uid: str
    elements: dict[int, tuple[str, bytes]]
    data: bytes


def read_pixels(file: BinaryIO) -> Pixels | None:
    """The pixels of an uncompressed little-endian file with nothing unusual; None for any other."""
    read_at, odd = content_of(file).read_at, list[tuple[int, int]]()
    try:
        syntax, elements, at = fast_elements(read_at, WANTED, odd)
    except (Unusual, struct.error):
        return None
    uid = elements.pop(UID, ("", b""))[1]
    if syntax not in HEADS or at is None or odd or not uid or not REFUSED.isdisjoint(elements):
        return None
    head = HEADS[syntax]
    _, vr, length = head.unpack(read_at(head.size, at))
    data = read_at(length, at + head.size) if vr in (b"OB", b"OW", b"") and length != UNDEFINED else b""
    if not data or len(data) != length:
        return None
    if SHARED in elements:  # from there on all bytes count
        header = read_at(at, 0)
        elements[SHARED] = ("SQ", header[header.find(SHARED_BYTES) :])
    return Pixels(uid.decode("ascii", "replace").rstrip("\0 "), {**elements, PIXEL_DATA: (vr.decode(), b"")}, data)
