"""Enhanced multi-frame MR: the functional groups of each frame → a row with the keywords of a classic header."""

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset

from modic.archive.source import Row

REALS = (
    ("PixelMeasuresSequence", "PixelSpacing"),
    ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ("PlanePositionSequence", "ImagePositionPatient"),
)
NUMBERS = (  # functional group, keyword there, keyword of a classic header
    ("PixelMeasuresSequence", "SliceThickness", "SliceThickness"),
    ("PixelMeasuresSequence", "SpacingBetweenSlices", "SpacingBetweenSlices"),
    ("MRTimingAndRelatedParametersSequence", "RepetitionTime", "RepetitionTime"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle", "FlipAngle"),
    ("MRTimingAndRelatedParametersSequence", "EchoTrainLength", "EchoTrainLength"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRModifierSequence", "InversionTimes", "InversionTime"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("PixelValueTransformationSequence", "RescaleSlope", "RescaleSlope"),
    ("PixelValueTransformationSequence", "RescaleIntercept", "RescaleIntercept"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
)
WHOLE = frozenset({"EchoTrainLength", "TemporalPositionIdentifier"})
PULSE = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE\\GR"}


def frame_rows(row: Row, dataset: Dataset) -> list[Row]:
    """One row a frame: `row` (the values outside the functional groups) completed from shared and per-frame groups.

    Frames have no position if there are not as many per-frame groups as NumberOfFrames says.
    """
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), None)
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    count = row["NumberOfFrames"] or 1
    if len(frames) != count:
        frames = [Dataset() for _ in range(count)]
    common = {**row, **_pulse(dataset)}
    return [{**common, **_values(shared, frame), "frame": index} for index, frame in enumerate(frames)]


def _pulse(dataset: Dataset) -> Row:
    """ScanningSequence and SequenceName from their Enhanced MR counterparts, as far as the file has these."""
    values: Row = {}
    pulse = PULSE.get(str(dataset.get("EchoPulseSequence", "")), "")
    if dataset.get("InversionRecovery") == "YES":
        pulse = "\\".join(filter(None, (pulse, "IR")))
    if pulse:
        values["ScanningSequence"] = pulse
    if dataset.get("PulseSequenceName"):
        values["SequenceName"] = str(dataset.PulseSequenceName)
    return values


def _values(shared: Dataset | None, frame: Dataset) -> Row:
    """What the functional groups of one frame, or else the shared ones, say under classic keywords."""
    values: Row = {}
    for sequence, keyword in REALS:
        value = _find(shared, frame, sequence, keyword)
        if value is not None:
            values[keyword] = [float(number) for number in value]
    for sequence, keyword, classic in NUMBERS:
        value = _find(shared, frame, sequence, keyword)
        if value is not None:
            number = float(value if not hasattr(value, "__len__") else value[0])
            values[classic] = int(number) if classic in WHOLE else number
    values.update(_texts(shared, frame))
    return values


def _texts(shared: Dataset | None, frame: Dataset) -> Iterator[tuple[str, str]]:
    kind = _find(shared, frame, "MRImageFrameTypeSequence", "FrameType")
    if kind is not None:
        yield "ImageType", "\\".join(map(str, kind))
    stack = _find(shared, frame, "FrameContentSequence", "StackID")
    if stack is not None:
        yield "StackID", str(stack)
    if _find(shared, frame, "MRModifierSequence", "SpectrallySelectedSuppression") in ("FAT", "FAT_AND_WATER"):
        yield "ScanOptions", "FS"
    administered = _find(shared, frame, "ContrastBolusUsageSequence", "ContrastBolusAgentAdministered")
    if administered is not None:  # YES or NO, and overrides the agent that the file names
        yield "ContrastBolusAgent", str(administered)


def _find(shared: Dataset | None, frame: Dataset, sequence: str, keyword: str) -> Any:
    """The value of a keyword in a functional group of the frame, else of the shared ones; None if it is empty."""
    for groups in (frame, shared):
        for item in (groups.get(sequence) or ()) if groups is not None else ():
            value = item.get(keyword)
            if value is not None and value != "" and value != []:
                return value
    return None


def rescale_of(dataset: Dataset, frame: int) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept of a frame: its functional groups', else the header's, else 1 and 0."""
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), None)
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    own = frames[frame] if frame < len(frames) else Dataset()
    values = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = _find(shared, own, "PixelValueTransformationSequence", keyword)
        value = dataset.get(keyword) if value is None else value
        values.append(default if value is None or value == "" else float(value))
    return values[0], values[1]
