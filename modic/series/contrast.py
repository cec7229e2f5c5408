"""The contrast of a series, from its physics. The series' description only breaks ties.

Rows are tried in order, the first that holds decides. TR, TE, TI in ms; "echo train" is EchoTrainLength.

| row | condition                                                                       | contrast          |
|-----|---------------------------------------------------------------------------------|-------------------|
| R1  | ImageType says LOCALIZER or SCOUT                                               | localizer         |
| R2  | SOPClassUID is no MR image; ImageType says map, projection, difference or phase | derived           |
| R3  | ImageType says water, fat or opposed phase (in phase is an ordinary image)      | dixon             |
| R4  | DiffusionBValue above 0, or an echo-planar sequence (EP)                        | diffusion         |
| R5  | gradient echo (GR without SE), or unnamed sequence of flip angle under 60°      | gradient_echo     |
| R6  | inversion (IR or TI > 0), TI 50-350                                             | stir              |
| R7  | inversion, TI 351-1300, TE <= 40: T1 FLAIR                                      | t1, then R13-R15  |
| R8  | inversion, no TI: TE > 40                                                       | stir              |
| R9  | inversion otherwise                                                             | unknown           |
| R10 | TE 60-200, and TR >= 1500 or an echo train of 20 or more or no TR               | t2, then R13-R15  |
| R11 | TE <= 35, TR <= 1200                                                            | t1, then R13-R15  |
| R12 | TE <= 45, TR >= 1800                                                            | proton_density    |
| R13 | a T1 with ContrastBolusAgent (other than "off", "none", …) or its code; if the  | t1_post_contrast  |
|     | agent is empty, with ContrastBolusVolume or ContrastBolusTotalDose above 0      |                   |
| R14 | a T1 or T2 with fat suppression in ScanOptions                                  | …_fat_suppressed  |
| R15 | a T1 or T2 otherwise                                                            | t1, t2            |
| R16 | a tie (TE 45-60 with TR >= 1500, or TE <= 35 with TR 1200-1800), and the        | t1, t2, then      |
|     | description names exactly one of T1 and T2                                      | R13-R15           |
| R17 | otherwise                                                                       | unknown           |
| R18 | R17 because TR or TE is missing, but the pixels show a T1, T2 or STIR           | t1, t2, then      |
|     | (contrast_from_pixels.py), and neither the other of TR and TE nor the           | R13-R14; or stir  |
|     | description speaks against it                                                   |                   |
| R19 | R15 by a TE under 2 or a TR under 100, which are no times of a spin echo in ms; | unknown           |
|     | or the description names fat suppression, STIR or, for a T1, a contrast agent   |                   |
|     | ("without fat suppression" does not), and the physics does not                  |                   |

DERIVED and SECONDARY in ImageType decide nothing, because whole hospitals export their primary images so.
"""

import re
from dataclasses import dataclass
from typing import Any

from modic.archive.headers import MR_CLASSES
from modic.records import Contrast

Header = dict[str, Any]
MAPS = frozenset({
    "ADC", "FA", "TRACEW", "MIP", "MINIP", "PROJECTION_IMAGE", "SUBTRACTION", "SUBTRACT", "SUB", "DIFFERENCE", "P",
    "PHASE", "COLLAGE", "MOSAIC", "SCREEN_SAVE", "SCREENSAVE", "CSA_REPORT", "VELOCITY", "CURVED", "CPR",
})  # fmt: skip
DIXON = frozenset(
    {"WATER", "FAT", "W", "F", "OUT_PHASE", "OPP_PHASE", "OP", "OPPOSED_PHASE", "FAT_FRACTION", "WATER_FRACTION"}
)
FAT_SUPPRESSION = frozenset(["FS", "FATSAT", "FAT_SAT", "FSAT", "SPIR", "SPAIR", "CHESS", "WE", "FAT_SUPPRESSION"])
NO_AGENT = frozenset(["", "OFF", "NO", "NONE", "N", "0", "FALSE", "NULL", "WITHOUT", "NATIVE", "UNKNOWN"])
MIN_TE_MS, MIN_TR_MS = 2.0, 100.0
HINT_NAMES = {"agent": "an agent", "fs": "fat suppression", "stir": "STIR"}
PULSES = ("SE", "IR", "GR", "EP")
TEXT_HINTS: dict[str, str] = {
    "t1": r"(?<![a-z0-9])t1(?![0-9])",
    "t2": r"(?<![a-z0-9])t2(?![0-9*])",
    "stir": r"stir|tirm",
    "fs": r"(?<![a-z])(fs|fsat|fatsat|fat[ _-]?sat|spair|spir)(?![a-z])",
    "agent": r"(?<![a-z])(gd|gad|gado[a-z]*|km|ce|inj|[ck]ontrast[a-z]*|post(?![ _-]?op))(?![a-z])"
    r"|(?<![a-z])c ?\+|\+ ?c(?![a-z])",
}
DENIED = (
    r"(?<![a-z])(no|non|not|pre|vor|w/?o|without|ohne|sans|sin|senza|zonder)[ _./-]*(i\.?v\.?[ _-]*)?"
    r"(gd|gad|gado[a-z]*|km|ce|inj|[ck]ontrast[a-z]*|fs|fsat|fatsat|fat[ _-]?sat)(?![a-z])"
)


@dataclass(frozen=True, slots=True)
class ContrastFinding:
    """A contrast, the physics and the row that decided, and whether the description says something else."""

    contrast: Contrast
    evidence: str
    contradicted: bool = False


def find_contrast(header: Header) -> ContrastFinding:
    """The contrast of a stack from its header values (modic.archive.headers.COLUMNS)."""
    row, contrast = _first_row(header)
    if contrast in ("t1", "t2"):
        row, contrast = _modified(header, row, contrast)
    if doubt := _doubt(header, contrast):
        row, contrast = f"{row}, R19, {doubt}", "unknown"
    contradicted = _contradicts(contrast, _hints(header))
    return ContrastFinding(contrast, f"{_physics(header)} → {contrast} ({row})", contradicted)


def _doubt(header: Header, contrast: Contrast) -> str:
    """Why a plain T1 or T2 may be none (R19); empty if nothing says so."""
    if contrast not in ("t1", "t2"):
        return ""
    if 0 < (header["EchoTime"] or 0) < MIN_TE_MS or 0 < (header["RepetitionTime"] or 0) < MIN_TR_MS:
        return "TR and TE are no milliseconds"
    named = _hints(header) & ({"stir", "fs", "agent"} if contrast == "t1" else {"stir", "fs"})
    return f"the description alone names {', '.join(HINT_NAMES[hint] for hint in sorted(named))}" if named else ""


def lacks_times(header: Header) -> bool:
    """Whether the contrast is unknown (R17) because TR or TE is missing, so that the pixels may show it."""
    row, _ = _first_row(header)
    return row == "R17" and not (_positive(header, "EchoTime") and _positive(header, "RepetitionTime"))


def accept_from_pixels(header: Header, from_pixels: ContrastFinding) -> ContrastFinding:
    """R18: the contrast of a stack whose header `lacks_times`, given what its pixels show."""
    row, contrast = "R18", from_pixels.contrast
    if _times_speak_against(header, contrast) or _contradicts(contrast, _hints(header)) or _doubt(header, contrast):
        row, contrast = "R17, what the header says is against it", "unknown"
    elif contrast in ("t1", "t2"):
        row, contrast = _modified(header, row, contrast)
    return ContrastFinding(contrast, f"{_physics(header)}; {from_pixels.evidence} → {contrast} ({row})")


def _times_speak_against(header: Header, contrast: Contrast) -> bool:
    """Whether TE or TR, as far as the header has them, rules out a T1 or T2."""
    te = header["EchoTime"] if _positive(header, "EchoTime") else None
    tr = header["RepetitionTime"] if _positive(header, "RepetitionTime") else None
    if contrast == "t1":
        return (te is not None and te > 40) or (tr is not None and tr > 1300)
    if contrast == "t2":
        return (te is not None and te < 45) or (tr is not None and tr < 1500)
    return False


def _positive(header: Header, keyword: str) -> bool:
    return (header[keyword] or 0) > 0


def _first_row(header: Header) -> tuple[str, Contrast]:
    """The row of R1 to R12, R16 or R17 that holds, and its contrast."""
    kinds = words(header["ImageType"])
    pulse = set(PULSES) & words(header["ScanningSequence"])
    if kinds & {"LOCALIZER", "SCOUT"}:
        return "R1", "localizer"
    if header["SOPClassUID"] not in MR_CLASSES or any(map(_is_map, kinds)):
        return "R2", "derived"
    if kinds & DIXON:
        return "R3", "dixon"
    if (header["DiffusionBValue"] or 0) > 0 or "EP" in pulse:
        return "R4", "diffusion"
    flip = header["FlipAngle"]
    if ("GR" in pulse and "SE" not in pulse) or (not pulse and flip is not None and flip < 60):
        return "R5", "gradient_echo"
    if "IR" in pulse or (header["InversionTime"] or 0) > 0:
        return _inverted(header["InversionTime"] or 0, header["EchoTime"])
    return _spin_echo(header)


def _is_map(kind: str) -> bool:
    """Whether a value of ImageType says that pixels are no signal: `T2_STAR MAP`, `SUB`, …"""
    return kind.replace(" ", "_") in MAPS or kind.endswith(("_MAP", " MAP"))


def _inverted(ti: float, te: float | None) -> tuple[str, Contrast]:
    if 50 <= ti <= 350:
        return "R6", "stir"
    if 350 < ti <= 1300 and te is not None and te <= 40:
        return "R7", "t1"
    if not ti and te is not None and te > 40:
        return "R8", "stir"
    return "R9", "unknown"


def _spin_echo(header: Header) -> tuple[str, Contrast]:
    tr, te, train = header["RepetitionTime"], header["EchoTime"], header["EchoTrainLength"] or 1
    if te is None or te <= 0 or (tr is not None and tr <= 0):
        return "R17", "unknown"
    if 60 <= te <= 200 and (tr is None or tr >= 1500 or train >= 20):
        return "R10", "t2"
    if tr is None:
        return "R17", "unknown"
    if te <= 35 and tr <= 1200:
        return "R11", "t1"
    if te <= 45 and tr >= 1800:
        return "R12", "proton_density"
    named = _hints(header) & {"t1", "t2"}
    if ((45 < te < 60 and tr >= 1500) or (te <= 35 and 1200 < tr < 1800)) and len(named) == 1:
        return "R16", "t1" if named == {"t1"} else "t2"
    return "R17", "unknown"


def _modified(header: Header, row: str, contrast: Contrast) -> tuple[str, Contrast]:
    """A T1 or T2 with its contrast agent or fat suppression (R13, R14), else unchanged (R15)."""
    if contrast == "t1" and has_contrast_agent(header):
        return f"{row}, R13", "t1_post_contrast"
    if has_fat_suppression(header):
        return f"{row}, R14", "t1_fat_suppressed" if contrast == "t1" else "t2_fat_suppressed"
    return row, contrast


def has_contrast_agent(header: Header) -> bool:
    """Whether ContrastBolusAgent names an agent or, if it is empty, a volume or dose was given."""
    named = str(header["ContrastBolusAgent"] or "").strip().upper()
    if not named:
        return _positive(header, "ContrastBolusVolume") or _positive(header, "ContrastBolusTotalDose")
    return named not in NO_AGENT


def has_fat_suppression(header: Header) -> bool:
    """Whether ScanOptions name fat suppression."""
    return bool(words(header["ScanOptions"]) & FAT_SUPPRESSION)


def words(value: str | None) -> set[str]:
    """The values of a multi-valued element, upper case."""
    return {part.strip().upper() for part in (value or "").split("\\")} - {""}


def _hints(header: Header) -> set[str]:
    """Which of TEXT_HINTS the description names and does not deny."""
    text = re.sub(DENIED, " ", str(header["SeriesDescription"] or "").lower())
    return {name for name, pattern in TEXT_HINTS.items() if re.search(pattern, text)}


def _contradicts(contrast: Contrast, hints: set[str]) -> bool:
    """Whether the description names T2 for what is a plain T1 by its physics, or T1 for a T2."""
    return contrast in ("t1", "t2") and bool(hints & {"t1", "t2"}) and contrast not in hints


def _physics(header: Header) -> str:
    """Sequence, times and contrast agent as text. Enumerated values and numbers only, no free text of the header."""
    parts = ["+".join(p for p in PULSES if p in words(header["ScanningSequence"])) or "unnamed sequence"]
    names = {"TR": "RepetitionTime", "TE": "EchoTime", "TI": "InversionTime", "train": "EchoTrainLength"}
    parts += [f"{short}={header[long]:g}" for short, long in names.items() if header[long]]
    parts += [f"b={header['DiffusionBValue']:g}"] if header["DiffusionBValue"] else []
    parts += ["agent"] if has_contrast_agent(header) else []
    return " ".join(parts)
