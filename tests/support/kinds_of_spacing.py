"""Kinds of series of odd spacing, obliquity or number of slices, and multi-frame ones (see
tests/support/adversaries.py)."""

import dicoms
from adversaries import Case, changed, enhanced, kind, spine, truth_of, turned
from modic.errors import Reason


@kind
def negative_spacing_between_slices() -> Case:
    return Case(changed(spine(), SpacingBetweenSlices=-4.5), [truth_of(spine())])


@kind
def spacing_between_slices_that_is_wrong() -> Case:
    return Case(changed(spine(), SpacingBetweenSlices=1.0, SliceThickness=0.5), [truth_of(spine())])


@kind
def slices_a_hand_apart() -> Case:
    return Case(spine(gap=80.0), refused=[Reason.SERIES_NO_SPACING])


@kind
def no_pixel_spacing() -> Case:
    return Case(changed(spine(), PixelSpacing=None), refused=[Reason.SERIES_NO_SPACING])


@kind
def negative_pixel_spacing() -> Case:
    return Case(changed(spine(), PixelSpacing=[-1.0, 1.0]), refused=[Reason.SERIES_NO_SPACING])


@kind
def pixel_spacing_of_nothing() -> Case:
    return Case(changed(spine(), PixelSpacing=[0, 0]), refused=[Reason.SERIES_NO_SPACING])


@kind
def pixel_spacing_in_metres() -> Case:
    return Case(changed(spine(), PixelSpacing=[0.001, 0.001]), refused=[Reason.SERIES_NO_SPACING])


@kind
def pixel_spacing_that_is_absurd() -> Case:
    return Case(changed(spine(), PixelSpacing=[1e5, 1e5]), refused=[Reason.SERIES_NO_SPACING])


@kind
def pixel_spacing_of_three_numbers() -> Case:
    return Case(changed(spine(), PixelSpacing=[1.0, 1.0, 4.5]), refused=[Reason.SERIES_NO_SPACING])


@kind
def non_square_pixels() -> Case:
    slices = spine(spacing=(0.7, 1.3))
    return Case(slices, [truth_of(slices)])


def _oblique(*turns: tuple[float, int]) -> Case:
    slices = spine(orientation=turned(*turns))
    return Case(slices, [truth_of(slices)], warned="degrees")


@kind
def oblique_by_30_degrees() -> Case:
    return _oblique((30, 2))


@kind
def oblique_by_45_degrees() -> Case:
    return _oblique((44.9, 2))


@kind
def doubly_oblique() -> Case:
    return _oblique((25, 2), (28, 1), (10, 0))


@kind
def oblique_beyond_45_degrees() -> Case:
    return Case(spine(orientation=turned((46, 2))), refused=[Reason.SERIES_NOT_SAGITTAL])


@kind
def three_dimensional_with_thin_slices() -> Case:
    values = dicoms.t2(RepetitionTime=1000, EchoTime=124, EchoTrainLength=60, MRAcquisitionType="3D")
    slices = spine(values, n=64, gap=0.9, orientation=turned((7, 2), (3, 1)))
    return Case(slices, [truth_of(slices)])


@kind
def sagittal_with_five_slices() -> Case:
    return Case(spine(n=5), [truth_of(spine(n=5))])


@kind
def sagittal_with_four_slices() -> Case:
    return Case(spine(n=4), refused=[Reason.SERIES_TOO_FEW_SLICES])


@kind
def axial() -> Case:
    return Case(spine(orientation=dicoms.AXIAL), refused=[Reason.SERIES_NOT_SAGITTAL])


@kind
def every_second_slice_missing() -> Case:
    slices = changed(spine(n=13), SpacingBetweenSlices=4.5)[::2]
    return Case(slices, [truth_of(slices)], warned="slices 9.00 mm apart, SpacingBetweenSlices 4.50")


@kind
def enhanced_multi_frame() -> Case:
    return Case([enhanced(spine())], [truth_of(spine())])


@kind
def enhanced_multi_frame_in_any_order() -> Case:
    slices = spine()
    return Case([enhanced(slices[::2] + slices[1::2][::-1])], [truth_of(slices)])


@kind
def enhanced_multi_frame_with_two_stacks() -> Case:
    other = spine(dicoms.t1(), name="other", orientation=turned((10, 2)))
    return Case([enhanced(spine(), other)], [truth_of(spine()), truth_of(other, "t1")])


@kind
def enhanced_multi_frame_with_a_frame_missing() -> Case:
    slices = spine()
    return Case([enhanced(slices[:4] + slices[5:])], refused=[Reason.SERIES_MISSING_SLICE])


@kind
def enhanced_multi_frame_without_one_functional_group() -> Case:
    image = enhanced(spine())
    del image.PerFrameFunctionalGroupsSequence[4]
    return Case([image], refused=[Reason.SERIES_NO_POSITION])
