"""Enhanced multi-frame MR: the functional groups of each frame → a row with the keywords of a classic header.

An attribute is looked for where the standard puts it (DICOM PS3.3 C.8.13) and where scanners do: in the functional
groups of the frame, in the shared ones, and outside both (the MR Pulse Sequence module; Philips repeats much there).
Of a number or text the first that is found counts, in this order. What changes a contrast (`MODIFIERS`) counts
wherever it is found, and becomes a word of the classic element that would name it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from modic.archive.numerals import number, number_in, values_in
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
    ("MRTimingAndRelatedParametersSequence", "RFEchoTrainLength", "EchoTrainLength"),
    ("MRTimingAndRelatedParametersSequence", "EchoTrainLength", "EchoTrainLength"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("PixelValueTransformationSequence", "RescaleSlope", "RescaleSlope"),
    ("PixelValueTransformationSequence", "RescaleIntercept", "RescaleIntercept"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
)
WHOLE = frozenset({"EchoTrainLength", "TemporalPositionIdentifier"})
GROUPS = (
    "MRTimingAndRelatedParametersSequence", "MREchoSequence", "MRModifierSequence", "MRImagingModifierSequence",
    "MRDiffusionSequence", "MRImageFrameTypeSequence",
)  # fmt: skip
"""The functional groups that describe the contrast."""
NEUTRAL = frozenset({"", "NO", "NONE", "OFF", "UNKNOWN", "MIXED", "MAGNITUDE"})
PULSE = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE\\GR"}
MODIFIERS = {  # keyword → element of a classic header, and the word there; None: the value itself
    "EchoPlanarPulseSequence": ("ScanningSequence", "EP"),
    "InversionRecovery": ("ScanningSequence", "IR"),
    "SpectrallySelectedSuppression": ("ScanOptions", "FS"),
    "SpectrallySelectedExcitation": ("ScanOptions", "WE"),
    "MagnetizationTransfer": ("SequenceVariant", "MTC"),
    "T2Preparation": ("SequenceVariant", "T2PREP"),
    "BloodSignalNulling": ("SequenceVariant", "NULLED"),
    "Tagging": ("SequenceVariant", "TAGGING"),
    "ArterialSpinLabelingContrast": ("SequenceVariant", "ASL"),
    "PhaseContrast": ("SequenceVariant", "PC"),
    "TimeOfFlightContrast": ("SequenceVariant", "TOF"),
    "ComplexImageComponent": ("ImageType", None),
    "VolumeBasedCalculationTechnique": ("ImageType", None),
}
OTHERS = ("EchoPulseSequence", "AcquisitionContrast", "InversionTimes", "InversionTime")
WANTED = {tag_for_keyword(keyword): keyword for keyword in (*MODIFIERS, *OTHERS)}
MAX_INVERSION_MS = 1e5  # from here on a number is a placeholder for none (Philips writes 7.23e75)
Groups = tuple[Dataset | None, ...]
"""Where a value is looked for, first to last: the frame's groups, the shared ones."""


def frame_rows(row: Row, dataset: Dataset) -> list[Row]:
    """One row a frame: `row` (the values outside the functional groups) completed from shared and per-frame groups.

    Frames have no position if there are not as many per-frame groups as NumberOfFrames says. A file of one frame may
    have no groups at all, and its values as a classic header has them (RSNA 2024).
    """
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), None)
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    count = row["NumberOfFrames"] or 1
    if len(frames) != count:
        frames = [Dataset() for _ in range(count)]
        row = row if count == 1 else {**row, "ImagePositionPatient": None}
    common = dict(row)
    if dataset.get("PulseSequenceName"):
        common["SequenceName"] = str(dataset.PulseSequenceName)
    outside = _contrast_values([dataset, *_items(dataset)])
    both = _merged(outside, _contrast_values(_items(shared)))
    return [_frame_row(common, both, shared, frame) | {"frame": index} for index, frame in enumerate(frames)]


Found = dict[str, list[Any]]
"""Keyword → its values, from outermost to innermost."""


def _frame_row(common: Row, both: Found, shared: Dataset | None, frame: Dataset) -> Row:
    row = {**common}
    _set_numbers(row, (frame, shared))
    row.update(_texts(shared, frame))
    found = _merged(both, _contrast_values(_items(frame)))
    for keyword, (element, word) in MODIFIERS.items():
        for value in found.get(keyword, ()):
            if str(value) not in NEUTRAL:
                row[element] = _with_word(row[element], word or str(value))
    for value in found.get("EchoPulseSequence", [])[-1:]:
        for word in PULSE.get(str(value), "").split("\\"):
            row["ScanningSequence"] = _with_word(row["ScanningSequence"], word)
    for value in found.get("AcquisitionContrast", [])[-1:]:
        row["AcquisitionContrast"] = str(value)
    if "InversionTimes" in found or "InversionRecovery" in found:
        row["InversionTime"] = _inversion_time(found)
    return row


def _inversion_time(found: Found) -> float | None:
    """The first of InversionTimes that is a time, unless InversionRecovery says that nothing is inverted."""
    inverted = {str(value) for value in found.get("InversionRecovery", ())}
    if inverted and "YES" not in inverted:
        return None
    for value in reversed([*found.get("InversionTime", ()), *found.get("InversionTimes", ())]):
        for time in value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]:
            try:
                if 0 < number(time, "InversionTime") < MAX_INVERSION_MS:
                    return number(time, "InversionTime")
            except ValueError:
                continue
    return None


def _with_word(value: str | None, word: str) -> str | None:
    """An element with several values, and one more unless it has it."""
    words = (value or "").split("\\") if value else []
    return value if not word or word in words else "\\".join([*words, word])


def _items(groups: Dataset | None) -> Iterator[Dataset]:
    """The items of the functional groups that describe the contrast."""
    for sequence in GROUPS:
        yield from (groups.get(sequence) or ()) if groups is not None else ()


def _contrast_values(items: Iterable[Dataset]) -> Found:
    """The values of `WANTED` in some items."""
    found: Found = defaultdict(list)
    for item in items:
        for tag in item.keys():  # noqa: SIM118  (a Dataset is no dict)
            if keyword := WANTED.get(int(tag)):
                found[keyword] += values_in(item, keyword)
    return found


def _merged(outer: Found, inner: Found) -> Found:
    return {keyword: [*outer.get(keyword, ()), *inner.get(keyword, ())] for keyword in {*outer, *inner}}


def _set_numbers(row: Row, groups: Groups) -> None:
    """Set what the functional groups say under classic keywords; `Unparsed` names numbers that cannot be parsed."""
    for sequence, keyword in REALS:
        if values := _find(groups, sequence, keyword):
            _set(row, keyword, lambda values=values, keyword=keyword: [number(one, keyword) for one in values])
    for sequence, keyword, classic in NUMBERS:
        if values := _find(groups, sequence, keyword):
            _set(row, classic, lambda values=values, classic=classic: number(values[0], classic))
            if classic in WHOLE and row[classic] is not None:
                row[classic] = int(row[classic])


def _set(row: Row, keyword: str, value: Any) -> None:
    try:
        row[keyword] = value()
    except ValueError:
        row[keyword], row["Unparsed"] = None, _with_word(row["Unparsed"], keyword)


def _texts(shared: Dataset | None, frame: Dataset) -> Iterator[tuple[str, str]]:
    groups = (frame, shared)
    if kind := _siemens_type(frame) or _find(groups, "MRImageFrameTypeSequence", "FrameType"):
        yield "ImageType", "\\".join(map(str, kind))
    if stack := _find(groups, "FrameContentSequence", "StackID"):
        yield "StackID", str(stack[0])
    if then := _find(groups, "FrameContentSequence", "FrameAcquisitionDateTime"):
        yield "AcquisitionDateTime", str(then[0])
    usage = [item for part in groups if part is not None for item in part.get("ContrastBolusUsageSequence") or ()]
    said = [
        str(value)
        for item in usage
        for keyword in ("ContrastBolusAgentAdministered", "ContrastBolusAgentDetected")
        for value in values_in(item, keyword)
    ]
    if said:  # YES or NO, and overrides the agent that the file names
        yield "ContrastBolusAgent", "YES" if "YES" in said else said[0]


def _siemens_type(frame: Dataset) -> list[str]:
    """ImageType with ND, DIS2D, NORM, …, which Siemens XA writes in a private group and not in FrameType."""
    for item in frame.get((0x0021, 0x11FE)).value if (0x0021, 0x11FE) in frame else ():
        if (0x0021, 0x1175) in item:
            value = item[0x0021, 0x1175].value
            return [value] if isinstance(value, str) else [*map(str, value)]
    return []


def _find(groups: Groups, sequence: str, keyword: str) -> list[Any]:
    """The values of a keyword in a functional group of the frame, else of the shared ones; empty if there are none."""
    for part in groups:
        for item in (part.get(sequence) or ()) if part is not None else ():
            if values := values_in(item, keyword):
                return values
    return []


def rescale_of(dataset: Dataset, frame: int) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept of a frame: its functional groups', else the header's, else 1 and 0.

    Raises ValueError if one is there and cannot be parsed.
    """
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), None)
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    own = frames[frame] if frame < len(frames) else Dataset()
    values = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        found = _find((own, shared), "PixelValueTransformationSequence", keyword)
        value = number(found[0], keyword) if found else number_in(dataset, keyword)
        values.append(default if value is None else value)
    return values[0], values[1]
