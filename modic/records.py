"""The small records that pass between stages. No behaviour beyond what validates or derives them.

Frames: a pixel is `(column, row)` = `(x, y)`, origin at the *centre* of the first pixel, as DICOM's
Image Plane Module counts. Boxes are `(x0, y0, x1, y1)` in that frame. Millimetres are patient coordinates,
LPS: +x to the patient's left, +y to posterior, +z to the head.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from modic.errors import Rejected
from modic.grades import AbstainedReason

LEVELS = ("T12/L1", "L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")
"""The six graded levels from head to foot; a detector's class is the index here plus one (0 is background)."""

TRANSITIONAL_REASONS = (
    "disc more", "disc fewer", "sacralized look", "sacrum not in view", "count from above disagrees",
    "count from C2 disagrees",
)  # fmt: skip
NUMBERING_BASES = ("sacrum", "looks of the discs", "count from C2")

Contrast = Literal[
    "t1", "t2", "stir", "t1_fat_suppressed", "t2_fat_suppressed", "t1_post_contrast",
    "proton_density", "diffusion", "gradient_echo", "dixon", "localizer", "derived", "unknown",
]  # fmt: skip
"""What a series shows (modic/series/contrast.py); the column `role` of the table `series`."""
Plane = Literal["sagittal", "axial", "coronal", "oblique", "unknown"]


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Where one image of a series lies, and the state in which the crawl read it.

    modic.imaging.load refuses an image whose size, modification time or SOPInstanceUID is no longer this one.
    """

    path: str  # as its source lists it (modic/archive/source.py)
    member: str | None  # name within the container at `path`, such as a zip file; None for a plain file
    frame: int  # of a multi-frame file, counted from 0; 0 for a classic file
    sop_uid: str
    size: int  # bytes
    mtime_ns: int  # modification time


class WarningKind(StrEnum):
    """What a series was accepted in spite of. The value is the text in the tables, with a place for the detail."""

    SLICE_SPACING_VARIES = "slice spacing varies by {}"
    SLICES_THINNED_OUT = "slices {}"
    NOT_QUITE_SAGITTAL = "slice normal {} degrees from the left-right axis"
    ORIENTATION_DIFFERS = "ImageOrientationPatient differs by {}"
    POSITION_INFERRED = "ImagePositionPatient inferred from InstanceNumber for {}"
    DUPLICATE_SLICES = "{} set aside"
    DESCRIPTION_DISAGREES = "SeriesDescription disagrees with TR, TE and TI"
    CONTRAST_AGENT = "T2 after ContrastBolusAgent"
    COMPUTED = "computed from other images, not acquired"
    REFORMATTED = "reformatted from other slices"
    ONE_OF_MANY_ECHOES = "one of {} echoes of one acquisition"
    FILES_UNREADABLE = "{} beside its images cannot be read"
    SERIES_OF_ONE_IMAGE = (
        "one of {} series of one image each: every file has its own SeriesInstanceUID; give the images of a scan one"
    )


@dataclass(frozen=True, slots=True)
class SeriesWarning:
    """A warning about a series; compare its `kind`, show its text."""

    kind: WarningKind
    detail: str = ""  # fills the place in the text of the kind

    def __str__(self) -> str:
        return self.kind.format(self.detail)


@dataclass(frozen=True, slots=True)
class Series:
    """One stack of images of one series that share geometry and contrast, as the headers describe it.

    A DICOM series that holds several stacks gives several of these. `images` are ordered by position along the slice
    normal, towards the patient's left for a sagittal series. `rejected` says why the series cannot be graded.
    """

    study_uid: str
    series_uid: str
    stack: int  # 0 for the only or first stack of the series
    patient_id: str
    images: tuple[ImageReference, ...]
    contrast: Contrast
    contrast_evidence: str  # the physics that decided, e.g. "SE TR=500 TE=12 → t1"; no free text from the header
    plane: Plane
    header: dict  # values of the first slice by DICOM keyword (modic.archive.headers.COLUMNS)
    repetition_time_ms: float | None
    echo_time_ms: float | None
    inversion_time_ms: float | None
    pixel_spacing_mm: tuple[float, float] | None  # (between rows, between columns), as DICOM PixelSpacing
    slice_spacing_mm: float | None  # measured from positions, not SpacingBetweenSlices
    slice_thickness_mm: float | None
    n_slices: int
    frame_of_reference_uid: str | None
    rejected: Rejected | None = None
    warnings: tuple[SeriesWarning, ...] = ()
    positions_mm: tuple[tuple[float, float, float], ...] = ()  # of each image, LPS; empty if one is unknown
    duplicates: tuple[tuple[int, ImageReference], ...] = ()  # (index in `images`, image with an equal header)

    @property
    def image_state(self) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """SOP UIDs, frames, sizes and modification times of the images. Differs if the pixels may differ.

        Fingerprints of studies are made of it: a change here would grade every study again.
        """
        images = self.images
        return (
            tuple(image.sop_uid for image in images),
            tuple(image.frame for image in images),
            tuple(image.size for image in images),
            tuple(image.mtime_ns for image in images),
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """The sagittal series of one study that will be graded together, one for each contrast.

    `contrasts` maps the name of a contrast ("t1", "t2", and what else the classifier asks for, such as "stir") to the
    series that shows it; it always holds "t1" and "t2", or "t1" and "stir" in the place of T2 (P13).
    """

    study_uid: str
    patient_id: str
    contrasts: dict[str, Series]
    overlap_fraction: float  # share of the T2 stack's extent that the T1 stack also covers, 0-1
    rule: str  # the row of the decision table in modic/series/pair.py that chose
    check_images: bool = False  # the headers do not vouch for one frame of reference: the images must (P9)
    warnings: tuple[str, ...] = ()
    others: tuple["Pair", ...] = ()  # of the study, best first: tried if the images of this one do not serve (P10)
    stir: Series | None = None  # kept beside them: its marrow is measured, no grade asks for it (P12)
    check_stir: bool = False  # as `check_images`, of the STIR
    whole_spine: Series | None = None  # kept beside them: discs are counted on it from C2 (P14)

    @property
    def t1(self) -> Series:
        """The T1-weighted series."""
        return self.contrasts["t1"]

    @property
    def t2(self) -> Series:
        """The T2-weighted series, on which discs are found; the STIR in its place if there is none (P13)."""
        return self.contrasts["t2" if "t2" in self.contrasts else "stir"]

    @property
    def series(self) -> tuple[Series, ...]:
        """All series whose images are read: one for each contrast, and the STIR and the whole spine beside them."""
        read = list(self.contrasts.values())
        for beside in (self.stir, self.whole_spine):
            if beside is not None and beside not in read:
                read.append(beside)
        return tuple(read)

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
    """One disc found on a T2 volume.

    `box` is in native pixels: those of the stored images, whatever axes the volume was brought to when it was loaded;
    so is `slice_index`, counted from 0 in the order of `Series.images`.
    """

    level: str  # one of LEVELS
    box: tuple[float, float, float, float]
    slice_index: int
    score: float  # detector score of the winning class, 0-1


@dataclass(frozen=True, slots=True)
class Transitional:
    """Whether there may be a vertebra more or fewer (modic/levels/certainty.py); None if the image cannot tell."""

    suspected: bool | None = None
    probability: float | None = None  # 0-1
    reason: str | None = None  # one of TRANSITIONAL_REASONS


@dataclass(frozen=True, slots=True)
class LevelSet:
    """The levels of one study: at most one box per level, from head to foot (modic.levels.find)."""

    boxes: tuple[LevelBox, ...]
    numbering: Literal["ok", "uncertain"]
    p_numbering: float  # probability that all names are right, counted from the last mobile disc, 0-1
    transitional: Transitional = Transitional()
    basis: str = "sacrum"  # what the count rests on, one of NUMBERING_BASES


@dataclass(frozen=True, eq=False)
class Region:
    """One level cut from every contrast on one grid of patient millimetres.

    `contrasts` maps the name of a contrast ("t1", "t2", …) to float32 (slices, size, size): slices from the patient's
    right to left, rows head to foot, columns anterior to posterior. Slices outside the volume repeat the nearest one.
    """

    level: str
    contrasts: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Grade:
    """Calibrated grade of one level. Types are numbers, the indices of modic.grades.GRADES."""

    level: str
    p: tuple[float, ...]  # probability of each type, sum 1
    prediction_set: tuple[int, ...]  # types that the conformal threshold admits, ascending
    mc: int | None  # arg max of p; None if abstained
    abstained: bool  # the prediction set is not a single type, or its type contradicts the marrow
    alone: tuple[tuple[float, ...], ...]  # `p` of each slice graded alone, slices from right to left
    abstained_reason: AbstainedReason | None = None  # set if it abstained

    @property
    def shown(self) -> int:
        """The most probable type; the same as `mc` unless the level abstained."""
        return self.p.index(max(self.p))

    @property
    def confidence(self) -> float:
        """Calibrated probability of the most probable type, 0-1."""
        return max(self.p)

    @property
    def slice_disagreement(self) -> float:
        """Largest minus smallest P(shown) of the slices graded alone, 0-1."""
        of_slices = [p[self.shown] for p in self.alone]
        return max(of_slices) - min(of_slices)


SIDES = ("upper", "lower")
"""The two endplates beside a disc: the lower endplate of the vertebra above it, and the upper one of that below it."""

MARROW_COLUMNS = tuple(
    name.format(side=side)
    for side in SIDES
    for name in (
        "t1_ratio_{side}", "t2_ratio_{side}", "t1_patient_ratio_{side}", "t2_patient_ratio_{side}",
        "extent_{side}", "depth_{side}_mm",
    )
)  # fmt: skip
"""The columns of `levels` that measure the marrow beside the endplates (modic.grading.marrow)."""

STIR_COLUMNS = tuple(f"stir_ratio_{side}" for side in SIDES)
"""The same on STIR, where a study has one; nothing grades by them."""

ENDPLATE_COLUMNS = tuple(f"{name}_{side}" for side in SIDES for name in ("mc", "udby"))
"""The columns of `levels` that grade each endplate (modic.grading.endplate_types)."""


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One row of `levels` before keys are added. Boxes are (x0, y0, x1, y1) in native pixels, as in `LevelBox`."""

    level: str
    status: Literal["graded", "not_found", "unreadable"]
    rejected: Rejected | None = None  # why it was not graded
    found: LevelBox | None = None  # on T2
    t1_box: tuple[float, float, float, float] | None = None
    t1_slice: int | None = None
    corner0_mm: tuple[float, float, float] | None = None  # corner (x0, y0) of the T2 box on its slice, LPS
    corner1_mm: tuple[float, float, float] | None = None  # corner (x1, y1) of the same
    grade: Grade | None = None
    marrow: Mapping[str, float | None] = field(default_factory=dict)  # MARROW_COLUMNS and STIR_COLUMNS, as far as known
    endplates: Mapping[str, str | None] = field(default_factory=dict)  # ENDPLATE_COLUMNS
    on_t2: bool = True  # `found` is in pixels of the T2; else of the STIR in its place


@dataclass(frozen=True, eq=False)
class LevelFeatures:
    """What is known of a level before the classifier's card makes a grade of it (modic/tables/features.py)."""

    logits: np.ndarray  # float32 (classes,), this and the next two as in modic.grading.network_output
    slice_logits: np.ndarray  # float32 (slices, classes)
    features: np.ndarray  # float16 (k,)
    marrow: np.ndarray  # float64, of modic.grading.marrow_features; empty if nothing was measured
    endplates: np.ndarray  # float64, of modic.grading.marrow.MarrowMeasurements.numbers; empty if not measured


class StudyWarning(StrEnum):
    """What went wrong with a study that was graded all the same. Its value begins the text in `studies.warnings`."""

    NO_IMAGES = "no pictures"  # write_case failed: the report cannot show the study

    def text(self, detail: str) -> str:
        """The warning as it stands in the table."""
        return f"{self}: {detail}"

    @classmethod
    def of(cls, text: str) -> "StudyWarning | None":
        """Which warning a text of the table is; None for all others."""
        return next((warning for warning in cls if text.startswith(warning)), None)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What `modic.pipeline.grade_study` returns for every pair; `rejected` is set if it was not graded."""

    levels: tuple[LevelResult, ...] = ()  # one for each of LEVELS, in their order
    numbering: str | None = None  # of LevelSet
    p_numbering: float | None = None
    transitional: Transitional = Transitional()
    numbering_basis: str | None = None
    rejected: Rejected | None = None
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    choice: int = 0  # index in Pair.choices of the pair that this is about
    kept: Mapping[str, LevelFeatures] = field(default_factory=dict, compare=False)  # by graded level


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
