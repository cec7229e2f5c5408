"""`archive=DIR`: labelled studies of a DICOM archive; crawl, identify, pair and load are the same as in grading."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from modic.archive.crawl import crawl
from modic.config import IdentifyOptions, PairOptions
from modic.errors import Reason, Rejected, UsageError
from modic.imaging.load import load_volume
from modic.imaging.volume import CanonicalVolume
from modic.labels.table import Label, refuse_twice
from modic.labels.tally import Tally
from modic.records import Excluded, Pair
from modic.series.identify import identify
from modic.series.pair import pair
from modic.train.data.discs import scanner_name
from modic.train.data.studies import Study, refused, study_of

Outcome = Pair | Excluded
"""The result of pairing for one study."""


def archive_studies(folder: Path, labels: list[Label], path: Path, tally: Tally) -> Iterator[Study]:
    """The labelled studies that have a pair whose images load; the others are counted with the reason of modic.errors.

    Args:
        labels: of the table `path`.
        tally: counts what is left out.

    Raises:
        UsageError: the folder holds no DICOM, or a label fits several studies.
    """
    series = identify(crawl(folder, index=None).headers, options=IdentifyOptions())
    outcomes = {outcome.study_uid: outcome for outcome in pair(series, options=PairOptions())}
    of_study = _match(list(outcomes.values()), labels, path, tally)
    for uid, outcome in outcomes.items():
        if uid not in of_study:
            if isinstance(outcome, Pair):
                tally.skip("studies without labels")
            continue
        rows = of_study[uid]
        volumes = outcome.rejected if isinstance(outcome, Excluded) else _load(outcome)
        if isinstance(volumes, Rejected):
            tally.skip(f"labels of studies refused, {refused(volumes)}", *(row.where for row in rows))
        else:
            yield study_of(outcome.patient_id, *volumes, rows, _scanner(outcome))


def _scanner(outcome: Outcome) -> str:
    if isinstance(outcome, Excluded):
        return ""
    return scanner_name(outcome.t2.header.get("Manufacturer"), outcome.t2.header.get("MagneticFieldStrength"))


def _load(one: Pair) -> tuple[CanonicalVolume, CanonicalVolume] | Rejected:
    t1 = load_volume(one.t1, options=IdentifyOptions())
    if isinstance(t1, Rejected):
        return t1
    t2 = load_volume(one.t2, options=IdentifyOptions())
    return t2 if isinstance(t2, Rejected) else (t1, t2)


def _match(outcomes: list[Outcome], labels: list[Label], path: Path, tally: Tally) -> dict[str, list[Label]]:
    """StudyInstanceUID → its labels."""
    by_study = {outcome.study_uid: outcome for outcome in outcomes}
    by_patient: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_patient[outcome.patient_id.strip()].append(outcome)
    of_study: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        if label.study:
            study = _checked(by_study.get(label.study), label, path)
        else:
            study = _only(by_patient[label.patient], label, path)
        if study is None:
            tally.skip("labels without images in the archive; check the spelling, leading zeros too", label.where)
        else:
            of_study[study.study_uid].append(label)
    for rows in of_study.values():
        refuse_twice(path, rows, lambda _: "")
    return of_study


def _checked(study: Outcome | None, label: Label, path: Path) -> Outcome | None:
    """The study of a label's study_uid. Raises UsageError if it is another patient's."""
    if study is not None and label.patient and label.patient != study.patient_id.strip():
        raise UsageError(f"{path} line {label.line}: the study of this study_uid is another patient's in the archive")
    return study


def _only(studies: list[Outcome], label: Label, path: Path) -> Outcome | None:
    """The patient's only study with a sagittal T1 or T2. Raises UsageError if there are several."""
    lumbar = [study for study in studies if not _elsewhere(study)] or studies
    if len(lumbar) > 1:
        n = f"{len(lumbar)} studies that may be meant"
        raise UsageError(f"{path} line {label.line}: the archive holds {n} of this patient; add the column study_uid")
    return lumbar[0] if lumbar else None


def _elsewhere(study: Outcome) -> bool:
    """Whether a study has neither a sagittal T1 nor a T2, and so probably shows another part of the body."""
    return isinstance(study, Excluded) and study.rejected.reason == Reason.STUDY_NO_SAGITTAL_T1_NOR_T2
