"""The small records that pass between stages. No behaviour beyond what validates or derives them.

Frames: a pixel is `(column, row)` = `(x, y)`, origin at the *centre* of the first pixel, as DICOM's
Image Plane Module counts. Boxes are `(x0, y0, x1, y1)` in that frame. Millimetres are patient coordinates,
LPS: +x to the patient's left, +y to posterior, +z to the head.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from modic.errors import Rejected
from modic.grades import AbstainedReason

LEVELS = ("T12/L1", "L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")
"""The six graded levels from head to foot; a detector's class is the index here plus one (0 is background)."""

Role = Literal[
    "t1", "t2", "stir", "t1_fat_suppressed", "t2_fat_suppressed", "t1_post_contrast",
    "proton_density", "diffusion", "gradient_echo", "dixon", "localizer", "derived", "unknown",
]  # fmt: skip
Plane = Literal["sagittal", "axial", "coronal", "oblique", "unknown"]


@dataclass(frozen=True, slots=True)
class Series:
    """One stack of images of one series that share geometry and echo, as the headers tell.

    A DICOM series that holds several stacks gives several of these. `files` are absolute paths (`frames` the
    zero-based frame of each, all 0 for classic files), ordered by position along `normal`, towards the
    patient's left for a sagittal series. `rejected` is set where the series cannot serve as a T1 or T2.
    """

    study_uid: str
    series_uid: str
    stack: int  # 0 for the only or first stack of the series
    patient_id: str
    files: tuple[str, ...]
    frames: tuple[int, ...]
    role: Role
    role_evidence: str  # the physics that decided, e.g. "SE TR=500 TE=12 → t1"; no free text from the header
    plane: Plane
    header: dict  # values of the first slice by DICOM keyword (modic.archive.crawl.COLUMNS)
    repetition_time_ms: float | None
    echo_time_ms: float | None
    inversion_time_ms: float | None
    pixel_spacing_mm: tuple[float, float] | None  # (between rows, between columns), as DICOM PixelSpacing
    slice_spacing_mm: float | None  # measured from positions, not SpacingBetweenSlices
    slice_thickness_mm: float | None
    n_slices: int
    frame_of_reference_uid: str | None
    rejected: Rejected | None = None
    warnings: tuple[str, ...] = ()
    # one entry a slice; modic.imaging.load refuses files that are no longer what the crawl saw
    positions_mm: tuple[tuple[float, float, float], ...] = ()  # ImagePositionPatient, LPS; empty where one is unknown
    sop_uids: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()  # bytes
    mtimes_ns: tuple[int, ...] = ()
    duplicates: tuple[tuple[int, str, int], ...] = ()  # (slice, file, frame) with an equal header; pixels must be equal


@dataclass(frozen=True, slots=True)
class Pair:
    """The sagittal T1 and T2 of one study that will be graded together."""

    study_uid: str
    patient_id: str
    t1: Series
    t2: Series
    overlap_fraction: float  # share of the T2 stack's extent that the T1 stack also covers, 0-1
    rule: str  # the row of the decision table in modic/series/pair.py that chose
    check_images: bool = False  # the headers do not vouch for one frame of reference: the images must (P9)
    warnings: tuple[str, ...] = ()
    others: tuple["Pair", ...] = ()  # of the study, best first: for where the images of this one do not serve (P10)

    @property
    def choices(self) -> tuple["Pair", ...]:
        """This pair and the others, in the order in which they are tried."""
        return (self, *self.others)


@dataclass(frozen=True, slots=True)
class Excluded:
    """A study that no pair could be made of."""

    study_uid: str
    patient_id: str
    rejected: Rejected
    rule: str = ""  # the row of the decision table in modic/series/pair.py that excluded


@dataclass(frozen=True, slots=True)
class LevelBox:
    """One disc found on a T2 volume. `box` is in native pixels of slice `slice_index`."""

    level: str  # one of LEVELS
    box: tuple[float, float, float, float]
    slice_index: int
    score: float  # detector score of the winning class, 0-1


@dataclass(frozen=True, slots=True)
class LevelSet:
    """What `modic.levels.find.find_levels` returns: at most one box per level, in anatomical order."""

    boxes: tuple[LevelBox, ...]
    numbering: Literal["ok", "uncertain"]
    p_numbering: float  # probability that all names are right, 0-1


@dataclass(frozen=True, eq=False)
class Region:
    """One level cut from both contrasts on one grid of patient millimetres.

    `t1`, `t2`: float32 (5, size, size), slices from the patient's right to left, rows head to foot, columns
    anterior to posterior. Slices outside the volume repeat the nearest one.
    """

    level: str
    t1: np.ndarray
    t2: np.ndarray


@dataclass(frozen=True, slots=True)
class Grade:
    """Calibrated grade of one level."""

    level: str
    p: tuple[float, float, float]  # P(MC0), P(MC1), P(MC2), sum 1
    prediction_set: tuple[int, ...]  # classes that the conformal threshold admits
    mc: int | None  # arg max of p; None where abstained
    abstained: bool  # the prediction set is not a single class, or its grade contradicts the marrow
    alone: tuple[tuple[float, float, float], ...]  # the same probabilities of each slice graded alone, right to left
    abstained_reason: AbstainedReason | None = None  # set where it abstained

    @property
    def shown(self) -> int:
        """The most probable class; `mc` where it did not abstain."""
        return self.p.index(max(self.p))

    @property
    def confidence(self) -> float:
        """Calibrated probability of the most probable class."""
        return max(self.p)

    @property
    def slice_disagreement(self) -> float:
        """Largest minus smallest P(shown) of the slices graded alone, 0-1."""
        of_slices = [p[self.shown] for p in self.alone]
        return max(of_slices) - min(of_slices)


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One row of `levels` before keys are added. Boxes are (x0, y0, x1, y1); mm boxes are two LPS corners."""

    level: str
    status: Literal["graded", "not_found", "unreadable"]
    rejected: Rejected | None = None
    found: LevelBox | None = None
    t1_box: tuple[float, float, float, float] | None = None
    t1_slice: int | None = None
    corner0_mm: tuple[float, float, float] | None = None  # T2 box corner (x0, y0) on its slice, LPS
    corner1_mm: tuple[float, float, float] | None = None  # T2 box corner (x1, y1)
    grade: Grade | None = None


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What `modic.pipeline.grade_study` returns for every pair; `rejected` is set where it was not graded."""

    levels: tuple[LevelResult, ...] = ()
    numbering: str | None = None
    p_numbering: float | None = None
    rejected: Rejected | None = None
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    choice: int = 0  # which of Pair.choices this is about


class EndplateTrouble(StrEnum):
    """Closed list: why an endplate is not measured."""

    OUTSIDE_IMAGE = "endplate.outside_image"
    NO_DISC = "endplate.no_disc"  # no disc is seen where its box is
    CONTRADICTS_BOX = "endplate.contradicts_box"  # a disc is seen, but beside its box
    CONTRASTS_APART = "endplate.contrasts_apart"  # the bodies end elsewhere on T1 than on T2: the patient moved
    NO_VERTEBRA = "endplate.no_vertebra"  # no vertebral body begins beside the disc, or only a part of one
    UNEVEN = "endplate.uneven"  # the edge of the body is no line
    IMPLAUSIBLE_DISC = (
        "endplate.implausible_disc"  # the two endplates of a disc are too near or too far from each other
    )


@dataclass(frozen=True, eq=False)
class EndplateLine:
    """One endplate on one slice, from front to back without its corners.

    `points_mm` float64 (n, 3), LPS; `inward` (n, 3), unit vectors into the marrow of its vertebra; `reach_mm` (n,), how
    far into that direction its vertebral body reaches, at most `EndplateOptions.reach_mm`. `length_mm` is that of
    the whole endplate, corners included.
    """

    points_mm: np.ndarray
    inward: np.ndarray
    reach_mm: np.ndarray
    length_mm: float


@dataclass(frozen=True, eq=False)
class Endplate:
    """One endplate of a level: its lines by slice, from the patient's right to left, or why a slice has none."""

    vertebra: str  # T12 … S1
    lines: tuple[EndplateLine | EndplateTrouble, ...]

    @property
    def seen(self) -> tuple[EndplateLine, ...]:
        """The lines of the slices that have one."""
        return tuple(line for line in self.lines if isinstance(line, EndplateLine))

    @property
    def trouble(self) -> EndplateTrouble | None:
        """Why it cannot be measured: the commonest trouble, if under half of the slices have a line."""
        troubles = [line for line in self.lines if isinstance(line, EndplateTrouble)]
        return max(troubles, key=troubles.count) if 2 * len(self.seen) < len(self.lines) or not self.lines else None


@dataclass(frozen=True, eq=False)
class Endplates:
    """Both endplates of a disc: `upper` is the lower end of the vertebra above it, `lower` the upper end of that below.

    `slices` are the canonical T2 slices (`Volume.canonical`) of their lines.
    """

    level: str
    upper: Endplate
    lower: Endplate
    slices: tuple[int, ...]
