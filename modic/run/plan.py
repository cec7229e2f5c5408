"""What the ledger does not hold yet, cut into shards."""

import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa

from modic.run import ledger, shards
from modic.run.cause import Cause, causes, sentence, version_of
from modic.run.configuration import changed_since
from modic.run.estimate import estimate
from modic.run.prepare import Run, discreet
from modic.run.regrade import count_without_images, regrade
from modic.run.shards import Due, Shard
from modic.run.survey import Survey
from modic.run.unchanged import last_fingerprints
from modic.tables.store import read_table
from modic.text import counted

LOG = logging.getLogger(__name__)

SHARDS_PER_WORKER = 4
"""At least so many, so that all workers end at about the same time and progress moves."""


WITHOUT_IMAGES = {str(Cause.MODELS), str(Cause.OPTIONS)}  # that may be graded again from kept features


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to grade."""

    work: list[Due]  # the studies; empty once they are cut into shards
    causes: dict[str, int]  # modic.run.cause.Cause → number of studies
    line: str  # the same in words, for a log
    estimate: str  # how long that takes and what the disk needs, in words; empty if there is nothing to grade
    shards: list[Shard]  # the work, cut; empty until the run begins

    def __str__(self) -> str:
        return f"{self.line}; {self.estimate}" if self.estimate else self.line


@discreet
def plan_studies(run: Run, survey: Survey) -> Plan:
    """What a run would have to grade, and why; writes nothing."""
    plan = _plan(run, survey)
    if not plan.causes.keys() & WITHOUT_IMAGES:
        return plan
    return _from_features(run, plan, count_without_images(run, plan.work, ledger.read_ledger(run.cohort)))


def _from_features(run: Run, plan: Plan, n: int) -> Plan:
    """The plan, which says that `n` of its studies need no image."""
    if not n:
        return plan
    line = f"{plan.line}; {n} of them from kept features, without their images"
    left = len(plan.work) - n
    return replace(plan, line=line, estimate=estimate(run.cohort, left, pictures=run.config.run.pictures))


def _plan(run: Run, survey: Survey, *, set_aside: bool = False) -> Plan:
    """As `plan_studies`. `set_aside`: damaged shards are renamed (modic.run.ledger.read_keys)."""
    rows = ledger.about(ledger.read_keys(run.cohort, set_aside=set_aside), survey.studies)
    done, due = ledger.finished(rows), survey.due
    work = [item for item in due if done.isdisjoint(item.known_as)]
    waiting = 0
    if run.selection.limit and len(work) > run.selection.limit:
        work.sort(key=lambda item: item.study_key)  # a hash, so the first ones are a random sample
        waiting = len(work) - run.selection.limit
        del work[run.selection.limit :]
    work = _with_causes(run, work, rows)
    counts = Counter(Cause(item.cause) for item in work)
    keys = {item.study_key for item in work}
    line = sentence(counts, _oldest_version(rows, keys), _changed_options(run, work, rows))
    line += f"; {waiting} more wait (--limit)" if waiting else ""
    if back := _back_to_earlier(run, due, keys):
        line += f"; {counted(back, 'study')} {'goes' if back == 1 else 'go'} back to grades of an earlier run, with the"
        line += " same options"
    LOG.info("%s; graded before: %d", line, survey.n_pairs - len(work) - waiting)
    causes = {str(cause): n for cause, n in counts.items()}
    return Plan(work, causes, line, estimate(run.cohort, len(work), pictures=run.config.run.pictures), [])


@discreet
def cut_shards(run: Run, survey: Survey, *, workers: int) -> Plan:
    """Write the inputs of the shards that this run has to grade; there are none if everything has its grades."""
    run.cohort.confirm(run.run_id)
    run.cohort.remove_left_overs()
    plan = _plan(run, survey, set_aside=True)
    written, work = 0, plan.work
    if plan.causes.keys() & WITHOUT_IMAGES:
        written, work = regrade(run, work, ledger.read_ledger(run.cohort))
        plan = _from_features(run, plan, len(plan.work) - len(work))
    plan = replace(plan, work=[], shards=_write(run, survey, work, workers, first=written))
    if plan.shards or written:
        shards.note_plan(run.cohort, run.run_id, plan.line)
    return plan


def _back_to_earlier(run: Run, due: Iterable[Due], new: set[str]) -> int:
    """How many studies were published last under other options, and are finished under these. `new`: to be graded."""
    published = last_fingerprints(run.cohort)
    known = (item for item in due if item.study_key not in new and published.get(item.study_key))
    return sum((item.study_key, published[item.study_key]) not in item.known_as for item in known)


def _changed_options(run: Run, work: list[Due], rows: pa.Table) -> list[str]:
    """Names of the options that differ from those of the runs that graded these studies before, as far as known."""
    keys = {item.study_key for item in work if item.cause == Cause.OPTIONS}
    last = {row["study_key"]: row["run_id"] for row in rows.select(["study_key", "run_id"]).to_pylist()}
    changed = [changed_since(run.cohort, run_id, run.config) for run_id in {last[key] for key in keys}]
    return sorted(set().union(*(names or () for names in changed)))


def _with_causes(run: Run, work: list[Due], rows: pa.Table) -> list[Due]:
    runs = read_table(run.cohort.root, "runs").select(["run_id", "configuration_hash"]).to_pylist()
    configurations = {row["run_id"]: row["configuration_hash"] for row in runs}
    return [
        replace(item, cause=str(cause))
        for item, cause in zip(work, causes(run, work, rows, configurations), strict=True)
    ]


def _oldest_version(rows: pa.Table, study_keys: set[str]) -> int:
    """The smallest grading version of the last rows of these studies; 1 if there are none."""
    last = {row["study_key"]: row for row in rows.select(["study_key", "grading_version"]).to_pylist()}
    return min((version_of(row) for key, row in last.items() if key in study_keys), default=1)


def _write(run: Run, survey: Survey, work: list[Due], workers: int, *, first: int = 0) -> list[Shard]:
    size = min(run.config.run.shard_size, math.ceil(len(work) / (SHARDS_PER_WORKER * workers)) or 1)
    sizes = [min(size, len(work) - start) for start in range(0, len(work), size)]
    studies = survey.work(work)
    return [
        shards.write_input(run.job, Shard(f"{index:05d}", size), islice(studies, size), run.config)
        for index, size in enumerate(sizes, first)
    ]
