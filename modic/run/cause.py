"""Why a run grades a study: decided from the last row that the ledger holds of it.

| the ledger's rows of the study                          | cause             |
|---------------------------------------------------------|-------------------|
| none                                                    | new               |
| one of the same fingerprint, a failure to be tried again | failed before    |
| the last is of another grading version                  | grading version   |
| the last is of other models                             | other models      |
| the last is of other options                            | other options     |
| the last differs in none of these                       | images changed    |
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any

import pyarrow as pa

from modic.run.prepare import Run
from modic.run.shards import Due
from modic.text import counted
from modic.versions import changes_since

COLUMNS = ("study_key", "fingerprint", "grading_version", "models_hash", "configuration_hash", "detector_id",
           "classifier_id", "run_id")  # fmt: skip


class Cause(StrEnum):
    """Closed list."""

    NEW = "new"
    FAILED = "failed before"
    VERSION = "grading version"
    MODELS = "other models"
    OPTIONS = "other options"
    IMAGES = "images changed"


def causes(run: Run, work: Iterable[Due], ledger: pa.Table, configurations: Mapping[str, str]) -> list[Cause]:
    """The cause of each study of `work`, which all are to be graded.

    Args:
        run: its models, options and grading version.
        work: the studies.
        ledger: what modic.run.ledger.read_keys returns.
        configurations: run id → hash of its options, for rows from before the ledger held it.
    """
    rows = ledger.select(COLUMNS).to_pylist()
    last = {row["study_key"]: row for row in rows}
    known = {(row["study_key"], row["fingerprint"]) for row in rows}
    return [
        Cause.FAILED if not known.isdisjoint(one.known_as) else _cause(run, last.get(one.study_key), configurations)
        for one in work
    ]


def _cause(run: Run, last: dict[str, Any] | None, configurations: Mapping[str, str]) -> Cause:
    if last is None:
        return Cause.NEW
    configuration = last["configuration_hash"] or configurations.get(last["run_id"])
    changed = {
        Cause.VERSION: version_of(last) != run.grader.version,
        Cause.MODELS: _other_models(run, last),
        Cause.OPTIONS: configuration not in (None, run.grader.configuration),
    }
    return next((cause for cause, true in changed.items() if true), Cause.IMAGES)


def _other_models(run: Run, last: dict[str, Any]) -> bool:
    """Rows from before the ledger held the models' hash say at least which weights they are of."""
    if last["models_hash"] is not None:
        return bool(last["models_hash"] != run.grader.models)
    ids = ((last["detector_id"], run.detector_id), (last["classifier_id"], run.classifier_id))
    return any(was not in (None, now) for was, now in ids)


def version_of(row: Mapping[str, Any]) -> int:
    """The grading version of a row of the ledger or of a table: 1 if it is from before rows held it."""
    return row["grading_version"] or 1


def sentence(counts: Counter[Cause], oldest: int, options: Collection[str] = ()) -> str:
    """`5 studies to grade: 2 new; 3 studies are graded again: their images changed`.

    `oldest`: smallest version of the rows that are replaced; `options`: those that changed, as far as they are known.
    """
    why = {
        Cause.VERSION: changes_since(oldest),
        Cause.MODELS: "other models",
        Cause.OPTIONS: f"{', '.join(options)} changed" if options else "other options in cohort.toml",
        Cause.IMAGES: "their images changed",
    }
    parts = [f"{counts[cause]} {cause}" for cause in (Cause.NEW, Cause.FAILED) if counts[cause]]
    parts += [graded_again(counts[cause], text) for cause, text in why.items() if counts[cause]]
    return f"{counted(counts.total(), 'study')} to grade" + (f": {'; '.join(parts)}" if parts else "")


def graded_again(n: int, why: str) -> str:
    """`3 studies are graded again: grading version 2 (…)`."""
    return f"{counted(n, 'study')} {'is' if n == 1 else 'are'} graded again: {why}"
