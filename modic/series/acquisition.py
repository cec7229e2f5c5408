"""When a series was acquired, and how its images were made of what was acquired."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from modic.archive.patient_identity import dicom_date
from modic.series.contrast import named_in, words

Header = Mapping[str, Any]
DAY_S = 86_400.0
DISTORTION = {"ND": 0, "DIS2D": 1, "DIS3D": 2}
"""Siemens' words of ImageType: no correction of gradient distortion, one within the slices, one in all directions."""
COMPUTED = ("SYNTH", "SYMRI", "MAGIC", "COMPUTED", "CALCULATED")
REFORMATTED = ("MPR", "REFORMAT", "RESAMPLED", "CSA MPR", "CSA RESAMPLED", "CSAPARALLEL", "CSAMANIPULATED")


@dataclass(frozen=True, slots=True)
class Moment:
    """Date and time of an acquisition, as far as the header has them."""

    day: date | None  # of the acquisition or series itself
    study_day: date | None
    seconds: float | None  # since midnight


def moment(header: Header) -> Moment:
    """AcquisitionDate and -Time, else AcquisitionDateTime, else SeriesDate and -Time."""
    study_day = dicom_date(header["StudyDate"])
    stamp = str(header["AcquisitionDateTime"] or "")
    choices = (
        (header["AcquisitionDate"], header["AcquisitionTime"]),
        (stamp[:8], stamp[8:].split("+")[0].split("-")[0]),
        (header["SeriesDate"], header["SeriesTime"]),
    )
    known = [(dicom_date(day), seconds_of(time)) for day, time in choices]
    for day, seconds in known:
        if seconds is not None:
            others = (other for other, _ in known if other is not None)
            return Moment(day or next(others, None), study_day, seconds)
    return Moment(next((day for day, _ in known if day is not None), None), study_day, None)


def seconds_of(time: Any) -> float | None:
    """Seconds since midnight of a DICOM time (`101530.5`, and `10:15:30` of ACR-NEMA); None if it is none."""
    digits = str(time or "").strip().replace(":", "")
    try:
        found = int(digits[:2]) * 3600 + int(digits[2:4] or 0) * 60 + float(digits[4:] or 0)
    except ValueError:
        return None
    return found if 0 <= found < DAY_S + 60 else None


def hours_between(earlier: Moment, later: Moment, *, one_study: bool) -> float | None:
    """Hours from one moment to the other, negative if it was before; None if a time of day is unknown.

    Without dates of their own two series of one study lie less than 12 hours apart, so that 23:50 was before 0:05.
    Series of two studies then have the days of their studies; None without these.
    """
    if earlier.seconds is None or later.seconds is None:
        return None
    apart = later.seconds - earlier.seconds
    if earlier.day and later.day:
        return apart / 3600 + (later.day - earlier.day) / timedelta(hours=1)
    if one_study:
        return ((apart + DAY_S / 2) % DAY_S - DAY_S / 2) / 3600
    first, last = earlier.day or earlier.study_day, later.day or later.study_day
    return apart / 3600 + (last - first) / timedelta(hours=1) if first and last else None


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """How images were made: what was computed, reformatted or derived is no longer what was acquired."""

    computed: bool  # a synthetic contrast
    reformatted: bool  # cut from a volume of other slices
    derived: bool
    distortion: int  # of DISTORTION
    normalized: bool  # brightness corrected for the coil (NORM)

    def like(self, other: "Reconstruction") -> bool:
        """Whether both were corrected alike, so that T1 and T2 have one geometry and brightness."""
        return (self.distortion, self.normalized) == (other.distortion, other.normalized)


def reconstruction(header: Header) -> Reconstruction:
    """From ImageType, and for synthetic contrasts also from the scanner's name and the description."""
    kinds = words(header["ImageType"])
    scanner = f"{header['Manufacturer']} {header['ManufacturerModelName']}".upper()
    named = any(name in text for name in COMPUTED for text in (*kinds, scanner))
    return Reconstruction(
        computed=named or "computed" in named_in(dict(header)),
        reformatted=any(kind.startswith(REFORMATTED) for kind in kinds),
        derived="DERIVED" in kinds,
        distortion=max((DISTORTION.get(kind, 0) for kind in kinds), default=0),
        normalized="NORM" in kinds,
    )
