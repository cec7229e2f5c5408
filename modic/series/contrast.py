"""The contrast of a series, from its physics. The texts of its header only break ties and raise doubts.

Rows are tried in order, the first that holds decides. TR, TE, TI in ms; "echo train" is EchoTrainLength. Enhanced MR
attributes count under their classic names (modic/archive/enhanced_mr.py).

| row | condition                                                                       | contrast          |
|-----|---------------------------------------------------------------------------------|-------------------|
| R1  | ImageType says LOCALIZER or SCOUT                                               | localizer         |
| R2  | SOPClassUID is no MR image; ImageType says map, projection, difference, phase,  | derived           |
|     | real or imaginary part                                                          |                   |
| R3  | ImageType says water, fat or opposed phase (in phase is an ordinary image)      | dixon             |
| R4  | DiffusionBValue above 0, an echo-planar sequence (EP), AcquisitionContrast      | diffusion         |
|     | DIFFUSION                                                                       |                   |
| R5  | gradient echo (GR without SE), or unnamed sequence of flip angle under 60°, or  | gradient_echo     |
|     | AcquisitionContrast T2_STAR; or ImageType says FFE (Philips)                    |                   |
| R20 | SequenceVariant says magnetization transfer (MTC), T2 preparation, tagging, …;  | unknown           |
|     | AcquisitionContrast says perfusion, flow, tagging or, of no T1, fluid attenuated|                   |
| R6  | inversion (IR or TI > 0), TI 50-350; or AcquisitionContrast STIR                | stir              |
| R7  | inversion, TI 351-1300, TE <= 40: T1 FLAIR                                      | t1, then R13-R15  |
| R8  | inversion, no TI: TE > 40                                                       | stir              |
| R9  | inversion otherwise                                                             | unknown           |
| R10 | TE 60-200, and TR >= 1500 or an echo train of 20 or more or no TR               | t2, then R13-R15  |
| R11 | TE <= 35, TR <= 1200                                                            | t1, then R13-R15  |
| R12 | TE <= 45, TR >= 1800                                                            | proton_density    |
| R13 | a T1 with ContrastBolusAgent (other than "off", "no contrast", "-", …), its     | t1_post_contrast  |
|     | code or its ingredient; if the agent is empty, with ContrastBolusVolume or      |                   |
|     | ContrastBolusTotalDose above 0                                                  |                   |
| R14 | a T1 or T2 with fat suppression in ScanOptions                                  | …_fat_suppressed  |
| R15 | a T1 or T2 otherwise                                                            | t1, t2            |
| R16 | a tie (TE 45-60 with TR >= 1500, or TE <= 35 with TR 1200-1800), and the        | t1, t2, then      |
|     | description names exactly one of T1 and T2                                      | R13-R15           |
| R17 | otherwise                                                                       | unknown           |
| R18 | R17 because TR or TE is missing, but the pixels show a T1, T2 or STIR           | t1, t2, then      |
|     | (contrast_from_pixels.py), and neither the other of TR and TE nor the           | R13-R14; or stir  |
|     | description speaks against it                                                   |                   |
| R19 | R15 by a TE under 2 or a TR under 100, which are no times of a spin echo in ms; | unknown           |
|     | or a number of the acquisition is there and cannot be read (`DOUBTED`);         |                   |
|     | or the description (ProtocolName, if it is blank) names fat suppression, STIR,  |                   |
|     | magnetization transfer, an opposed phase, a gradient echo, diffusion, a map, a  |                   |
|     | difference or a projection, for a T2 fluid attenuation or, for a T1, a contrast |                   |
|     | agent ("without fat suppression" does not; wording.py), and the physics does    |                   |
|     | not                                                                             |                   |

DERIVED and SECONDARY in ImageType decide nothing here, because whole hospitals export their primary images so.
"""

import re
from dataclasses import dataclass
from typing import Any

from modic.archive.headers import MR_CLASSES
from modic.records import Contrast
from modic.series.wording import IN_PHASE, denies_agent, hints, plain

Header = dict[str, Any]
MAPS = frozenset({
    "ADC", "FA", "TRACEW", "MIP", "MINIP", "PROJECTION_IMAGE", "SUBTRACTION", "SUBTRACT", "SUB", "DIFFERENCE", "P",
    "PHASE", "R", "REAL", "I", "IMAGINARY", "COLLAGE", "MOSAIC", "SCREEN_SAVE", "SCREENSAVE", "CSA_REPORT", "VELOCITY",
    "CURVED", "CPR", "CURVED_MPR", "MAX_IP", "MIN_IP", "VOLUME_RENDER", "SURFACE_RENDER",
})  # fmt: skip
DIXON = frozenset(
    {"WATER", "FAT", "W", "F", "OUT_PHASE", "OPP_PHASE", "OP", "OPPOSED_PHASE", "FAT_FRACTION", "WATER_FRACTION"}
)
SPECIAL = frozenset(["MTC", "T2PREP", "NULLED", "TAGGING", "ASL", "PC", "TOF"])
SPECIAL_CONTRAST = frozenset(["PERFUSION", "FLOW_ENCODED", "TAGGING", "TOF"])
MIN_TE_MS, MIN_TR_MS, MAX_TI_MS = 2.0, 100.0, 1e5
DOUBTED = frozenset(
    [
        "RepetitionTime",
        "EchoTime",
        "InversionTime",
        "FlipAngle",
        "DiffusionBValue",
        "ContrastBolusVolume",
        "ContrastBolusTotalDose",
    ]
)
DOUBTS = {"agent": "an agent", "fluid": "fluid attenuation", "fs": "fat suppression", "stir": "STIR",
          "transfer": "magnetization transfer", "opposed": "an opposed phase", "gradient": "a gradient echo",
          "diffusion": "diffusion", "map": "a map, a difference or a projection"}  # fmt: skip
PULSES = ("SE", "IR", "GR", "EP")


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
    contradicted = _contradicts(contrast, named_in(header))
    return ContrastFinding(contrast, f"{_physics(header)} → {contrast} ({row})", contradicted)


def _doubt(header: Header, contrast: Contrast) -> str:
    """Why a plain T1 or T2 may be none (R19); empty if nothing says so."""
    if contrast not in ("t1", "t2"):
        return ""
    if 0 < (header["EchoTime"] or 0) < MIN_TE_MS or 0 < (header["RepetitionTime"] or 0) < MIN_TR_MS:
        return "TR and TE are no milliseconds"
    if unread := DOUBTED.intersection((header["Unparsed"] or "").split("\\")):
        return f"{', '.join(sorted(unread))} cannot be read"
    named = named_in(header) & (DOUBTS.keys() - ({"fluid"} if contrast == "t1" else {"agent"}))
    return f"the description alone names {', '.join(DOUBTS[hint] for hint in sorted(named))}" if named else ""


def lacks_times(header: Header) -> bool:
    """Whether the contrast is unknown (R17) because TR or TE is missing, so that the pixels may show it."""
    row, _ = _first_row(header)
    return row == "R17" and not (_positive(header, "EchoTime") and _positive(header, "RepetitionTime"))


def accept_from_pixels(header: Header, from_pixels: ContrastFinding) -> ContrastFinding:
    """R18: the contrast of a stack whose header `lacks_times`, given what its pixels show."""
    row, contrast = "R18", from_pixels.contrast
    if _times_speak_against(header, contrast) or _contradicts(contrast, named_in(header)) or _doubt(header, contrast):
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
    acquired = header["AcquisitionContrast"]
    if (header["DiffusionBValue"] or 0) > 0 or "EP" in pulse or acquired == "DIFFUSION":
        return "R4", "diffusion"
    flip = header["FlipAngle"]
    named = acquired == "T2_STAR" or bool(kinds & {"FFE", "M_FFE"})
    if ("GR" in pulse and "SE" not in pulse) or (not pulse and flip is not None and flip < 60) or named:
        return "R5", "gradient_echo"
    if words(header["SequenceVariant"]) & SPECIAL or acquired in SPECIAL_CONTRAST:
        return "R20", "unknown"
    ti = _inversion_time(header)
    if acquired == "STIR" and not ti:
        return "R6", "stir"
    row, contrast = _inverted(ti, header["EchoTime"]) if "IR" in pulse or ti else _spin_echo(header)
    return ("R20", "unknown") if acquired == "FLUID_ATTENUATED" and contrast != "t1" else (row, contrast)


def _inversion_time(header: Header) -> float:
    """InversionTime in ms; 0 if it is none (Philips writes 7.23e75 for no time)."""
    ti = header["InversionTime"] or 0.0
    return ti if 0 < ti < MAX_TI_MS else 0.0


def _is_map(kind: str) -> bool:
    """Whether a value of ImageType says that pixels are no signal: `T2_STAR MAP`, `SUB`, `T1MAP`, `R_IR`, …"""
    return kind.replace(" ", "_") in MAPS or kind.endswith("MAP") or kind.startswith(("R_", "I_", "P_"))


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
    named = named_in(header) & {"t1", "t2"}
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
    """Whether ContrastBolusAgent names an agent or, if it is empty, an ingredient, a volume or a dose was given."""
    named = str(header["ContrastBolusAgent"] or "").strip() or str(header["ContrastBolusIngredient"] or "").strip()
    if not named:
        return _positive(header, "ContrastBolusVolume") or _positive(header, "ContrastBolusTotalDose")
    return not denies_agent(named)


def has_fat_suppression(header: Header) -> bool:
    """Whether ScanOptions name fat suppression."""
    options = str(header["ScanOptions"] or "").replace("\\", " ").replace("_", " ")
    return "fs" in hints(f"{options} in phase" if IN_PHASE.search(plain(_description(header))) else options)


def words(value: str | None) -> set[str]:
    """The values of a multi-valued element, upper case."""
    return {part.strip().upper() for part in (value or "").split("\\")} - {""}


def named_in(header: Header) -> frozenset[str]:
    """Which of modic.series.wording.HINTS the description names and does not deny; STIR also by Siemens' sequence."""
    found = hints(_description(header))
    return found | {"stir"} if re.match(r"\*?tirm?[^a-z]", str(header["SequenceName"] or "").lower()) else found


def _description(header: Header) -> str:
    """SeriesDescription; ProtocolName if that is blank, unless it names the whole examination, as GE's does."""
    text = str(header["SeriesDescription"] or "").strip()
    if text or str(header["Manufacturer"] or "").upper().startswith("GE"):
        return text
    return str(header["ProtocolName"] or "")


def _contradicts(contrast: Contrast, named: frozenset[str]) -> bool:
    """Whether the description names T2 for what is a plain T1 by its physics, or T1 for a T2."""
    return contrast in ("t1", "t2") and bool(named & {"t1", "t2"}) and contrast not in named


def _physics(header: Header) -> str:
    """Sequence, times and contrast agent as text. Enumerated values and numbers only, no free text of the header."""
    parts = ["+".join(p for p in PULSES if p in words(header["ScanningSequence"])) or "unnamed sequence"]
    names = {"TR": "RepetitionTime", "TE": "EchoTime", "TI": "InversionTime", "train": "EchoTrainLength"}
    parts += [f"{short}={header[long]:g}" for short, long in names.items() if header[long]]
    parts += [word for word in sorted(words(header["SequenceVariant"]) & SPECIAL)]
    acquired = header["AcquisitionContrast"]
    parts += [acquired] if acquired in SPECIAL_CONTRAST | {"DIFFUSION", "T2_STAR", "STIR", "FLUID_ATTENUATED"} else []
    parts += [f"b={header['DiffusionBValue']:g}"] if header["DiffusionBValue"] else []
    parts += ["agent"] if has_contrast_agent(header) else []
    return " ".join(parts)
