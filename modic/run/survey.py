"""Finds the studies of an archive that can be graded: crawl, identify, pair."""

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import pyarrow as pa

from modic.archive.crawl import HEADERS, crawl
from modic.archive.patient_identity import study_date
from modic.archive.sources import cache_of, source_of
from modic.deidentify.pseudonyms import Pseudonyms
from modic.errors import CURES, Reason, UsageError
from modic.models.card import contrasts, read_card
from modic.records import Excluded, Pair, Series
from modic.resources import cores
from modic.run import ledger
from modic.run.prepare import Run, discreet
from modic.run.shards import Work
from modic.run.unchanged import STATE, Parted, part
from modic.run.unclear_contrast import find_unclear_contrasts
from modic.series.identify import identify, with_unreadable_files
from modic.series.pair import STIR, pair
from modic.tables.published import restore_current

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Survey:
    """The archive as this run finds it. It holds what identifies patients, so it stays in this process."""

    files: dict[str, Any]  # modic.archive.crawl.Crawl.counts
    series: list[Series]
    outcomes: list[Pair | Excluded]  # one a study
    keys: Pseudonyms
    work: list[Work]  # one a study with a pair
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
    def pairs(self) -> list[Pair]:
        """The studies that can be graded."""
        return [item.pair for item in self.work]

    @property
    def as_before(self) -> pa.Table:
        """Studies whose rows stay as the last run published them (modic.run.unchanged.STATE)."""
        return self.parted.as_before if self.parted else STATE.empty_table()

    @property
    def n_studies(self) -> int:
        """Studies of the archive that the run is asked for."""
        return len(self.outcomes) + len(self.as_before)

    @property
    def n_pairs(self) -> int:
        """Those of them that can be graded."""
        return len(self.work) + len(self.as_before) - self.as_before["fingerprint"].null_count

    def without(self, studies: Collection[str]) -> "Survey":
        """This survey with some studies, by key, left out."""
        if not studies:
            return self
        gone = {outcome.study_uid for outcome in self.outcomes if self.keys.study(outcome.study_uid) in studies}
        return replace(
            self,
            series=[series for series in self.series if series.study_uid not in gone],
            outcomes=[outcome for outcome in self.outcomes if outcome.study_uid not in gone],
            work=[work for work in self.work if work.study_key not in studies],
            left_out=self.left_out | frozenset(studies),
        )


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
    finished = ledger.finished(ledger.read_keys(run.cohort))
    parted = part(run, crawled, keys, wanted, finished)
    counts, rejected = crawled.counts, crawled.rejected
    del crawled  # what is as before is needed no more
    accepted = tuple(dict.fromkeys(("t1", "t2", *wanted, STIR)))
    series = identify(parted.headers, contrasts=accepted, options=run.config.identify)
    parted = replace(parted, headers=HEADERS.empty_table())
    series = with_unreadable_files(_with_unclear_contrasts(run, series, accepted), rejected)
    outcomes = pair(series, contrasts=wanted, options=run.config.pair)
    work = [_work(run, outcome, keys) for outcome in outcomes if isinstance(outcome, Pair)]
    survey = Survey(counts, series, outcomes, keys, work, time.monotonic() - began, parted=parted)
    LOG.info(
        "%d studies found, %d of them with a pair to grade; %d are as the last run found them",
        survey.n_studies, survey.n_pairs, len(survey.as_before),
    )  # fmt: skip
    return survey if run.selection.is_everything else _selected(run, survey)


def _selected(run: Run, survey: Survey) -> Survey:
    """The survey with what the run is asked for alone. Raises UsageError if the archive holds nothing of that."""
    asked = run.selection
    days: dict[str, date] = {}
    for series in survey.series:
        if day := study_date(series.header):
            days[series.study_uid] = min(day, days.get(series.study_uid, day))
    left_out, seen = set(), set()
    for outcome in survey.outcomes:
        key, patient = survey.keys.study(outcome.study_uid), survey.keys.patient(outcome.patient_id)
        names = {outcome.study_uid, outcome.patient_id, key, patient}
        seen |= names
        if not asked.holds(names, days.get(outcome.study_uid)):
            left_out.add(key)
    missing = asked.not_found(seen)
    if len(left_out) == len(survey.outcomes):
        raise UsageError(f"no study of {run.archive} is asked for: {missing or asked}")
    return replace(survey.without(left_out), not_found=missing)


def _contrasts(run: Run) -> tuple[str, ...]:
    """What the classifier's card asks for."""
    card, _ = read_card(run.config.classifier, "classifier")
    return contrasts(card)


def _with_unclear_contrasts(run: Run, series: list[Series], wanted: tuple[str, ...]) -> list[Series]:
    memory = run.cohort.private / "looked_at.json"
    return find_unclear_contrasts(
        series, memory=memory, config=run.config, device=run.device, detector_id=run.detector_id, contrasts=wanted
    )


def _work(run: Run, pair: Pair, keys: Pseudonyms) -> Work:
    graded, encoded = (run.models, run.config.grading_hash()), (run.encoder, run.config.encoding_hash())
    others = pair.choices if pair.others else ()
    return Work(
        keys.study(pair.study_uid), _fingerprint(graded, [pair], keys), pair, _fingerprint(graded, others, keys),
        encoding=_fingerprint(encoded, [pair], keys), encoding_with_others=_fingerprint(encoded, others, keys),
    )  # fmt: skip


def _fingerprint(by: tuple[str, str], pairs: Iterable[Pair], keys: Pseudonyms) -> str:
    """Of networks and options `by`, and of the images of pairs; empty without pairs."""
    used = [series for pair in pairs for series in pair.series]
    return keys.fingerprint(*by, *(series.image_state for series in used)) if used else ""
