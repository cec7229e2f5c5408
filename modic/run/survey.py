"""Finds the studies of an archive that can be graded: crawl, identify, pair."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modic.archive.crawl import crawl
from modic.archive.sources import cache_of, source_of
from modic.deidentify.pseudonyms import Pseudonyms
from modic.errors import CURES, Reason, UsageError
from modic.models.card import contrasts, read_card
from modic.records import Excluded, Pair, Series
from modic.resources import cores
from modic.run import ledger
from modic.run.found import FOUND, Found, Packed, due_in, found_in, found_row, work_of
from modic.run.prepare import Run, discreet
from modic.run.shards import Due, Work
from modic.run.unchanged import STATE, Parted, part
from modic.run.unclear_contrast import PixelReader, find_unclear_contrasts
from modic.series.company import with_unreadable_files
from modic.series.identify import identify
from modic.series.pair import STIR, pair
from modic.tables.published import restore_current

LOG = logging.getLogger(__name__)
AT_ONCE = 1000  # studies that are unpacked


@dataclass(frozen=True, eq=False)
class Survey:
    """The archive as this run finds it. It holds what identifies patients, so it stays in this process."""

    files: dict[str, Any]  # modic.archive.crawl.Crawl.counts
    studies: pa.Table  # of modic.run.found.FOUND, sorted by UID
    packed: Packed
    keys: Pseudonyms
    seconds: float  # that it took
    ended: float = field(default_factory=time.monotonic)
    left_out: frozenset[str] = frozenset()  # keys of studies of the archive that the run is not asked for
    not_found: str = ""  # which of the studies that the run is asked for are not in the archive, in words
    parted: Parted | None = None  # what is as the last run found it, which is in none of the lists above

    @property
    def unread(self) -> str:
        """How many packed files were not read and what to do about them; empty if all were."""
        counts = {reason: n for reason, n in self.files["rejected"].items() if reason in CURES}
        return "; ".join(
            f"{n} packed files not read, {reason}: {CURES[Reason(reason)]}" for reason, n in counts.items()
        )

    @property
    def due(self) -> list[Due]:
        """The studies that can be graded."""
        return due_in(self.studies)

    @property
    def pairs(self) -> list[Pair]:
        """Their series."""
        return [study.pair for part in self.parts() for study in part if study.due]

    def parts(self) -> Iterator[list[Found]]:
        """The studies, some at a time, since their series take much memory once they are unpacked."""
        for start in range(0, len(self.studies), AT_ONCE):
            yield found_in(self.studies.slice(start, AT_ONCE), self.packed)

    def work(self, due: Sequence[Due]) -> Iterator[Work]:
        """What a worker needs to know of studies that are due, in turn."""
        for start in range(0, len(due), AT_ONCE):
            part = due[start : start + AT_ONCE]
            at = pc.index_in(pa.array([one.study_key for one in part]), self.studies["study_key"])
            yield from map(work_of, part, found_in(self.studies.take(at), self.packed))

    @property
    def as_before(self) -> pa.Table:
        """Studies whose rows stay as the last run published them (modic.run.unchanged.STATE)."""
        return self.parted.as_before if self.parted else STATE.empty_table()

    @property
    def n_studies(self) -> int:
        """Studies of the archive that the run is asked for."""
        return len(self.studies) + len(self.as_before)

    @property
    def n_pairs(self) -> int:
        """Those of them that can be graded."""
        return sum(len(table) - table["fingerprint"].null_count for table in (self.studies, self.as_before))

    @property
    def keys_here(self) -> pa.Array:
        """Keys of all studies of the archive, those that the run is not asked for among them."""
        keys = [key for table in (self.studies, self.as_before) for key in table["study_key"].to_pylist()]
        return pa.array([*keys, *self.left_out], pa.string())

    def without(self, studies: Collection[str]) -> "Survey":
        """This survey with some studies, by key, left out."""
        if not studies:
            return self
        out = pc.is_in(self.studies["study_key"], pa.array(sorted(studies), pa.string()))
        return replace(self, studies=self.studies.filter(pc.invert(out)), left_out=self.left_out | frozenset(studies))


def files_in_words(counts: dict[str, Any]) -> str:
    """What became of the files of an archive; `counts`: those of modic.archive.crawl.Crawl."""
    rejected, gone = counts["rejected"], counts["files_gone"]
    reasons = ", ".join(f"{reason} {n}" for reason, n in rejected.items())
    return (
        f"files: {counts['files_seen']} seen: {counts['files_read']} read, {counts['files_unchanged']} unchanged,"
        f" {sum(rejected.values())} rejected"
        + (f" ({reasons})" if rejected else "")
        + (f"; {gone} that were here before are gone" if gone else "")
    )


@discreet
def find_studies(run: Run, *, on_progress: Callable[[int], None] | None = None) -> Survey:
    """crawl → identify → pair. `on_progress` is called with the number of files seen.

    Raises UsageError if the archive holds no DICOM file.
    """
    restore_current(run.cohort.root)
    began = time.monotonic()
    # the workers that will grade have nothing to do yet
    source = source_of(run.archive, cache_of(run.config.archive))
    crawled = crawl(source, index=run.cohort.header_index, on_progress=on_progress, processes=cores())
    LOG.info("%s", files_in_words(crawled.counts))
    wanted, keys = _contrasts(run), Pseudonyms.open(run.cohort.private)
    parted = part(run, crawled, keys, wanted, ledger.finished(ledger.read_keys(run.cohort)))
    counts, rejected = crawled.counts, crawled.rejected
    del crawled  # what is as before is needed no more
    tables = [FOUND.empty_table()]
    reader, packed = PixelReader(run.config, run.device), Packed(run.cohort.private)
    try:
        for headers in parted.headers:
            tables.append(_identified(run, headers, rejected, keys, wanted, reader, packed))
    finally:
        reader.stop()
    studies = pa.concat_tables(tables).sort_by("study_uid")
    survey = Survey(counts, studies, packed, keys, time.monotonic() - began, parted=parted)
    LOG.info(
        "%d studies found, %d of them with a pair to grade; %d are as the last run found them",
        survey.n_studies, survey.n_pairs, len(survey.as_before),
    )  # fmt: skip
    return survey if run.selection.is_everything else _selected(run, survey)


def _identified(
    run: Run,
    headers: pa.Table,
    rejected: pa.Table,
    keys: Pseudonyms,
    wanted: tuple[str, ...],
    reader: PixelReader,
    packed: Packed,
) -> pa.Table:
    """The studies of some header rows (FOUND)."""
    accepted = tuple(dict.fromkeys(("t1", "t2", *wanted, STIR)))
    series = identify(headers, contrasts=accepted, options=run.config.identify)
    series = with_unreadable_files(_with_unclear_contrasts(run, series, accepted, reader), rejected)
    of: dict[str, list[Series]] = defaultdict(list)
    for stack in series:
        of[stack.study_uid].append(stack)
    rows = []
    for outcome in pair(series, contrasts=wanted, options=run.config.pair):
        due, key = _due(run, outcome, keys), keys.study(outcome.study_uid)
        rows.append(found_row(outcome, of[outcome.study_uid], key, due, packed))
    return pa.Table.from_pylist(rows, FOUND)


def _selected(run: Run, survey: Survey) -> Survey:
    """The survey with what the run is asked for alone. Raises UsageError if the archive holds nothing of that."""
    asked = run.selection
    left_out, seen = set(), set()
    for study in chain.from_iterable(survey.parts()):
        names = {study.study_uid, study.patient_id, study.study_key, survey.keys.patient(study.patient_id)}
        seen |= names
        if not asked.holds(names, study.day):
            left_out.add(study.study_key)
    missing = asked.not_found(seen)
    if len(left_out) == len(survey.studies):
        raise UsageError(f"no study of {run.archive} is asked for: {missing or asked}")
    return replace(survey.without(left_out), not_found=missing)


def _contrasts(run: Run) -> tuple[str, ...]:
    """What the classifier's card asks for."""
    card, _ = read_card(run.config.classifier, "classifier")
    return contrasts(card)


def _with_unclear_contrasts(
    run: Run, series: list[Series], wanted: tuple[str, ...], reader: PixelReader
) -> list[Series]:
    return find_unclear_contrasts(
        series,
        memory=run.cohort.private / "looked_at.json",
        config=run.config,
        device=run.device,
        detector_id=run.detector_id,
        contrasts=wanted,
        reader=reader,
    )


def _due(run: Run, outcome: Pair | Excluded, keys: Pseudonyms) -> Due | None:
    if isinstance(outcome, Excluded):
        return None
    graded, encoded = (run.models, run.config.grading_hash()), (run.encoder, run.config.encoding_hash())
    others = outcome.choices if outcome.others else ()
    return Due(
        keys.study(outcome.study_uid), _fingerprint(graded, [outcome], keys), _fingerprint(graded, others, keys),
        encoding=_fingerprint(encoded, [outcome], keys), encoding_with_others=_fingerprint(encoded, others, keys),
    )  # fmt: skip


def _fingerprint(by: tuple[str, str], pairs: Iterable[Pair], keys: Pseudonyms) -> str:
    """Of networks and options `by`, and of the images of pairs; empty without pairs."""
    used = [series for pair in pairs for series in pair.series]
    return keys.fingerprint(*by, *(series.image_state for series in used)) if used else ""
