"""Shards: what a worker is told, what it hands back, and the ledger that all finished shards make together.

A shard's input (`private/shards/<run_id>/<shard_id>.json`) holds paths and UIDs; only its name goes to the worker. Its
output (`runs/<run_id>/shards/<shard_id>.parquet`) holds keys and grades, one row a study with its levels inside, and
appears whole, once. The outputs are the ledger: nothing else remembers what has been graded.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from modic.cohort import Cohort
from modic.config import Config, config_from
from modic.errors import Reason, Rejected
from modic.files import write_json
from modic.records import ImageReference, Pair, Series, SeriesWarning, WarningKind

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """One piece of work: its name within a run, and how many studies it holds."""

    id: str
    studies: int


@dataclass(frozen=True, slots=True)
class Job:
    """What all shards of a run share, small enough to send anywhere."""

    cohort: Cohort
    run_id: str
    device: str
    study_time_limit_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """One study to grade."""

    study_key: str
    fingerprint: str
    pair: Pair
    with_others: str = ""  # the fingerprint with the study's other pairs in it; empty where there are none

    @property
    def known_as(self) -> list[tuple[str, str]]:
        """Under what the ledger may hold its result: (study_key, fingerprint)."""
        return [(self.study_key, print_) for print_ in (self.fingerprint, self.with_others) if print_]


def write_input(cohort: Cohort, run_id: str, shard_id: str, work: Iterable[Work], config: Config) -> Shard:
    """Tell a worker what to do; returns the shard."""
    path = cohort.shard_input(run_id, shard_id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    studies = [asdict(one) for one in work]
    write_json(path, {"config": asdict(config), "studies": studies})
    return Shard(shard_id, len(studies))


def read_input(cohort: Cohort, run_id: str, shard_id: str) -> tuple[list[Work], Config]:
    """What `write_input` wrote."""
    values = json.loads(cohort.shard_input(run_id, shard_id).read_text(encoding="utf-8"))
    work = [Work(**{**one, "pair": _pair(one["pair"])}) for one in values["studies"]]
    return work, config_from(values["config"], "shard")


def _pair(values: dict[str, Any]) -> Pair:
    contrasts = {name: _series(series) for name, series in values["contrasts"].items()}
    others = tuple(map(_pair, values["others"]))
    return Pair(**{**values, "contrasts": contrasts, "warnings": tuple(values["warnings"]), "others": others})


def _series(values: dict[str, Any]) -> Series:
    """JSON knows no tuples: every list outside the header was one."""
    refused = values["rejected"]
    records = {
        "rejected": Rejected(Reason(refused["reason"]), refused["detail"]) if refused else None,
        "images": tuple(ImageReference(**image) for image in values["images"]),
        "duplicates": tuple((index, ImageReference(**image)) for index, image in values["duplicates"]),
        "warnings": tuple(SeriesWarning(WarningKind(one["kind"]), one["detail"]) for one in values["warnings"]),
    }
    return Series(**{k: v if k == "header" else _tuples(v) for k, v in values.items()} | records)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


LOADING = -1
"""Position of a shard that a worker has taken up and that still loads the models."""


def note_position(cohort: Cohort, run_id: str, shard_id: str, index: int) -> None:
    """Say that the study at `index` is begun, or LOADING; who watches the shard reads it (`position`)."""
    cohort.shard_input(run_id, shard_id).with_suffix(".at").write_text(str(index))


def position(cohort: Cohort, run_id: str, shard_id: str) -> int | None:
    """Index of the study a shard is at, which is also the number of those done, or LOADING; None before that."""
    try:
        return int(cohort.shard_input(run_id, shard_id).with_suffix(".at").read_text())
    except (FileNotFoundError, ValueError):  # not taken up, or just being written
        return None


def plan(cohort: Cohort, run_id: str) -> tuple[int, int]:
    """Studies that the run was cut into, and those that its unfinished shards have done so far.

    Counts the keys in the inputs instead of parsing them: there are some 15 kB a study, and in JSON no text can hold
    a bare quotation mark.
    """
    inputs = {path.stem: path for path in cohort.shard_input(run_id, "_").parent.glob("*.json")}
    planned = sum(path.read_bytes().count(b'"study_key"') for name, path in inputs.items() if name.isdigit())
    parts = {name[:-1] for name in inputs}  # cut up by `isolate`
    going = [name for name in inputs.keys() - parts if not cohort.shard(run_id, name).exists()]
    return planned, sum(max(position(cohort, run_id, name) or 0, 0) for name in going)
