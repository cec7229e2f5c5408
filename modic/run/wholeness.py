"""Is the folder of a cohort whole? A part that is missing is never taken for one that is not there yet."""

import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.cohort import Cohort
from modic.deidentify.pseudonyms import KEY_FILE, Pseudonyms
from modic.errors import UsageError
from modic.tables.published import ANEW, current_tables
from modic.text import counted

NAMED = 3
"""Missing runs that a message names."""


def check_whole(cohort: Cohort) -> None:
    """Raise UsageError, with the cure, if a cohort lacks a part without which a run would lose or repeat something.

    | missing                                   | what a run would do without it                     |
    |-------------------------------------------|----------------------------------------------------|
    | tables (`current`, `.tables`)             | lose studies that left the archive, earlier runs   |
    | `private/pseudonym.key`, or it is another | give every patient a new key, and lose the old rows|
    | `runs/<run_id>` of published grades       | grade their studies again                          |
    """
    tables = current_tables(cohort.root)
    if tables is not None or cohort.finished_shards():
        _check_key(cohort)
    if tables is not None:
        levels = pq.read_table(tables / "levels.parquet", columns=["run_id"], partitioning=None)
        known = {run.name for run in cohort.runs()}
        missing = sorted(set(pc.unique(levels["run_id"]).to_pylist()) - known)
        if missing:
            some = ", ".join(missing[:NAMED]) + (" …" if len(missing) > NAMED else "")
            raise UsageError(
                f"{cohort.root / 'runs'} lacks {counted(len(missing), 'run')} whose grades the tables hold ({some});"
                " restore them from a backup. If they are gone for good, make an empty folder for each: then their"
                " studies are graded again"
            )


def _check_key(cohort: Cohort) -> None:
    path = cohort.private / KEY_FILE
    if not path.exists():
        raise UsageError(
            f"{path} is missing, and no other key gives this cohort's patients the same pseudonyms; restore it from a"
            " backup. If it is gone for good, begin a new cohort"
        )
    known = cohort.facts().get("key")
    if known and known != Pseudonyms.open(cohort.private).check:
        raise UsageError(f"{path} is the key of another cohort; restore this cohort's own from a backup")


def remember_publication(cohort: Cohort, run_id: str, keys: Pseudonyms) -> None:
    """Note that tables were published, and under which key, for `check_whole`."""
    cohort.note(published=run_id, key=keys.check)
    (cohort.private / ANEW).unlink(missing_ok=True)
