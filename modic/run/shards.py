"""Shards: the pieces that a run is cut into, and the files in which a worker finds its piece and says how far it is.

In `private/shards/<run_id>/`, because paths and UIDs identify patients:
    <shard>.json    the studies to grade and the options; only the shard's name is sent to the worker
    <shard>.shard   the record `Shard`, for `modic status`
    <shard>.at      the index of the study that the worker is at
    plan.txt        why there is something to grade, in words
The result is `runs/<run_id>/shards/<shard>.parquet` (modic/run/ledger.py).
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from modic.cohort import Cohort
from modic.config import Config
from modic.decode import decode_json
from modic.files import make_folder, write_json, write_whole
from modic.records import Pair


@dataclass(frozen=True, slots=True)
class Shard:
    """Studies that one worker grades one after the other, into one file.

    A shard whose worker died is replaced by parts of it (modic/run/isolate.py).
    """

    id: str  # unique in its run; the name of its files
    studies: int  # how many
    attempt: int = 1  # one more each time that a worker dies while it loads the models for these studies
    isolated: bool = False  # a single study, alone because a worker died while grading it
    cut_from: tuple[str, ...] = ()  # ids of the shards that it is a part of, the planned one first

    @property
    def planned(self) -> str:
        """Id of the shard that the run was cut into at first: this one, or the one that it is a part of."""
        return self.cut_from[0] if self.cut_from else self.id


@dataclass(frozen=True, slots=True)
class Grader:
    """What decides a grade besides the images."""

    version: int  # modic.versions.GRADING_VERSION
    configuration: str  # modic.config.Config.grading_hash
    models: str  # hash of everything in the cards of all networks that can change a grade
    id: str  # first 12 hex digits of a hash over these cards whole and the version; the column `grader_id`


@dataclass(frozen=True, slots=True)
class Job:
    """What all shards of a run share, small enough to send anywhere."""

    cohort: Cohort
    run_id: str
    device: str
    study_time_limit_s: float
    grader: Grader

    def input(self, shard: Shard) -> Path:
        """The file that tells a worker what to grade."""
        return self.cohort.shard_input(self.run_id, shard.id)

    def output(self, shard: Shard) -> Path:
        """The file that a worker writes when it has graded the whole shard."""
        return self.cohort.shard(self.run_id, shard.id)


@dataclass(frozen=True, slots=True)
class Due:
    """One study to grade, by name."""

    study_key: str
    fingerprint: str
    with_others: str = ""  # the fingerprint with the study's other pairs in it; empty if there are none
    cause: str = ""  # why it is graded (modic.run.cause.Cause)
    encoding: str = ""  # the fingerprint without calibration and [grading] (modic/run/regrade.py)
    encoding_with_others: str = ""

    @property
    def known_as(self) -> list[tuple[str, str]]:
        """Under what the ledger may hold its result: (study_key, fingerprint)."""
        return [(self.study_key, print_) for print_ in (self.fingerprint, self.with_others) if print_]


@dataclass(frozen=True, slots=True)
class Work(Due):
    """One study to grade, with its images."""

    pair: Pair = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class ShardInput:
    """What the file of a shard's input holds."""

    config: Config
    studies: tuple[Work, ...]


def write_input(job: Job, shard: Shard, work: Iterable[Work], config: Config) -> Shard:
    """Write what a worker needs to know of one shard; returns the shard."""
    path = job.input(shard)
    make_folder(path.parent)
    write_json(path, ShardInput(config, tuple(work)))
    return note_shard(job.cohort, job.run_id, shard)


def note_shard(cohort: Cohort, run_id: str, shard: Shard) -> Shard:
    """Note what a shard holds, for whoever counts (`progress`); returns it."""
    path = cohort.shard_input(run_id, shard.id)
    make_folder(path.parent)
    write_json(path.with_suffix(".shard"), shard)
    return shard


def read_input(job: Job, shard: Shard) -> tuple[list[Work], Config]:
    """What `write_input` wrote."""
    values = decode_json(ShardInput, job.input(shard).read_bytes(), f"shard {shard.id}")
    return list(values.studies), values.config


LOADING = -1
"""Position of a shard that a worker has taken up while it still loads the models."""


def note_position(job: Job, shard: Shard, index: int) -> None:
    """Note that the study at `index` is begun, or LOADING, for whoever watches the shard (`position`)."""
    path = job.input(shard).with_suffix(".at")
    path.touch(0o600)
    path.write_text(str(index))


def position(job: Job, shard: Shard) -> int | None:
    """Index of the study that a shard is at, or LOADING; None before a worker has taken it up.

    The index is also the number of studies that are done.
    """
    return _position(job.input(shard))


def _position(path: Path) -> int | None:
    try:
        return int(path.with_suffix(".at").read_text())
    except (FileNotFoundError, ValueError):  # not taken up, or just being written
        return None


def progress(cohort: Cohort, run_id: str) -> tuple[int, int]:
    """Studies that the run has to grade, and those that its unfinished shards have done so far."""
    paths = cohort.shard_inputs(run_id).glob("*.shard")
    shards = [decode_json(Shard, path.read_bytes(), path.name) for path in paths]
    replaced = {shard.cut_from[-1] for shard in shards if shard.cut_from}
    going = [one for one in shards if one.id not in replaced and not cohort.shard(run_id, one.id).exists()]
    planned = sum(shard.studies for shard in shards if not shard.cut_from)
    return planned, sum(max(_position(cohort.shard_input(run_id, one.id)) or 0, 0) for one in going)


def note_plan(cohort: Cohort, run_id: str, text: str) -> None:
    """Keep why this run grades what it grades; called when its shards are written."""
    make_folder(cohort.shard_inputs(run_id))
    write_whole(_plan(cohort, run_id), text)


def read_plan(cohort: Cohort, run_id: str) -> str:
    """What `note_plan` wrote; empty if the run has nothing to grade."""
    with suppress(FileNotFoundError):
        return _plan(cohort, run_id).read_text(encoding="utf-8")
    return ""


def _plan(cohort: Cohort, run_id: str) -> Path:
    return cohort.shard_inputs(run_id) / "plan.txt"
