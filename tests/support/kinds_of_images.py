"""Kinds of series whose contrast or pixels are odd (tests/support/adversaries.py says what a kind is)."""

from collections.abc import Iterable

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

import dicoms
from adversaries import Case, Slices, Truth, changed, enhanced, in_one_series, kind, pattern, spine, truth_of
from modic.errors import Reason

NOT_T1_OR_T2 = Reason.SERIES_NOT_T1_OR_T2


def scaled(truth: Truth, slope: np.ndarray | float, intercept: np.ndarray | float = 0.0) -> Truth:
    """The truth after rescaling, by one slope and intercept for all slices or by those of each slice."""
    by_slice = [np.broadcast_to(np.asarray(value), len(truth.voxels))[:, None, None] for value in (slope, intercept)]
    return Truth(truth.voxels * by_slice[0] + by_slice[1], truth.affine, truth.contrast)


@kind
def rescale_slope_of_two() -> Case:
    slices = changed(spine(), RescaleSlope=2, RescaleIntercept=-3)
    return Case(slices, [scaled(truth_of(spine()), 2, -3)])


@kind
def another_rescale_for_every_slice() -> Case:
    slices, slopes = spine(), 1 + 0.25 * np.arange(11)
    for slice_, slope in zip(slices, slopes, strict=True):
        slice_.RescaleSlope, slice_.RescaleIntercept = float(slope), float(-10 * slope)
    return Case(slices, [scaled(truth_of(spine()), slopes, -10 * slopes)])


@kind
def rescale_on_some_slices_only() -> Case:
    slices = changed(spine(), slice(6, None), RescaleSlope=3, RescaleIntercept=1)
    by_slice = np.repeat([1, 3], [6, 5]), np.repeat([0, 1], [6, 5])
    return Case(slices, [scaled(truth_of(spine()), *by_slice)])


@kind
def rescale_slope_of_zero() -> Case:
    slices = changed(spine(), RescaleSlope=0, RescaleIntercept=7)
    return Case(slices, refused=[Reason.STUDY_PIXELS_UNREADABLE])


@kind
def rescale_of_every_frame_of_an_enhanced_image() -> Case:
    image, slopes = enhanced(spine()), 1 + 0.5 * np.arange(11)
    for groups, slope in zip(image.PerFrameFunctionalGroupsSequence, slopes, strict=True):
        item = dicoms.dataset({"RescaleSlope": float(slope), "RescaleIntercept": 0.0, "RescaleType": "US"})
        groups.PixelValueTransformationSequence = [item]
    return Case([image], [scaled(truth_of(spine()), slopes)])


@kind
def t1_and_t2_in_one_folder() -> Case:
    t1 = spine(dicoms.t1(), name="t1")
    return Case([*t1, *spine()], [truth_of(t1, "t1"), truth_of(spine())])


@kind
def t1_and_t2_under_one_series_uid() -> Case:
    t1 = spine(dicoms.t1(), name="t1")
    return Case(in_one_series(t1, spine()), [truth_of(t1, "t1"), truth_of(spine())])


@kind
def two_echoes_interleaved_in_one_series() -> Case:
    early = spine(dicoms.t2(EchoTime=20), name="early")
    both = [slice_ for place in zip(early, spine(), strict=True) for slice_ in place]
    return Case(in_one_series(both), [truth_of(spine())], [NOT_T1_OR_T2])


@kind
def echo_times_that_differ_by_rounding() -> Case:
    slices = spine()
    for index, slice_ in enumerate(slices):
        slice_.EchoTime = 101.949 + 0.001 * index
    return Case(slices, [truth_of(spine())])


@kind
def dixon_images_in_one_series() -> Case:
    parts = [
        changed(spine(name=name), ImageType=["ORIGINAL", "PRIMARY", "DIXON", name])
        for name in ("IN_PHASE", "OPP_PHASE", "WATER", "FAT")
    ]
    mixed = [slice_ for place in zip(*parts, strict=True) for slice_ in place]
    return Case(in_one_series(mixed), [truth_of(spine())], [NOT_T1_OR_T2] * 3)


@kind
def dixon_images_that_nothing_tells_apart() -> Case:
    other = spine(name="other")
    for index, slice_ in enumerate(other):
        dicoms.set_pixels(slice_, pattern(20 + index))
    mixed = [slice_ for place in zip(spine(), other, strict=True) for slice_ in place]
    return Case(in_one_series(mixed), refused=[Reason.SERIES_CONFLICTING_SLICES])


@kind
def t1_before_and_after_contrast() -> Case:
    before = spine(dicoms.t1(), name="before")
    after = spine(dicoms.t1(ContrastBolusAgent="Gadovist"), name="after")
    return Case([*before, *after], [truth_of(before, "t1")], [NOT_T1_OR_T2])


@kind
def t1_before_and_after_contrast_in_one_series() -> Case:
    before = spine(dicoms.t1(), name="before")
    after = spine(dicoms.t1(ContrastBolusAgent="Gadovist"), name="after")
    return Case(in_one_series(before, after), [truth_of(before, "t1")], [NOT_T1_OR_T2])


@kind
def enhanced_t1_with_an_agent_that_only_a_code_names() -> Case:
    return Case([_with_coded_agent(enhanced(spine(dicoms.t1())))], refused=[NOT_T1_OR_T2])


@kind
def enhanced_t1_before_its_agent_was_administered() -> Case:
    image = _with_coded_agent(enhanced(spine(dicoms.t1())))
    usage = Dataset()
    usage.ContrastBolusAgentNumber, usage.ContrastBolusAgentAdministered = 1, "NO"
    image.SharedFunctionalGroupsSequence[0].ContrastBolusUsageSequence = [usage]
    return Case([image], [truth_of(spine(dicoms.t1()), "t1")])


def _with_coded_agent(image: FileDataset) -> FileDataset:
    agent = Dataset()
    agent.CodeValue, agent.CodingSchemeDesignator, agent.CodeMeaning = "C-B0317", "SRT", "Gadobutrol"
    image.ContrastBolusAgentSequence = [agent]
    return image


@kind
def screenshot_in_the_series_at_the_place_of_a_slice() -> Case:
    shot = changed(spine()[4:5], SOPClassUID=SecondaryCaptureImageStorage, SOPInstanceUID="1.2.3", SamplesPerPixel=3)
    changed(shot, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7)
    dicoms.set_pixels(shot[0], np.zeros((16, 12, 3), np.uint8))
    return Case([*spine(), *shot], [truth_of(spine())], [Reason.SERIES_NOT_GREYSCALE])


@kind
def table_of_values_instead_of_a_slope() -> Case:
    slices, table = spine(), Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
    table.LUTData = (3 * np.arange(4096, dtype="<u2")[::-1]).tobytes()
    table["LUTData"].VR = "OW"
    changed(slices, ModalityLUTSequence=[table])
    truth = truth_of(spine())
    return Case(slices, [Truth(3 * (4095 - truth.voxels), truth.affine)])


@kind
def nothing_said_of_samples_polarity_and_sign() -> Case:
    slices = changed(spine(), SamplesPerPixel=None, PhotometricInterpretation=None, PixelRepresentation=None)
    return Case(slices, [truth_of(spine())])


@kind
def nothing_said_of_the_sign_of_large_values() -> Case:
    slices = spine()
    dicoms.set_pixels(slices[5], pattern(5) + np.uint16(40_000))
    return Case(changed(slices, PixelRepresentation=None), refused=[Reason.STUDY_PIXELS_UNREADABLE])


@kind
def all_slices_blank() -> Case:
    return Case(_blank(range(11)), refused=[Reason.STUDY_PIXELS_UNREADABLE])


@kind
def blank_slice_in_the_middle() -> Case:
    return Case(_blank([5]), refused=[Reason.STUDY_PIXELS_UNREADABLE])


@kind
def blank_slices_at_both_ends() -> Case:
    return Case(_blank([0, 10]), [truth_of(_blank([0, 10]))])


def _blank(indices: Iterable[int]) -> Slices:
    slices = spine()
    for index in indices:
        dicoms.set_pixels(slices[index], np.full((16, 12), 7, np.uint16))
    return slices


@kind
def several_frames_in_a_classic_image() -> Case:
    slices = changed(spine(), NumberOfFrames=2)
    for slice_ in slices:
        slice_.PixelData *= 2
    return Case(slices, refused=[Reason.SERIES_NO_POSITION])


@kind
def all_frames_in_one_classic_image() -> Case:
    slices = spine()
    slices[0].NumberOfFrames, slices[0].PixelData = len(slices), b"".join(slice_.PixelData for slice_ in slices)
    return Case(slices[:1], refused=[Reason.SERIES_NO_POSITION])


@kind
def contrast_agent_on_half_of_the_slices() -> Case:
    slices = changed(spine(dicoms.t1()), slice(6, None), ContrastBolusAgent="Gadovist")
    return Case(slices, refused=[Reason.SERIES_MIXED_CONTRAST, NOT_T1_OR_T2])


@kind
def fat_suppression_on_half_of_the_slices() -> Case:
    slices = changed(spine(), slice(6, None), ScanOptions="FS")
    return Case(slices, refused=[Reason.SERIES_MIXED_CONTRAST, NOT_T1_OR_T2])


@kind
def fat_suppressed_t2() -> Case:
    return Case(spine(dicoms.t2(ScanOptions=["SP", "FS"])), refused=[NOT_T1_OR_T2])


@kind
def short_tau_inversion_recovery_called_t2() -> Case:
    return Case(spine(dicoms.stir(SeriesDescription="SAG T2")), refused=[NOT_T1_OR_T2])


@kind
def mosaic() -> Case:
    slices = changed(spine(), ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    return Case(slices, refused=[NOT_T1_OR_T2])


@kind
def scanned_report_as_mr() -> Case:
    page = changed(spine(n=1), SOPClassUID=SecondaryCaptureImageStorage, ImageOrientationPatient=None)
    return Case(page, refused=[Reason.SERIES_NO_POSITION])


@kind
def screenshots_as_mr_with_a_copied_header() -> Case:
    slices = changed(spine(), ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
    return Case(slices, refused=[NOT_T1_OR_T2])


def _colour(photometric: str, samples: int) -> Case:
    slices = changed(
        spine(), PhotometricInterpretation=photometric, SamplesPerPixel=samples, BitsAllocated=8, BitsStored=8
    )
    changed(slices, HighBit=7, PlanarConfiguration=0 if samples > 1 else None)
    for slice_ in slices:
        slice_.PixelData = bytes(16 * 12 * samples)
    return Case(slices, refused=[Reason.SERIES_NOT_GREYSCALE])


@kind
def rgb() -> Case:
    return _colour("RGB", 3)


@kind
def palette_colour() -> Case:
    return _colour("PALETTE COLOR", 1)


def _stored(stored: str, bits: int, offset: int = 0, **values: object) -> tuple[Slices, Truth]:
    """Slices whose pixels are of another type, and what they hold."""
    slices, truth = spine(), truth_of(spine())
    size = np.dtype(stored).itemsize * 8
    voxels = truth.voxels % (1 << min(bits, 10)) + offset if size < 16 or offset else truth.voxels % (1 << bits)
    for slice_, voxel in zip(slices, voxels, strict=True):
        dicoms.set_pixels(slice_, voxel.astype(stored))
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = size, bits, bits - 1
        slice_.PixelRepresentation = int(np.dtype(stored).kind == "i")
    return changed(slices, **values), Truth(voxels.astype(np.dtype(stored)).astype(float), truth.affine)


@kind
def eight_bit() -> Case:
    slices, truth = _stored("u1", 8)
    return Case(slices, [truth])


@kind
def signed() -> Case:
    slices, truth = _stored("<i2", 16, offset=-500)
    return Case(slices, [truth])


@kind
def thirty_two_bit() -> Case:
    slices, truth = _stored("<u4", 32, offset=100_000)
    return Case(slices, [truth])


@kind
def signed_and_unsigned_slices_in_one_series() -> Case:
    slices, truth = _stored("<i2", 16, offset=0)
    return Case(changed(slices, slice(5, None), PixelRepresentation=0), [truth])


@kind
def twelve_bits_with_an_overlay_above_them() -> Case:
    slices, truth = _stored("<u2", 12)
    for slice_ in slices:
        stored = np.frombuffer(slice_.PixelData, "<u2") | (np.arange(192) % 3 == 0).astype("<u2") << 15
        slice_.PixelData = stored.astype("<u2").tobytes()
        slice_.add_new((0x6000, 0x0100), "US", 16)
        slice_.add_new((0x6000, 0x0102), "US", 15)
    return Case(slices, [truth])


@kind
def twelve_bits_with_rubbish_above_them() -> Case:
    slices, truth = _stored("<u2", 12)
    for slice_ in slices:
        stored = np.frombuffer(slice_.PixelData, "<u2") | np.uint16(0x5000)
        slice_.PixelData = stored.astype("<u2").tobytes()
    return Case(slices, [truth])


@kind
def twelve_signed_bits_without_sign_extension() -> Case:
    slices, truth = _stored("<i2", 12, offset=-500)
    for slice_ in slices:
        stored = np.frombuffer(slice_.PixelData, "<u2") & np.uint16(0x0FFF)
        slice_.PixelData = stored.astype("<u2").tobytes()
    return Case(slices, [truth])


@kind
def twelve_bits_at_the_top_of_sixteen() -> Case:
    slices, _ = _stored("<u2", 12, HighBit=15)
    return Case(slices, refused=[Reason.STUDY_PIXELS_UNREADABLE])


def _inverted(truth: Truth) -> Truth:
    return Truth(truth.voxels.max() - truth.voxels, truth.affine)


@kind
def monochrome1() -> Case:
    slices = changed(spine(), PhotometricInterpretation="MONOCHROME1", RescaleSlope=1, RescaleIntercept=700)
    return Case(slices, [_inverted(truth_of(spine()))])


@kind
def monochrome1_for_some_slices() -> Case:
    slices = changed(spine(), slice(4, None), PhotometricInterpretation="MONOCHROME1")
    return Case(slices, refused=[Reason.SERIES_MIXED_CONTRAST] * 2)


@kind
def more_pixels_than_rows_and_columns_say() -> Case:
    slices = spine(rows=32, columns=24)
    return Case(changed(slices, Rows=16, Columns=12), rejected={Reason.FILE_SIZE_MISMATCH: 11})


@kind
def a_padding_byte_behind_the_pixels() -> Case:
    slices = spine()
    for slice_ in slices:
        slice_.PixelData = slice_.PixelData + b"\0\0"
    return Case(slices, [truth_of(spine())])


@kind
def frames_that_the_header_does_not_count() -> Case:
    slices = spine()
    for slice_ in slices:
        slice_.PixelData = slice_.PixelData * 3
    return Case(slices, rejected={Reason.FILE_SIZE_MISMATCH: 11})


@kind
def absurd_rows_and_columns() -> Case:
    slices = changed(spine(), [0], Rows=65535, Columns=65535)
    return Case(slices, [truth_of(spine()[1:])], [], {Reason.FILE_ABSURD_SIZE: 1})


SAY_NOTHING: dict[str, None] = dict.fromkeys(("SeriesDescription", "BodyPartExamined", "SequenceName"))


@kind
def a_header_that_says_only_what_is_needed() -> Case:
    slices = changed(spine(), **SAY_NOTHING, Manufacturer=None, MagneticFieldStrength=None, SliceThickness=None)
    return Case(changed(slices, StudyDate=None, ImageType=None), [truth_of(spine())])


@kind
def no_echo_time() -> Case:
    return Case(changed(spine(), EchoTime=None), refused=[Reason.SERIES_ROLE_UNSURE])
