"""The size that a compressed frame itself tells; decoders fill the header's Rows × Columns whatever that is."""

import struct

JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF0 … SOF15 and JPEG-LS's


def coded_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame (ITU T.81 B.2, T.87 C, T.800 A.5); else None."""
    if frame.startswith(JPEG_2000):
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        return bottom - top, right - left
    at = 2 if frame.startswith(JPEG) else len(frame)
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in FRAME_HEADERS:
            rows, columns = struct.unpack_from(">2H", frame, at + 5)
            return rows, columns
        at += 1 if marker == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None
