"""Series → Volume: pixels decoded, rescaled, stacked in the order of the series, with their affine.

| row | condition                                                                          | outcome                  |
|-----|------------------------------------------------------------------------------------|--------------------------|
| V1  | the series was refused by identify, or has no positions or spacing                 | that reason              |
| V2  | a file is gone, or is no longer of the size, time or SOPInstanceUID the crawl saw  | study.files_changed      |
| V3  | pixels cannot be decoded, or have another shape than Rows × Columns                | study.pixels_unreadable  |
|     | or HighBit is not BitsStored - 1, or RescaleSlope is 0 or no number, or a slice    |                          |
|     | between others, or every slice, is blank, or values could be signed or unsigned    |                          |
| V4  | more than one sample a pixel                                                       | series.not_greyscale     |
| V5  | duplicate slices (equal headers) have different pixels                             | series.conflicting_slices|
| V6  | otherwise                                                                          | a Volume                 |
"""

import struct
import warnings
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from modic.archive.enhanced_mr import rescale_of
from modic.archive.headers import with_sound_vrs
from modic.archive.numerals import values_in
from modic.archive.source import Opens
from modic.archive.sources import Opener
from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected
from modic.imaging.fast_pixels import Pixels, read_pixels
from modic.imaging.volume import CanonicalVolume, Volume, affine_of
from modic.records import ImageReference, Series
from modic.resources import is_out_of_memory
from modic.text import counted

USUAL = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
"""What is assumed of a file that lacks these keywords. That is safe: its length fits one sample a pixel (the crawl
checks), and values are refused unless they are the same number signed and unsigned."""

JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"  # the first bytes of a frame
FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF0 … SOF15 and JPEG-LS's


class _Refused(Exception):
    """Carries a Rejected out of the loop over files; never leaves this module."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail)
        self.rejected = Rejected(reason, detail)


def load_volume(series: Series, *, options: IdentifyOptions, source: Opens | None = None) -> CanonicalVolume | Rejected:
    """The voxels of a series that identify accepted, on canonical axes; native slices are in the order of its images.

    `source` opens the images that the crawl read; None for a folder.

    Values are RescaleSlope * stored + RescaleIntercept of each slice's own header, or its ModalityLUTSequence's.
    MONOCHROME1 is inverted so that its darkest voxel, air or as dark as air, is 0: ratios of signals need a true
    zero. What is only padding (PixelPaddingValue, and up to PixelPaddingRangeLimit, of stored values) gets the lowest
    value of all others. Raises MemoryError, and nothing else.
    """
    if series.rejected is not None:
        return series.rejected
    if series.n_slices < max(2, options.min_slices):
        return Rejected(Reason.SERIES_TOO_FEW_SLICES, counted(series.n_slices, "slice"))
    if series.pixel_spacing_mm is None:
        return Rejected(Reason.SERIES_NO_SPACING)
    if len(series.positions_mm) != series.n_slices:
        return Rejected(Reason.SERIES_NO_POSITION)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            warnings.filterwarnings("error", "The decoded RLE segment contains")  # more than Rows × Columns
            voxels = _voxels(series, source or Opener())
    except _Refused as refused:
        return refused.rejected
    first, last = (np.array(series.positions_mm[index]) for index in (0, -1))
    orientation = series.header["ImageOrientationPatient"]
    affine = affine_of(first, last, series.n_slices, orientation, series.pixel_spacing_mm)
    return Volume(voxels, affine).canonical()


def _voxels(series: Series, source: Opens) -> np.ndarray:
    """(slices, rows, columns), float32."""
    reader = _Reader(series, source)
    voxels = np.empty((series.n_slices, series.header["Rows"], series.header["Columns"]), np.float32)
    for index, image in enumerate(series.images):
        voxels[index] = reader.slice(image, index)
    for index, image in series.duplicates:
        if not np.array_equal(voxels[index], reader.slice(image, index), equal_nan=True):
            raise _Refused(Reason.SERIES_CONFLICTING_SLICES, "duplicate slices with different pixels")
    padding = np.isnan(voxels) if reader.has_padding else None
    if padding is not None:
        voxels[padding] = voxels[~padding].min(initial=np.inf if not padding.all() else 0)
    if blank := _blank_slices(voxels):
        raise _Refused(Reason.STUDY_PIXELS_UNREADABLE, f"{blank} of {len(voxels)} slices are blank")
    if series.header["PhotometricInterpretation"] == "MONOCHROME1":
        np.subtract(voxels.max(), voxels, out=voxels)
        if padding is not None:
            voxels[padding] = voxels.min()
    return voxels


def _blank_slices(voxels: np.ndarray) -> int:
    """How many slices hold one value only; those at the ends of a stack that holds more do not count (padding)."""
    blank = voxels.max((1, 2)) == voxels.min((1, 2))
    filled = np.flatnonzero(~blank)
    return int(blank[filled[0] : filled[-1]].sum()) if len(filled) else len(voxels)


class _Reader:
    """Reads the images of one series; keeps the last file in memory for the next frame of a multi-frame one.

    `index` is the slice's in the series, for messages.
    """

    def __init__(self, series: Series, source: Opens) -> None:
        self._series, self._source = series, source
        self._opened: tuple[str, str | None] | None = None  # path and member
        self._dataset = pydicom.Dataset()
        self._pixels: Pixels | None = None  # of that file, if the next one may be as it (fast_pixels.py)
        self._sign_unknown = False  # the file lacks PixelRepresentation
        self.has_padding = False  # some slice so far

    def slice(self, image: ImageReference, index: int) -> np.ndarray:
        """(rows, columns) float32, rescaled; nan where there is only padding."""
        if (image.path, image.member) != self._opened:
            self._dataset, self._opened = self._open(image, index), (image.path, image.member)
        stored = self._decode(image.frame, index)
        if stored.shape != (self._series.header["Rows"], self._series.header["Columns"]):
            samples = stored.ndim > 2
            reason = Reason.SERIES_NOT_GREYSCALE if samples else Reason.STUDY_PIXELS_UNREADABLE
            raise _Refused(reason, f"pixels of shape {stored.shape}")
        values = self._rescale(stored, image.frame, index)
        if not np.isfinite(values).all():
            raise _Refused(Reason.STUDY_PIXELS_UNREADABLE, f"slice {index}: values that are not finite")
        if (padding := _padding(stored, self._dataset)) is not None:
            self.has_padding = True
            values[padding] = np.nan
        return values

    def _open(self, image: ImageReference, index: int) -> pydicom.Dataset:
        try:
            state = self._source.state(image.path, image.member)
            with self._source.open(image.path, image.member) as file:
                dataset, uid = self._read(file)
        except OSError as error:
            raise _Refused(Reason.STUDY_FILES_CHANGED, type(error).__name__) from error
        except MemoryError:
            raise
        except Exception as error:  # whatever pydicom meets in a file that broke since the crawl
            raise _Refused(Reason.STUDY_PIXELS_UNREADABLE, type(error).__name__) from error
        if (image.size, image.mtime_ns, image.sop_uid) != (*state, uid):
            raise _Refused(Reason.STUDY_FILES_CHANGED, f"slice {index}")
        return dataset

    def _read(self, file: BinaryIO) -> tuple[pydicom.Dataset, str]:
        """The file's data set and SOPInstanceUID; the last one's with other pixels if it says the same of them."""
        pixels, last = read_pixels(file), self._pixels
        self._pixels = pixels
        if pixels and last and pixels.elements == last.elements:
            self._dataset["PixelData"].value = pixels.data
            return self._dataset, pixels.sop_uid
        file.seek(0)
        dataset = pydicom.dcmread(with_sound_vrs(file), force=True)
        self._complete(dataset)
        return dataset, str(dataset.get("SOPInstanceUID") or dataset.file_meta.get("MediaStorageSOPInstanceUID"))

    def _complete(self, dataset: pydicom.Dataset) -> None:
        """Set what the file lacks and decoding needs."""
        if "TransferSyntaxUID" not in dataset.file_meta:  # a bare data set: what the crawl recognized
            dataset.file_meta.TransferSyntaxUID = self._series.header["TransferSyntaxUID"]
        dataset.file_meta.TransferSyntaxUID = UID(dataset.file_meta.TransferSyntaxUID.strip(" \0"))
        self._sign_unknown = "PixelRepresentation" not in dataset
        for keyword, usual in USUAL.items():
            if keyword not in dataset:
                setattr(dataset, keyword, usual)

    def _decode(self, frame: int, index: int) -> np.ndarray:
        try:
            if self._dataset.get("HighBit", self._dataset.BitsStored - 1) != self._dataset.BitsStored - 1:
                raise ValueError("HighBit")
            frames = int(self._dataset.get("NumberOfFrames") or 1)
            _check_coded_size(self._dataset, frame, frames)
            stored = pixel_array(self._dataset, index=frame if frames > 1 else None, raw=True)
            if self._sign_unknown and stored.max() >> (self._dataset.BitsStored - 1):
                raise ValueError("PixelRepresentation")
            return _without_overlay(np.asarray(stored), self._dataset)
        except Exception as error:  # decoders raise as they like
            if is_out_of_memory(error):
                raise MemoryError from None
            raise _Refused(Reason.STUDY_PIXELS_UNREADABLE, f"slice {index}: {type(error).__name__}") from error

    def _rescale(self, stored: np.ndarray, frame: int, index: int) -> np.ndarray:
        if self._dataset.get("ModalityLUTSequence"):
            try:
                return apply_modality_lut(stored, self._dataset).astype(np.float32)
            except Exception as error:  # a table that is none
                raise _Refused(Reason.STUDY_PIXELS_UNREADABLE, f"slice {index}: ModalityLUTSequence") from error
        try:
            slope, intercept = rescale_of(self._dataset, frame)
        except ValueError as error:
            raise _Refused(Reason.STUDY_PIXELS_UNREADABLE, f"slice {index}: RescaleSlope is no number") from error
        if not (np.isfinite((slope, intercept)).all() and slope):
            raise _Refused(Reason.STUDY_PIXELS_UNREADABLE, f"slice {index}: RescaleSlope {slope:g}")
        return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _padding(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray | None:
    """Which stored values are padding (DICOM PS3.3 C.7.5.1.1.2); None if none is.

    The value may be written unsigned for signed pixels, or the other way round; it then means the same bits.
    """
    try:
        values = [
            int(found[0]) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
            if (found := values_in(dataset, keyword))
        ]  # fmt: skip
    except ValueError:  # what cannot be read names no padding
        return None
    if not values or "PixelPaddingValue" not in dataset or not np.issubdtype(stored.dtype, np.integer):
        return None
    ends = np.array(values).astype(stored.dtype)
    padding = (stored >= ends.min()) & (stored <= ends.max())
    return padding if padding.any() else None


def _check_coded_size(dataset: pydicom.Dataset, frame: int, frames: int) -> None:
    """Raise ValueError if a compressed frame is of another size than the header says."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    size = coded_size(get_frame(dataset.PixelData, frame, number_of_frames=frames))
    if size not in (None, (dataset.Rows, dataset.Columns)):
        raise ValueError("coded size")


def coded_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a compressed frame itself declares; None for what is no JPEG.

    JPEG, JPEG-LS, JPEG 2000 and HTJ2K: ITU T.81 B.2, T.87 C, T.800 A.5.
    """
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


def _without_overlay(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """`stored` without the overlay that old scanners kept in the bits above BitsStored."""
    if (0x6000, 0x0102) not in dataset or not dataset[0x6000, 0x0102].value:
        return stored
    spare = int(dataset.BitsAllocated) - int(dataset.BitsStored)
    return stored << spare >> spare
