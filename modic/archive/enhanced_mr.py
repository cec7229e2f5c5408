"""Enhanced multi-frame MR: what the functional groups say of each frame, under the keywords of a classic header."""

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset

Row = dict[str, Any]
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

    Where the per-frame groups do not count as many frames as NumberOfFrames says, frames have no position.
    """
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), None)
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    count = row["NumberOfFrames"] or 1
    if len(frames) != count:
        frames = [Dataset() for _ in range(count)]
    common = {**row, **_pulse(dataset)}
    return [{**common, **_values(shared, frame), "frame": index} for index, frame in enumerate(frames)]


def _pulse(dataset: Dataset) -> Row:
    """ScanningSequence and SequenceName from their Enhanced MR counterparts, where the classic ones are absent."""
    found: Row = {}
    pulse = PULSE.get(str(dataset.get("EchoPulseSequence", "")), "")
    if dataset.get("InversionRecovery") == "YES":
        pulse = "\\".join(filter(None, (pulse, "IR")))
    if pulse:
        found["ScanningSequence"] = pulse
    if dataset.get("PulseSequenceName"):
        found["SequenceName"] = str(dataset.PulseSequenceName)
    return found


def _values(shared: Dataset | None, frame: Dataset) -> Row:
    found: Row = {}
    for sequence, keyword in REALS:
        value = _find(shared, frame, sequence, keyword)
        if value is not None:
            found[keyword] = [float(number) for number in value]
    for sequence, keyword, classic in NUMBERS:
        value = _find(shared, frame, sequence, keyword)
        if value is not None:
            number = float(value if not hasattr(value, "__len__") else value[0])
            found[classic] = int(number) if classic in WHOLE else number
    found.update(_texts(shared, frame))
    return found


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
    if administered is not None:  # YES or NO, whatever agent the file names
        yield "ContrastBolusAgent", str(administered)


def _find(shared: Dataset | None, frame: Dataset, sequence: str, keyword: str) -> Any:
    """The value of a keyword in a functional group of the frame, else of the shared ones; None where empty."""
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
