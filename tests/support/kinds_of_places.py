"""Kinds of series whose slices, places or orientations are odd (tests/support/adversaries.py says what a kind is)."""

import numpy as np

import dicoms
from adversaries import Case, changed, in_one_series, kind, pattern, spine, truth_of, turned
from modic.errors import Reason


@kind
def plain() -> Case:
    return Case(spine(), [truth_of(spine())])


@kind
def interleaved_instance_numbers_and_files_in_reverse() -> Case:
    slices = spine()
    for number, slice_ in enumerate(slices[::2] + slices[1::2], 1):
        slice_.InstanceNumber = number
    return Case(slices[::-1], [truth_of(spine())])


@kind
def no_instance_number() -> Case:
    return Case(changed(spine(), InstanceNumber=None), [truth_of(spine())])


@kind
def one_instance_number_for_all() -> Case:
    return Case(changed(spine(), InstanceNumber=1), [truth_of(spine())])


@kind
def numbered_from_left_to_right_with_flipped_rows() -> Case:
    slices = spine(orientation=[0, -1, 0, 0, 0, -1])[::-1]
    truth = truth_of(slices)
    return Case(slices, [truth])


@kind
def columns_that_run_from_feet_to_head() -> Case:
    slices = spine(orientation=[0, 1, 0, 0, 0, 1])
    return Case(slices, [truth_of(slices)])


@kind
def rows_along_the_body_axis() -> Case:
    slices = spine(orientation=[0, 0, -1, 0, 1, 0])
    return Case(slices, [truth_of(slices)])


@kind
def missing_slice() -> Case:
    slices = spine()
    return Case(slices[:4] + slices[5:], refused=[Reason.SERIES_MISSING_SLICE])


@kind
def every_second_slice_missing_at_one_end() -> Case:
    slices = spine()
    return Case(slices[:6] + slices[7::2], refused=[Reason.SERIES_MISSING_SLICE])


@kind
def truncated_file() -> Case:
    slices = spine()
    slices[5].PixelData = slices[5].PixelData[:100]
    return Case(slices, refused=[Reason.SERIES_MISSING_SLICE], rejected={Reason.FILE_TRUNCATED: 1})


@kind
def gap_of_one_and_a_half_spacings() -> Case:
    slices = spine()
    for slice_ in slices[6:]:
        slice_.ImagePositionPatient[0] += 0.5 * 4.5
    return Case(slices, refused=[Reason.SERIES_UNEVEN_SPACING])


@kind
def spacing_uneven_within_tolerance() -> Case:
    slices = spine()
    slices[5].ImagePositionPatient[0] += 0.2
    return Case(slices, [truth_of(spine())], warned="slice spacing varies")


@kind
def one_slice_shifted_within_its_plane() -> Case:
    slices = spine()
    slices[5].ImagePositionPatient[1] += 3.0
    return Case(slices, refused=[Reason.SERIES_UNEVEN_SPACING])


@kind
def sheared_stack() -> Case:
    slices = spine()
    for index, slice_ in enumerate(slices):
        slice_.ImagePositionPatient[1] += 0.4 * index
    return Case(slices, [truth_of(slices)])


@kind
def half_of_the_slices_shifted_within_their_plane() -> Case:
    slices = spine()
    for slice_ in slices[6:]:
        slice_.ImagePositionPatient[2] += 40
    return Case(slices, refused=[Reason.SERIES_UNEVEN_SPACING] * 2)


@kind
def positions_rounded_to_tenths() -> Case:
    slices = spine(gap=4.4123, n=15)
    truth = truth_of(slices)
    for slice_ in slices:
        slice_.ImagePositionPatient = np.round(np.array(slice_.ImagePositionPatient, float), 1).tolist()
    return Case(slices, [truth], warned="slice spacing varies", within_mm=0.15)


@kind
def a_slice_without_position() -> Case:
    return Case(changed(spine(), [3], ImagePositionPatient=None), [truth_of(spine())], warned="inferred")


@kind
def the_last_slice_without_position_and_orientation() -> Case:
    slices = changed(spine(), [10], ImagePositionPatient=None, ImageOrientationPatient=None)
    return Case(slices, [truth_of(spine())], warned="inferred")


@kind
def no_positions() -> Case:
    return Case(changed(spine(), ImagePositionPatient=None), refused=[Reason.SERIES_NO_POSITION])


@kind
def positions_that_leave_the_slice_axis_out() -> Case:
    slices = spine()
    for index, slice_ in enumerate(slices):
        slice_.ImagePositionPatient = [1.0, 2.0, 3.0 + index]
    return Case(slices, refused=[Reason.SERIES_CONFLICTING_SLICES])


@kind
def all_positions_wiped_to_zero() -> Case:
    return Case(changed(spine(), ImagePositionPatient=[0, 0, 0]), refused=[Reason.SERIES_CONFLICTING_SLICES])


@kind
def no_orientation() -> Case:
    return Case(changed(spine(), ImageOrientationPatient=None), refused=[Reason.SERIES_NO_POSITION])


@kind
def orientation_that_is_not_orthogonal() -> Case:
    slices = changed(spine(), ImageOrientationPatient=[0, 1, 0, 0, 0.04, -0.9992])
    return Case(slices, refused=[Reason.SERIES_NO_POSITION])


@kind
def orientation_that_is_not_of_unit_length() -> Case:
    return Case(
        changed(spine(), ImageOrientationPatient=[0, 1.08, 0, 0, 0, -1.08]), refused=[Reason.SERIES_NO_POSITION]
    )


@kind
def orientations_mixed_within_tolerance() -> Case:
    slices = changed(spine(), [5], ImageOrientationPatient=turned((0.2, 2)))
    return Case(slices, [truth_of(spine())], warned="ImageOrientationPatient differs")


@kind
def orientations_mixed_beyond_tolerance() -> Case:
    slices = changed(spine(), [5], ImageOrientationPatient=turned((1.5, 2)))
    return Case(slices, refused=[Reason.SERIES_MIXED_ORIENTATION])


@kind
def a_fan_of_orientations() -> Case:
    slices = spine()
    for index, slice_ in enumerate(slices):
        slice_.ImageOrientationPatient = turned((index * 0.25, 2))
    return Case(slices, refused=[Reason.SERIES_MIXED_ORIENTATION])


@kind
def every_second_slice_with_a_flipped_normal() -> Case:
    slices = changed(spine(), slice(1, None, 2), ImageOrientationPatient=[0, -1, 0, 0, 0, -1])
    return Case(slices, refused=[Reason.SERIES_MIXED_ORIENTATION] * 2)


@kind
def one_slice_with_a_flipped_normal() -> Case:
    slices = changed(spine(), [5], ImageOrientationPatient=[0, -1, 0, 0, 0, -1])
    return Case(slices, refused=[Reason.SERIES_MIXED_ORIENTATION] * 2)


@kind
def slices_in_two_frames_of_reference() -> Case:
    slices = changed(spine(), slice(6, None), FrameOfReferenceUID="1.2.3")
    return Case(slices, refused=[Reason.SERIES_MIXED_FRAME_OF_REFERENCE] * 2)


@kind
def every_second_slice_in_another_frame_of_reference() -> Case:
    slices = changed(spine(), slice(1, None, 2), FrameOfReferenceUID="1.2.3")
    return Case(slices, refused=[Reason.SERIES_MIXED_FRAME_OF_REFERENCE] * 2)


@kind
def a_repeat_in_another_frame_of_reference() -> Case:
    again = changed(spine(name="again"), FrameOfReferenceUID="1.2.3")
    return Case(in_one_series(spine(), again), [truth_of(spine())] * 2)


@kind
def some_slices_without_a_frame_of_reference() -> Case:
    return Case(changed(spine(), [2, 7], FrameOfReferenceUID=None), [truth_of(spine())])


@kind
def localizer_inside() -> Case:
    scout = spine(n=1, name="x", orientation=dicoms.CORONAL, rows=32, columns=32)
    slices = spine()
    in_one_series(slices, scout)
    return Case([*slices[:4], *scout, *slices[4:]], [truth_of(spine())], [Reason.SERIES_NOT_SAGITTAL])


@kind
def one_slice_of_another_matrix() -> Case:
    slices = spine()
    slices[4].PixelSpacing = [2.0, 2.0]
    dicoms.set_pixels(slices[4], pattern(4, 8, 6))
    return Case(slices, refused=[Reason.SERIES_MIXED_MATRIX])


@kind
def one_slice_of_another_pixel_spacing() -> Case:
    return Case(changed(spine(), [4], PixelSpacing=[1.2, 1.2]), refused=[Reason.SERIES_MIXED_MATRIX])


@kind
def a_screenshot_of_the_middle_slice_in_the_series() -> Case:
    shot = spine(n=1, name="shot", rows=64, columns=64, origin=(0, -5.5, 7.5))
    return Case(in_one_series(spine(), shot), [truth_of(spine())], [Reason.SERIES_TOO_FEW_SLICES])


@kind
def sent_again_with_corrected_texts() -> Case:
    again = changed(spine(), SeriesDescription="T2 SAG", SeriesNumber=9, PatientBirthDate="19610203")
    return Case([*spine(), *again], [truth_of(spine())], warned="duplicate")


@kind
def sent_again_with_other_pixels() -> Case:
    again = changed(spine(), SeriesDescription="T2 SAG")
    dicoms.set_pixels(again[4], pattern(20))
    return Case([*spine(), *again], refused=[Reason.SERIES_CONFLICTING_SLICES])


@kind
def duplicate_slice_under_a_new_uid() -> Case:
    again = changed(spine()[6:7], SOPInstanceUID=dicoms.uid("again"), InstanceNumber=12)
    return Case([*spine(), *again], [truth_of(spine())], warned="duplicate")


@kind
def every_file_twice() -> Case:
    return Case(spine() + spine(), [truth_of(spine())], warned="duplicate")


@kind
def one_uid_for_every_slice() -> Case:
    return Case(changed(spine(), SOPInstanceUID="1.2.3"), [truth_of(spine())])


@kind
def conflicting_slices_with_equal_headers() -> Case:
    again = spine()[6:7]
    dicoms.set_pixels(again[0], pattern(99))
    again[0].SOPInstanceUID = dicoms.uid("again")
    return Case([*spine(), *again], refused=[Reason.SERIES_CONFLICTING_SLICES])


@kind
def one_slice_acquired_again() -> Case:
    again = changed(spine()[6:7], SOPInstanceUID=dicoms.uid("again"), AcquisitionTime="120000", InstanceNumber=12)
    dicoms.set_pixels(again[0], pattern(99))
    return Case([*spine(), *again], refused=[Reason.SERIES_CONFLICTING_SLICES])


@kind
def slices_nearly_at_one_place() -> Case:
    again = changed(spine()[6:7], SOPInstanceUID=dicoms.uid("again"), InstanceNumber=12)
    again[0].ImagePositionPatient[0] += 0.05
    return Case([*spine(), *again], refused=[Reason.SERIES_UNEVEN_SPACING])


@kind
def acquired_twice_in_one_series() -> Case:
    again = changed(spine(name="again"), AcquisitionTime="120000")
    for index, slice_ in enumerate(again):
        dicoms.set_pixels(slice_, pattern(20 + index))
    return Case(in_one_series(spine(), again), [truth_of(spine()), truth_of(again)])


@kind
def two_stations_under_one_series_uid() -> Case:
    lower = spine(name="lower", origin=(-22.5, -5.5, -40.0))
    return Case(in_one_series(spine(), lower), [truth_of(spine()), truth_of(lower)])


@kind
def two_stacks_of_other_angulation() -> Case:
    other = spine(name="other", orientation=turned((25, 2)))
    truths = [truth_of(spine()), truth_of(other)]
    return Case(in_one_series(spine(), other), truths, warned="degrees")
