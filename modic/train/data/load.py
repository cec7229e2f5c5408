"""One `--data` source → samples or discs, summed up in a printed line; and checks before training on all of them."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from modic.errors import UsageError
from modic.grades import GRADES
from modic.labels.table import Label, Labels, read_labels
from modic.labels.tally import Tally
from modic.records import LEVELS
from modic.text import counted
from modic.train.data.coco import coco_samples
from modic.train.data.dicom_archive import archive_studies
from modic.train.data.discs import Disc
from modic.train.data.folders import slice_studies, volume_studies
from modic.train.data.samples import Sample
from modic.train.data.spider_release import release_discs, release_samples
from modic.train.data.split import part_of, split_of
from modic.train.data.studies import Boxer, Study, study_discs, study_samples

STUDIES: dict[str, Callable[[Path, list[Label], Path, Tally], Iterator[Study]]] = {
    "archive": archive_studies, "volumes": volume_studies, "slices": slice_studies,
}  # fmt: skip
"""The sources that need labels, with the function that reads each."""
TIGHT = 0.36  # height / width of a box without margin; the median of a spine's boxes is 0.39-0.64 in SPIDER
FEWEST = "some 30 patients are needed"


def detector_samples(kind: str, value: str, labels: Path | None) -> list[Sample]:
    """Samples of one source, summed up in one printed line.

    Args:
        kind, value: of `--data KIND=VALUE`, one of modic.train.data.KINDS.
        labels: the table of `--labels`.

    Raises:
        UsageError: the source or the table cannot be used.
    """
    tally, place = Tally(kind), Path(value)
    if kind == "coco":
        samples = coco_samples(place, tally)
    elif kind == "spider-release":
        samples = release_samples(place, tally)
    else:
        table = _labels(kind, labels)
        studies = STUDIES[kind](place, table.boxed(tally), table.path, tally)
        samples = [sample for study in studies for sample in study_samples(study, tally)]
    tally.finish(samples, f"{len(samples)} slices of {len({s.patient for s in samples})} patients")
    _warn_tight(kind, samples)
    return samples


def classifier_discs(
    kind: str,
    value: str,
    labels: Path | None,
    preprocessing: dict[str, Any],
    *,
    detector: str,
    device: str,
    segmenter: str = "",
) -> list[Disc]:
    """Discs of one source, summed up in one printed line.

    Args:
        kind, value: of `--data KIND=VALUE`, one of modic.train.data.KINDS.
        labels: the table of `--labels`.
        preprocessing: of the classifier.
        detector: weights that box the discs of studies without boxes; empty for the shipped ones.
        segmenter: weights that find the endplates, beside which the marrow is measured; empty: it is not. Discs of
            `spider-release` are never measured.

    Raises:
        UsageError: the source or the table cannot be used.
    """
    tally, place = Tally(kind), Path(value)
    if kind == "coco":
        raise UsageError("--data coco holds boxes but no Modic types: it is for the detector")
    if kind == "spider-release":
        discs = release_discs(place, preprocessing, tally)
    else:
        table, boxer = _labels(kind, labels), Boxer(detector or "detector", device, segmenter)
        studies = STUDIES[kind](place, table.graded(tally), table.path, tally)
        discs = [disc for study in studies for disc in study_discs(study, preprocessing, boxer, tally, source=kind)]
    counts = Counter(disc.label for disc in discs)
    types = ", ".join(f"{name} {counts[k]}" for k, name in enumerate(GRADES))
    tally.finish(discs, f"{len(discs)} discs of {len({d.patient for d in discs})} patients ({types})")
    return discs


def _labels(kind: str, path: Path | None) -> Labels:
    if path is None:
        raise UsageError(f"--data {kind}=… needs --labels FILE.csv with patient_id, level and mc")
    return read_labels(path)


def check_labels_used(sources: tuple[str, ...], labels: Path | None) -> None:
    """Raise UsageError if --labels is given and no source reads it."""
    if labels is not None and not any(source.split("=")[0] in STUDIES for source in sources):
        raise UsageError(f"--labels is read only with --data {'=…, '.join(STUDIES)}=…")


def check_samples(samples: list[Sample]) -> None:
    """Raise UsageError if a part of the split has no patient; print which levels have no box."""
    _check_parts({s.patient for s in samples}, split_of, ("train", "validation", "test"))
    named = {int(name) for sample in samples for name in sample.names}
    if missing := [level for index, level in enumerate(LEVELS) if index not in named]:
        print(
            f"note: no box of {', '.join(missing)}: the detector will not learn to find what it never sees", flush=True
        )


def check_discs(discs: list[Disc]) -> None:
    """Raise UsageError if a part of the split has no patient, or type 0 or 2 no disc; print if no type 1 is real."""
    _check_parts({d.patient for d in discs}, part_of, ("train", "stop", "calibrate", "test"))
    counts = Counter(disc.label for disc in discs)
    for label in (0, 2):
        if not counts[label]:
            raise UsageError(f"no disc of Modic type {label} in the data; label some, or add phantom=N")
    if not any(disc.real and disc.label == 1 for disc in discs):
        print("note: no patient's disc of Modic type 1: it is learnt from painted or synthetic lesions", flush=True)


def _check_parts(patients: set[str], part: Callable[[str], str], wanted: tuple[str, ...]) -> None:
    held = Counter(part(patient) for patient in patients)
    if empty := [name for name in wanted if not held[name]]:
        n = counted(len(patients), "patient")
        raise UsageError(f"of {n} none falls into the part {empty[0]} (split by patient); {FEWEST}, or add phantom=N")


def _warn_tight(kind: str, samples: list[Sample]) -> None:
    """Print a note if boxes seem to have no margin around the disc."""
    shapes = [(b[:, 3] - b[:, 1]) / (b[:, 2] - b[:, 0]) for b in (sample.boxes for sample in samples)]
    if (ratio := float(np.median(np.concatenate(shapes)))) < TIGHT:
        print(
            f"note: {kind}: boxes are {ratio:.2f} as high as wide; this project's hold the disc and about 5 mm around "
            "it. Weights trained on tight boxes need a classifier trained with the same",
            flush=True,
        )
