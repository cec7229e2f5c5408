"""The steps of a night around the grading, in the order in which flows/nightly.py calls them.

    prepare        check everything the user gave, before anything costs time
    find_studies   crawl → identify (→ look, where no header tells the contrast) → pair
    cut_shards     what the ledger does not hold yet, in shards
    publish        ledger + archive → the four tables, in one atomic step

A study is graded again only if its fingerprint is new: a keyed hash over both its series, or over those of all its
pairs where the first did not serve (UID, size and modification time of every image; not the folder, which may move),
both models and the options that can change a grade.
"""

import logging
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modic.files import write_table
from modic.records import Pair
from modic.run import ledger, rows
from modic.run.manifest import links, run_row, write_manifest
from modic.run.prepare import Run, discreet
from modic.run.survey import Survey
from modic.tables.schema import SCHEMAS
from modic.tables.store import publish as publish_tables
from modic.tables.store import read_table

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run ends with."""

    run_id: str
    row: dict[str, Any]  # of the table `runs`
    failed: list[str]  # study keys
    graded_now: int

    def line(self) -> str:
        """One line for a log."""
        counts = ", ".join(f"{self.row[f'studies_{status}']} {status}" for status in ("graded", "excluded", "failed"))
        return (
            f"run {self.run_id}: {self.row['studies_found']} studies: {counts}; {self.graded_now} worked on in this run"
        )

    def as_dict(self) -> dict[str, Any]:
        """For a caller that knows no classes of ours."""
        return {"run_id": self.run_id, "failed": self.failed, "graded_now": self.graded_now, "line": self.line()}


@discreet
def publish(run: Run, survey: Survey) -> Summary:
    """Build the four tables from the ledger and the archive and make them current in one atomic step."""
    finished = ledger.read_ledger(run.cohort)
    latest = ledger.latest(finished)
    found = [next(latest[name] for name in one.known_as if name in latest) for one in survey.work]
    graded = finished.take(pa.array(found, pa.int64()))
    old = {name: read_table(run.cohort.root, name) for name in SCHEMAS}
    tables = rows.with_gone(_tables(run, survey, graded, old), old)
    ours = graded.filter(pc.equal(graded["run_id"], run.run_id))
    seconds = {"find_studies": survey.seconds, "grade": time.monotonic() - survey.ended}
    row = run_row(run, survey, tables["studies"], sorted(set(ours["device"].drop_null().to_pylist())))
    tables["runs"] = pa.concat_tables([old["runs"], rows.table("runs", [row])])
    write_table(links(survey), run.cohort.private / "links.parquet")
    write_manifest(run, row, ours, seconds)
    publish_tables(run.cohort.root, tables, run.run_id)
    run.cohort.forget_shard_inputs()
    failed = tables["studies"].filter(pc.equal(tables["studies"]["status"], "failed"))["study_key"].to_pylist()
    return Summary(run.run_id, row, failed, len(ours))


def _tables(run: Run, survey: Survey, graded: pa.Table, old: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """studies, series and levels of what the archive holds now. `graded`: the ledger's row of every pair."""
    keys = survey.keys
    of_study = {one.study_uid: one for one in survey.series}
    found = [(one, one.t2 if isinstance(one, Pair) else of_study[one.study_uid]) for one in survey.outcomes]
    entries = {entry["study_key"]: entry for entry in graded.to_pylist()}
    studies = rows.table("studies", rows.study_rows(found, entries, keys, run.run_id))
    chosen = [rows.graded_pair(one.pair, entries[one.study_key]) for one in survey.work]
    used = {rows.series_key(one, keys) for pair in chosen for one in pair.contrasts.values()}
    series = rows.table("series", rows.series_rows(survey.series, used, keys, run.run_id))
    patients = dict(zip(studies["study_key"].to_pylist(), studies["patient_key"].to_pylist(), strict=True))
    return {
        "studies": rows.keep_run_ids("studies", studies, old["studies"]),
        "series": rows.keep_run_ids("series", series, old["series"]),
        "levels": rows.level_rows(graded, patients),
    }
