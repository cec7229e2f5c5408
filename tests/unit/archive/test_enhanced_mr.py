"""An Enhanced MR attribute counts wherever the standard and the scanners put it (PS3.3 C.8.13.4, C.8.13.5)."""

import io
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileDataset

import dicoms
from adversaries import encoded, enhanced
from modic.archive.headers import read_rows
from modic.archive.source import Row
from modic.series.contrast import find_contrast

PLACES = ("outside", "shared", "frame")


def image(
    values: dict[str, Any], place: str = "outside", *, of: dict[str, Any] | None = None, sequence: str = ""
) -> FileDataset:
    """A T2 of six frames, or an image `of` other times, with further values in some place."""
    whole = enhanced(dicoms.series(of or dicoms.t2(), n=6))
    groups = {"outside": [whole], "shared": [*whole.SharedFunctionalGroupsSequence]}
    for item in groups.get(place, [*whole.PerFrameFunctionalGroupsSequence]):
        inner = item
        if sequence:
            if sequence not in item:
                setattr(item, sequence, [Dataset()])
            inner = item[sequence].value[0]
        for keyword, value in values.items():
            setattr(inner, keyword, value)
    return whole


def contrasts(whole: FileDataset) -> set[str]:
    return {find_contrast(row).contrast for row in rows(whole)}


def rows(whole: FileDataset) -> list[Row]:
    found = read_rows(io.BytesIO(encoded(whole)))
    assert isinstance(found, list), found
    return found


MODIFIER, MODIFYING, TYPE = "MRModifierSequence", "MRImagingModifierSequence", "MRImageFrameTypeSequence"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "sequence, values, contrast",
    [
        (MODIFIER, {"SpectrallySelectedSuppression": "FAT"}, "t2_fat_suppressed"),
        (MODIFIER, {"SpectrallySelectedSuppression": "FAT_AND_WATER"}, "t2_fat_suppressed"),
        (MODIFIER, {"SpectrallySelectedExcitation": "WATER"}, "t2_fat_suppressed"),
        (MODIFIER, {"SpectrallySelectedExcitation": "NONE"}, "t2"),
        (MODIFIER, {"InversionRecovery": "YES", "InversionTimes": [150.0]}, "stir"),
        (MODIFIER, {"InversionRecovery": "YES", "InversionTimes": [0.0, 160.0]}, "stir"),
        (MODIFIER, {"InversionRecovery": "YES"}, "stir"),
        (MODIFIER, {"InversionTimes": [150.0]}, "stir"),
        (MODIFIER, {"InversionRecovery": "YES", "InversionTimes": [2200.0]}, "unknown"),
        (MODIFIER, {"InversionRecovery": "NO", "InversionTimes": [150.0]}, "t2"),
        (MODIFIER, {"InversionRecovery": "NO", "InversionTimes": [1.7e308]}, "t2"),
        (MODIFIER, {"InversionTimes": [0.0]}, "t2"),
        (MODIFIER, {"InversionTimes": [1.7e308]}, "t2"),
        (MODIFIER, {"InversionTimes": [float("inf")]}, "t2"),
        (MODIFIER, {"InversionTimes": [7.23e75]}, "t2"),  # Philips' word for none
        (MODIFIER, {"T2Preparation": "YES"}, "unknown"),
        (MODIFYING, {"MagnetizationTransfer": "OFF_RESONANCE"}, "unknown"),
        (MODIFYING, {"MagnetizationTransfer": "NONE", "BloodSignalNulling": "NO", "Tagging": "NONE"}, "t2"),
        (TYPE, {"AcquisitionContrast": "STIR"}, "stir"),
        (TYPE, {"AcquisitionContrast": "DIFFUSION"}, "diffusion"),
        (TYPE, {"AcquisitionContrast": "FLUID_ATTENUATED"}, "unknown"),
        (TYPE, {"AcquisitionContrast": "UNKNOWN"}, "t2"),
        (TYPE, {"ComplexImageComponent": "PHASE"}, "derived"),
        (TYPE, {"ComplexImageComponent": "MAGNITUDE", "VolumeBasedCalculationTechnique": "NONE"}, "t2"),
        (TYPE, {"VolumeBasedCalculationTechnique": "MAX_IP"}, "derived"),
    ],
)
def test_what_changes_a_contrast_counts_in_every_place(
    sequence: str, values: dict[str, Any], contrast: str, place: str
) -> None:
    assert contrasts(image(values, place, sequence=sequence)) == {contrast}
    assert contrasts(image(values)) == {contrast}  # in no functional group: the MR Pulse Sequence module


@pytest.mark.parametrize(
    "values, contrast",
    [
        ({"EchoPlanarPulseSequence": "YES"}, "diffusion"),  # b = 0
        ({"EchoPlanarPulseSequence": "NO"}, "t2"),
        ({"EchoPulseSequence": "GRADIENT"}, "gradient_echo"),
        ({"EchoPulseSequence": "BOTH"}, "t2"),
        ({"ArterialSpinLabelingContrast": "PSEUDOCONTINUOUS"}, "unknown"),
        ({"TimeOfFlightContrast": "YES"}, "unknown"),
        ({"PhaseContrast": "NO", "SaturationRecovery": "YES", "SteadyStatePulseSequence": "NONE"}, "t2"),
    ],
)
def test_the_pulse_sequence(values: dict[str, Any], contrast: str) -> None:
    assert contrasts(image(values)) == {contrast}


def test_a_t1_after_inversion_stays_one() -> None:
    t1_flair = dicoms.t1(RepetitionTime=2000)
    values = {"InversionRecovery": "YES", "InversionTimes": [860.0]}
    assert contrasts(image(values, "shared", of=t1_flair, sequence=MODIFIER)) == {"t1"}


@pytest.mark.parametrize(
    "usages, contrast",
    [(["NO"], "t1"), (["YES"], "t1_post_contrast"), (["NO", "YES"], "t1_post_contrast"), (["NO", "NO"], "t1")],
)
def test_one_agent_of_several_that_was_given_is_enough(usages: list[str], contrast: str) -> None:
    whole = image({}, of=dicoms.t1())
    items = [dicoms.dataset({"ContrastBolusAgentAdministered": said}) for said in usages]
    whole.SharedFunctionalGroupsSequence[0].ContrastBolusUsageSequence = items
    assert contrasts(whole) == {contrast}


def test_one_frame_that_is_fat_suppressed_is_alone() -> None:
    whole = image({})
    item = dicoms.dataset({"SpectrallySelectedSuppression": "FAT"})
    whole.PerFrameFunctionalGroupsSequence[2].MRModifierSequence = [item]
    found = [find_contrast(row).contrast for row in rows(whole)]
    assert found == ["t2", "t2", "t2_fat_suppressed", "t2", "t2", "t2"]


def test_the_echo_train_of_a_turbo_spin_echo() -> None:
    whole = image({"RFEchoTrainLength": 21}, "frame", sequence="MRTimingAndRelatedParametersSequence")
    for groups in whole.PerFrameFunctionalGroupsSequence:
        del groups.MRTimingAndRelatedParametersSequence[0].EchoTrainLength
    assert {row["EchoTrainLength"] for row in rows(whole)} == {21}


def test_one_frame_without_functional_groups_has_the_values_of_a_classic_header() -> None:
    (slice_,) = dicoms.series(n=1)
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    (row,) = rows(slice_)
    assert (row["ImagePositionPatient"], row["PixelSpacing"], row["EchoTime"]) == ([0.0, -5.5, 7.5], [1.0, 1.0], 100.0)
    slice_.NumberOfFrames, slice_.PixelData = 2, slice_.PixelData * 2
    assert [row["ImagePositionPatient"] for row in rows(slice_)] == [None, None]


def test_real_siemens_and_philips_images(shared_data: Path) -> None:
    """An echo-planar series of a Vida (XA10), and the field map of an Achieva: magnitudes and maps, gradient echo."""
    found = {}
    for path in sorted((shared_data / "dicom-corpus" / "dcm_qa_enh" / "In").rglob("*.dcm")):
        with path.open("rb") as file:
            found[path.name] = read_rows(file)
    for name in ("6_1.dcm", "6_2.dcm", "6_3.dcm", "6_4.dcm"):
        assert {(row["ScanningSequence"], row["ScanOptions"], row["ImageType"]) for row in found[name]} == {
            ("EP\\GR", "FS", "ORIGINAL\\PRIMARY\\M\\ND")
        }
        assert {find_contrast(row).contrast for row in found[name]} == {"diffusion"}
    philips = found["IM_0027_fMAP.dcm"]
    assert {(row["InversionTime"], row["SequenceVariant"], row["AcquisitionContrast"]) for row in philips} == {
        (None, None, "T1")
    }
    assert [find_contrast(row).contrast for row in philips] == ["gradient_echo"] * 32 + ["derived"] * 32
