"""An archive in which every text, date, time and UID element, every file and every folder name holds a canary."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydicom import config
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from dicoms import series, t1, t2, write

CANARY = "Zq4nary"
CANARIES = (CANARY, "19570317", "1957-03-17", "20190823", "2019-08-23", "084213", "08:42:13", "7731999")
"""The canary as a text, birth date, date, time and UID, and as these may be written elsewhere."""
VALUES: dict[str, Any] = {
    **dict.fromkeys(("LO", "PN", "ST", "LT", "UT", "UC", "UR", "SH", "AE", "CS"), CANARY),
    "DA": "20190823",
    "DT": "20190823084213.77",
    "TM": "084213.771301",
    "UI": "1.2.826.0.7731999",
}
CONTROL = frozenset(
    {
        "SOPClassUID", "SequenceName", "PatientID", "ContrastBolusAgent", "ContrastBolusStartTime",
        "ContrastBolusIngredient", "SpecificCharacterSet", "Modality", "ImageType", "ScanningSequence",
        "MRAcquisitionType", "ScanOptions", "PhotometricInterpretation",
    }
)  # fmt: skip
"""These elements decide whether a study is graded and keep their values. Two hold the canary all the same: PatientID
behind its prefix, and the contrast agent of the patient `dye`."""


def planted() -> Dataset:
    """One data set with every element of VALUES that the DICOM dictionary knows, private tags, and an overlay."""
    every = Dataset()
    for tag, (vr, multiplicity, _, _, _) in DicomDictionary.items():
        keyword = keyword_for_tag(tag)
        if 0x0008 <= tag >> 16 < 0x7FE0 and vr in VALUES and keyword not in CONTROL:
            value = f"{CANARY}{tag:08x}" if VALUES[vr] == CANARY else VALUES[vr]
            least = int(multiplicity.split("-")[0])
            every.add_new(tag, vr, value if least == 1 else [value] * least)
    every.PatientBirthDate = "19570317"
    every.private_block(0x0029, CANARY, create=True).add_new(1, "LO", CANARY)
    every.add_new(0x60003000, "OW", CANARY.encode() * 2)
    every.add_new(0x60000022, "LO", CANARY)
    inner = Dataset()
    inner.PatientName = CANARY
    every.ReferencedStudySequence = [inner]
    return every


def write_archive(archive: Path, patients: tuple[str, ...]) -> None:
    """One study for each patient; pixels of those named `broken…` cannot be decoded. Values are not validated."""
    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    try:
        every = planted()
        for number, patient in enumerate(patients):
            folder = archive / f"{CANARY}{number}" / CANARY
            slices = [*series(t1(), name="t1", n=7), *series(t2(), name="t2", n=7)]
            for index, slice_ in enumerate(slices):
                _plant(slice_, every, f"{patient}{CANARY}{number}", number, index)
            for path in write(slices, folder):
                path.rename(path.with_name(f"{CANARY}{path.name}.dcm"))
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = modes


def _plant(slice_: Dataset, every: Dataset, patient: str, number: int, index: int) -> None:
    t2 = slice_.EchoTime > 50
    slice_.update(every)
    slice_.PatientID = patient
    if patient.startswith("dye"):
        slice_.ContrastBolusAgent = CANARY
    slice_.StudyInstanceUID, slice_.FrameOfReferenceUID = (f"1.2.826.0.7731999.{number}.{kind}" for kind in (1, 2))
    slice_.SeriesInstanceUID = f"1.2.826.0.7731999.{number}.3.{t2:d}"
    slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.7731999.{number}.4.{index}"
    if patient.startswith("broken"):
        slice_.file_meta.TransferSyntaxUID = JPEG2000Lossless
        slice_.PixelData = encapsulate([CANARY.encode() * 100])
        slice_["PixelData"].VR = "OB"


def found_in(path: Path) -> list[str]:
    """The canaries in a file's bytes and, if it is Parquet, in its values."""
    content = path.read_bytes()
    if content[:4] == b"PAR1":
        table = pq.read_table(path, partitioning=None)
        content += repr(table.to_pylist()).encode() + repr(table.schema).encode()
    return found_in_text(content.decode("utf-8", "replace"))


def found_in_text(text: str) -> list[str]:
    """The canaries in a text, whatever their case."""
    return [canary for canary in CANARIES if canary.lower() in text.lower()]
