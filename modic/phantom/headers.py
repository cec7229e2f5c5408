"""Headers as scanners of five manufacturers fill them in: how they name a turbo spin echo, and what they leave blank.

Values follow the public headers of SPIDER's series (series.csv) and a Hitachi study: Siemens names its sequence
(`*tse2d1_15`), GE writes options (`FAST_GEMS`), Philips leaves SequenceName blank, Canon and Hitachi describe little,
and Hitachi exports DERIVED\\SECONDARY images with Japanese character sets.
"""

from dataclasses import dataclass, field
from typing import Any

from modic.phantom.physics import Sequence

_CONTRAST_TEXT = {
    "t1": "T1", "t2": "T2", "stir": "STIR", "t1_post_contrast": "T1 FS GD", "t2_fat_suppressed": "T2 FS",
    "localizer": "LOC",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scanner:
    """One scanner of one manufacturer, and how it fills in headers."""

    Manufacturer: str
    ManufacturerModelName: str
    MagneticFieldStrength: float
    describe: str  # format of SeriesDescription with {contrast} and {plane}; often empty
    body_part: str
    image_type: tuple[str, ...]
    charset: tuple[str, ...]
    spin_echo: tuple[str, str]  # ScanningSequence, SequenceVariant
    sequence_name: str  # with {factor}
    fat_option: str  # value of ScanOptions for fat suppression
    names: tuple[str, ...] = field(default=("DOE^JANE", "ROE^RICHARD"))
    layout: str = "deep"  # of the folders in the archive: deep | flat | images
    implicit: bool = False


SCANNERS = (
    Scanner("SIEMENS", "Aera", 1.5, "{plane} {contrast} tse", "LSPINE", ("ORIGINAL", "PRIMARY", "M", "ND", "NORM"),
            ("ISO_IR 100",), ("SE", "SK\\SP\\OSP"), "*tse2d1_{factor}", "FS", ("MÜLLER^ÄNNE", "SCHMIDT^JÖRG")),
    Scanner("GE MEDICAL SYSTEMS", "DISCOVERY MR750w", 3.0, "{plane} {contrast} FSE", "SPINE",
            ("ORIGINAL", "PRIMARY", "OTHER"), ("ISO_IR 100",), ("SE", "SK"), "", "FAST_GEMS\\SEQ_GEMS\\FS",
            ("DOE^JANE", "ROE^RICHARD"), "images"),
    Scanner("Philips Healthcare", "Ingenia", 1.5, "", "", ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"), ("ISO_IR 100",),
            ("SE", "SK"), "", "FS", ("DE VRIES^ANNA", "JANSEN^PIET"), "deep", True),
    Scanner("CANON_MEC", "Vantage Orian", 1.5, "", "LSPINE", ("ORIGINAL", "PRIMARY"), ("", "ISO 2022 IR 87"),
            ("SE", "NONE"), "FSE{factor}", "FATSAT", ("SATO^HANAKO=佐藤^花子", "SUZUKI^ICHIRO=鈴木^一郎"), "images"),
    Scanner("Hitachi, Ltd.", "AIRIS Vento", 0.3, "{contrast} {plane}", "LSPINE", ("DERIVED", "SECONDARY"),
            ("", "ISO 2022 IR 87"), ("SE", "NONE"), "", "", ("TANAKA^YOKO=田中^洋子", "YAMADA^TARO=山田^太郎"), "flat"),
)  # fmt: skip


def sequence_header(scanner: Scanner, sequence: Sequence, plane: str, *, variant: int = 0) -> dict[str, Any]:
    """Acquisition elements by DICOM keyword. SeriesDescription is filled in for even `variant`, blank for odd."""
    inversion = sequence.ti_ms is not None
    localizer = sequence.name == "localizer"
    factor = 1 if localizer else 3 if sequence.te_ms < 30 else 17
    scanning, seq_variant = ("GR", "SP") if localizer else scanner.spin_echo
    if inversion:
        scanning = "SE\\IR" if scanner.Manufacturer.startswith(("GE", "Philips")) else "IR"
    description = scanner.describe.format(
        contrast=_CONTRAST_TEXT[sequence.name], plane={"sagittal": "SAG", "axial": "AX"}.get(plane, "")
    )
    header: dict[str, Any] = {
        "Modality": "MR",
        "Manufacturer": scanner.Manufacturer,
        "ManufacturerModelName": scanner.ManufacturerModelName,
        "MagneticFieldStrength": scanner.MagneticFieldStrength,
        "ImageType": list(scanner.image_type),
        "BodyPartExamined": scanner.body_part,
        "SeriesDescription": "" if variant % 2 else description.strip(),
        "ScanningSequence": scanning.split("\\"),
        "SequenceVariant": seq_variant.split("\\"),
        "ScanOptions": scanner.fat_option.split("\\") if sequence.fat_suppressed else "",
        "SequenceName": scanner.sequence_name.format(factor=factor),
        "MRAcquisitionType": "2D",
        "RepetitionTime": sequence.tr_ms,
        "EchoTime": sequence.te_ms,
        "EchoTrainLength": factor,
        "EchoNumbers": 1,
        "FlipAngle": 30 if localizer else 90,
        "NumberOfAverages": 2,
        "ImagingFrequency": round(42.577 * scanner.MagneticFieldStrength, 3),
    }
    if inversion:
        header["InversionTime"] = sequence.ti_ms
    if sequence.contrast_agent:
        header["ContrastBolusAgent"] = "GADOLINIUM"
    return header
