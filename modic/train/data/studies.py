"""Labelled studies → discs for the classifier and slices for the detector, from whatever source."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.config import LevelOptions
from modic.errors import Rejected, UsageError
from modic.imaging.regions import box_on, cut_regions
from modic.imaging.volume import CanonicalVolume
from modic.labels.level_names import disc_name, name_of
from modic.labels.table import Box, Label
from modic.labels.tally import Tally
from modic.records import LEVELS, LevelBox, LevelResult, LevelSet
from modic.train.data.disc_marrow import disc_marrow
from modic.train.data.discs import Disc, cut_discs
from modic.train.data.images import Unusable, to_uint8
from modic.train.data.samples import Sample

if TYPE_CHECKING:
    from modic.models.weights import Model

FEWEST_BOXES = 3  # on a slice for the detector
FAR_SLICES = 2  # largest distance between the slices that the boxes of one study lie on


@dataclass(frozen=True, eq=False)
class Study:
    """The images of one study and its labels."""

    patient: str
    t1: CanonicalVolume
    t2: CanonicalVolume
    labels: list[Label]  # boxes in pixels of `t2`
    scanner: str = ""  # modic.train.data.discs.scanner_name

    @property
    def volumes(self) -> dict[str, CanonicalVolume]:
        """The images by contrast."""
        return {"t1": self.t1, "t2": self.t2}

    @property
    def lines(self) -> list[str]:
        """The lines of the labels in their table, for a tally."""
        return [label.where for label in self.labels]


def study_of(patient: str, t1: CanonicalVolume, t2: CanonicalVolume, labels: list[Label], scanner: str = "") -> Study:
    """A study whose boxes are moved from native T2 pixels to canonical ones.

    Raises UsageError if a label's slice is none of the T2's.
    """
    moved = []
    for label in labels:
        if label.box is not None:
            native = LevelBox(LEVELS[label.level], label.box, _slice(t2, label), 1.0)
            box, index = box_on(t2.grid, t2.native, native)
            label = replace(label, box=box, slice_index=index)
        moved.append(label)
    return Study(patient, t1.as_stored(), t2.as_stored(), moved, scanner)


def _slice(t2: CanonicalVolume, label: Label) -> int:
    """The label's slice, or the middle one. Raises UsageError."""
    n = t2.native.shape[0]
    index = n // 2 if label.slice_index is None else label.slice_index
    if not 0 <= index < n:
        raise UsageError(f"--labels {label.where}: slice {index} is not one of the T2's {n} (counted from 0)")
    return index


@dataclass(frozen=True)
class Boxer:
    """Boxes and names the discs of a T2 as grading does; the network is loaded when it is first needed."""

    detector: str  # weights
    device: str = "cpu"  # or `auto`
    segmenter: str = ""  # weights that find endplates, if the marrow beside them is to be measured

    @cached_property
    def model(self) -> "Model":
        """Raises WeightsError."""
        from modic.models.device import resolve_device
        from modic.models.weights import load_detector

        return load_detector(self.detector, device=resolve_device(self.device))

    def __call__(self, t2: CanonicalVolume) -> LevelSet:
        from modic.levels.find import find_levels

        return find_levels(t2, detector=self.model, options=LevelOptions())


def study_discs(
    study: Study, preprocessing: dict[str, Any], boxer: Boxer, tally: Tally, *, source: str
) -> Iterator[Disc]:
    """The labelled discs that can be cut; the boxes are the labels' if one of them has a box, else the detector's."""
    labelled = any(label.box for label in study.labels)
    boxes = _labelled_boxes(study, tally) if labelled else _detected_boxes(study, boxer, tally)
    marrow = disc_marrow(study.t1, study.t2, boxes, boxer.segmenter) if boxer.segmenter and boxes else None
    wanted = {LEVELS[label.level]: (label.mc or 0, 0) for label in study.labels}
    boxes = [box for box in boxes if box.level in wanted]
    cut = list(
        cut_discs(
            study.volumes, boxes, wanted, patient=study.patient, source=source, preprocessing=preprocessing,
            scanner=study.scanner, marrow=marrow,
        )
    )  # fmt: skip
    _count_uncut(study, boxes, {disc.level for disc in cut}, preprocessing, tally)
    yield from cut


def _labelled_boxes(study: Study, tally: Tally) -> list[LevelBox]:
    for label in study.labels:
        if label.box is None:
            tally.skip("labels without a box in a study where others have one", label.where)
    check_boxes({b.level: b.box for b in study.labels if b.box}, study.t2.voxels.shape[1:], _place(study.labels))
    return [LevelBox(LEVELS[b.level], b.box, b.slice_index or 0, 1.0) for b in study.labels if b.box]


def _detected_boxes(study: Study, boxer: Boxer, tally: Tally) -> list[LevelBox]:
    levels = boxer(study.t2)
    if levels.numbering != "ok" or levels.transitional.suspected:
        tally.skip("labels of studies whose levels the detector cannot name for certain; give boxes", *study.lines)
        return []
    found = {box.level for box in levels.boxes}
    for label in study.labels:
        if LEVELS[label.level] not in found:
            tally.skip("labelled discs that the detector did not find; give boxes", label.where)
    return list(levels.boxes)


def _count_uncut(
    study: Study, boxes: list[LevelBox], cut: set[str], preprocessing: dict[str, Any], tally: Tally
) -> None:
    """Count the labelled discs that are not among the levels `cut`, with the reason."""
    lost = LevelSet(tuple(box for box in boxes if box.level not in cut), "ok", 1.0)
    lines = {LEVELS[label.level]: label.where for label in study.labels}
    for part in cut_regions(study.volumes, lost, preprocessing=preprocessing, options=LevelOptions()):
        if isinstance(part, LevelResult) and part.rejected:
            tally.skip(f"discs {part.rejected.reason}", lines[part.level])


def study_samples(study: Study, tally: Tally) -> list[Sample]:
    """The T2 slice of the boxes and the T1 slice at the same place; `tally` counts what cannot be used."""
    ranks = {label.level: label.box for label in study.labels if label.box}
    slices = [label.slice_index or 0 for label in study.labels]
    check_boxes(ranks, study.t2.voxels.shape[1:], _place(study.labels))
    if few := too_few(ranks):
        tally.skip(f"labels of studies with {few}", *study.lines)
        return []
    if np.ptp(slices) > FAR_SLICES:
        tally.skip(f"labels of studies whose boxes lie more than {FAR_SLICES} slices apart", *study.lines)
        return []
    middle = int(np.median(slices))
    boxes = [LevelBox(LEVELS[rank], box, middle, 1.0) for rank, box in sorted(ranks.items())]
    samples = []
    for contrast, volume in (("t2", study.t2), ("t1", study.t1)):
        try:
            samples.append(_sample(study, volume, boxes, contrast))
        except Unusable as why:
            tally.skip(f"{contrast.upper()} slices that {why}", study.lines[0])
    return samples


def _sample(study: Study, volume: CanonicalVolume, boxes: list[LevelBox], contrast: str) -> Sample:
    """The slice of a canonical volume nearest the boxes. Raises Unusable if they lie outside it."""
    centres = [((b.box[0] + b.box[2]) / 2, (b.box[1] + b.box[3]) / 2, b.slice_index) for b in boxes]
    points = volume.to_index(study.t2.to_mm(np.array(centres, float)))
    if (points < -0.5).any() or (points > np.array(volume.voxels.shape[::-1]) - 0.5).any():
        raise Unusable("do not cover the boxes on T2")
    index = round(float(points[:, 2].mean()))
    moved = np.array([box_on(volume.grid, study.t2.grid, box)[0] for box in boxes])
    names = np.array([LEVELS.index(box.level) for box in boxes])
    return Sample(study.patient, contrast, to_uint8(volume.voxels[index]), moved, names)


def _place(labels: list[Label]) -> str:
    return f"--labels lines {', '.join(str(label.line) for label in labels)}"


def check_boxes(boxes: dict[int, Box], shape: tuple[int, ...], where: str) -> None:
    """Refuse boxes that cannot be right on an image.

    Args:
        boxes: by rank (`disc_rank`), px.
        shape: rows, columns.
        where: what the message begins with.

    Raises:
        UsageError: the centre of a box is outside the image, or the discs are not in order from head to foot.
    """
    rows, columns = shape
    above = -np.inf
    for rank, (x0, y0, x1, y1) in sorted(boxes.items()):
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if not (-0.5 <= x < columns - 0.5 and -0.5 <= y < rows - 0.5):
            raise UsageError(f"{where}: the box of {disc_name(rank)} is outside the image ({columns} × {rows} px)")
        if y <= above:
            raise UsageError(
                f"{where}: {disc_name(rank)} lies above the disc before it; y counts from the top, and the names go "
                "from head to foot"
            )
        above = y


def too_few(boxes: dict[int, Box]) -> str:
    """Why boxes by rank are too few for the detector, to which a disc without a box is background; else empty."""
    named = sorted(rank for rank in boxes if name_of(rank) >= 0)
    if len(named) < FEWEST_BOXES:
        return f"boxes of fewer than {FEWEST_BOXES} levels"
    return "a level between two others without a box" if named[-1] - named[0] >= len(named) else ""


def refused(rejected: Rejected) -> str:
    """A refusal in the words of a tally."""
    return f"{rejected.reason}" + (f" ({rejected.detail})" if rejected.detail else "")
