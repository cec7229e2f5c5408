"""Finds the studies of an archive that can be graded: crawl, identify, pair."""

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from modic.archive.crawl import crawl
from modic.deidentify.pseudonyms import Pseudonyms
from modic.models.card import contrasts, read_card
from modic.records import Excluded, Pair, Series
from modic.resources import cores
from modic.run.prepare import Run, discreet
from modic.run.shards import Work
from modic.run.unclear_contrast import find_unclear_contrasts
from modic.series.identify import identify, with_unreadable_files
from modic.series.pair import pair
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

    @property
    def pairs(self) -> list[Pair]:
        """The studies that can be graded."""
        return [item.pair for item in self.work]


@discreet
def find_studies(run: Run, *, on_progress: Callable[[int], None] | None = None) -> Survey:
    """crawl → identify → pair. `on_progress` is called with the number of files seen.

    Raises UsageError if the archive holds no DICOM file.
    """
    restore_current(run.cohort.root)
    began = time.monotonic()
    # the workers that will grade have nothing to do yet
    crawled = crawl(run.archive, index=run.cohort.header_index, on_progress=on_progress, processes=cores())
    LOG.info("files: %s", json.dumps(crawled.counts))
    wanted = _contrasts(run)
    series = identify(crawled.headers, contrasts=wanted, options=run.config.identify)
    series = with_unreadable_files(_with_unclear_contrasts(run, series, wanted), crawled.rejected)
    outcomes = pair(series, contrasts=wanted, options=run.config.pair)
    keys = Pseudonyms.open(run.cohort.private)
    work = [_work(run, outcome, keys) for outcome in outcomes if isinstance(outcome, Pair)]
    LOG.info("%d studies found, %d of them with a pair to grade", len(outcomes), len(work))
    return Survey(crawled.counts, series, outcomes, keys, work, time.monotonic() - began)


def _contrasts(run: Run) -> tuple[str, ...]:
    """T1 and T2, and what else the classifier's card asks for."""
    card, _ = read_card(run.config.classifier, "classifier")
    return tuple(dict.fromkeys(("t1", "t2", *contrasts(card))))


def _with_unclear_contrasts(run: Run, series: list[Series], wanted: tuple[str, ...]) -> list[Series]:
    memory = run.cohort.private / "looked_at.json"
    return find_unclear_contrasts(
        series, memory=memory, config=run.config, device=run.device, detector_id=run.detector_id, contrasts=wanted
    )


def _work(run: Run, pair: Pair, keys: Pseudonyms) -> Work:
    with_others = _fingerprint(run, pair.choices, keys) if pair.others else ""
    return Work(keys.study(pair.study_uid), _fingerprint(run, [pair], keys), pair, with_others)


def _fingerprint(run: Run, pairs: Iterable[Pair], keys: Pseudonyms) -> str:
    both = [series for pair in pairs for series in pair.contrasts.values()]
    return keys.fingerprint(run.models, run.config.grading_hash(), *(series.image_state for series in both))
