"""The last step of a run: the ledger and the archive → the four tables, which become current in one atomic step.

All steps of a run, in order; flows/nightly.py calls them as Prefect tasks, tests/support/plain_run.py without Prefect:

| step                  | module                   | what it does                                                  |
|-----------------------|--------------------------|---------------------------------------------------------------|
| prepare               | run/prepare.py           | check everything that the user gave, before it costs time     |
| find_studies          | run/survey.py            | what the archive holds: a list of T1 and T2 pairs             |
|   crawl               | archive/crawl.py         | every file accounted for, headers read                        |
|   part                | run/unchanged.py         | what is as the last run found it is left as it is             |
|   batches             | run/batches.py           | the headers of the rest, some studies at a time               |
|   identify            | series/identify.py       | headers → series with contrast, plane and geometry            |
|   unclear contrast    | run/unclear_contrast.py  | series whose header does not tell it: from their pixels       |
|   pair                | series/pair.py           | series → one pair a study, or the reason why there is none    |
|   found               | run/found.py             | all that is known of a study, packed                          |
| cut_shards            | run/plan.py              | what the ledger does not hold yet, in shards                  |
|   read_keys           | run/ledger.py            | all finished shards: what was graded, by what                 |
|   causes              | run/cause.py             | why each of these studies is graded                           |
|   regrade             | run/regrade.py           | of which only the card is new: graded without images          |
|   write_input         | run/shards.py            | the files that tell a worker what to grade                    |
| grade_shard           | run/worker.py            | in a Dask worker, once a shard                                |
|   grade_study         | pipeline.py              | one pair → six grades                                         |
|   write_output        | run/ledger.py            | the finished shard, an immutable file                         |
| isolate               | run/isolate.py           | if a worker died: set the study that it was at apart          |
| publish               | run/publish.py           | this module                                                   |
|   study_rows, …       | run/rows.py              | records → rows of the tables                                  |
|   links, with_days    | run/memory.py            | what the cohort remembers of studies that have left           |
|   run_row, …          | run/manifest.py          | what the run records about itself                             |
|   drifting            | run/drift.py             | with a site's own grader: do images change?                   |
|   publish             | tables/store.py          | checked, written and made current                             |
| write_report          | report/page.py           | the HTML report                                               |

`modic status` (run/status.py) reads from the files how far a run is and what it did.

A study is graded again only if its fingerprint is new: a keyed hash over both its series, or over those of all its
pairs if the first could not be graded (UID, size and modification time of every image; not the folder, which may
move), all networks, the options that can change a grade, and the grading version (modic/versions.py).
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modic.deidentify.pseudonyms import Pseudonyms
from modic.errors import Reason
from modic.records import Pair
from modic.run import ledger, rows
from modic.run.cause import Cause
from modic.run.configuration import remember_configuration
from modic.run.drift import drifting
from modic.run.found import Found
from modic.run.manifest import run_row, write_manifest
from modic.run.memory import archive_number, links, remember_links, study_dates, with_archive, with_days
from modic.run.prepare import Run, discreet
from modic.run.status import failure, latest_report, read_manifest
from modic.run.survey import Survey
from modic.run.unchanged import remember
from modic.run.wholeness import remember_publication
from modic.tables.features import remove_superseded
from modic.tables.store import Changed, enforce, read_rows, read_table
from modic.tables.store import publish as publish_tables
from modic.text import counted


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a run."""

    run_id: str
    row: dict[str, Any]  # of the table `runs`
    failed: list[str]  # key and reason of each failed study
    graded_now: int
    attention: str = ""  # what somebody should look at although nothing failed
    drift: str = ""  # what looks unlike that which the site's own grader was adapted to
    left_out: int = 0  # studies of the archive that the run was not asked for
    news: bool = True  # whether a report would show anything new

    def line(self) -> str:
        """One line for a log."""
        counts = ", ".join(f"{self.row[f'studies_{status}']} {status}" for status in ("graded", "excluded", "failed"))
        line = (
            f"run {self.run_id}: {counted(self.row['studies_found'], 'study')}: {counts};"
            f" {self.graded_now} worked on in this run"
        )
        line += f"; {self.left_out} of the archive not asked for" if self.left_out else ""
        return "; ".join(filter(None, (line, self.attention, self.drift)))

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for Prefect."""
        counts = {"failed": self.failed, "graded_now": self.graded_now, "attention": self.attention}
        return {"run_id": self.run_id, **counts, "line": self.line()}


@discreet
def publish(run: Run, survey: Survey) -> Summary:
    """Build the four tables from the ledger and the archive and make them current in one atomic step."""
    survey, graded = _with_grades(run, survey)
    old = {name: read_table(run.cohort.root, name) for name in ("studies", "runs")}
    archive = archive_number(run.cohort, run.archive)
    tables, changed, remembered, same = _next_tables(run, survey, graded, old, archive)
    graded = graded.drop_columns(["levels"])  # they are in the tables now
    ours = graded.filter(pc.equal(graded["run_id"], run.run_id))
    seconds = {"find_studies": survey.seconds, "grade": time.monotonic() - survey.ended}
    devices = sorted(set(ours["device"].drop_null().to_pylist()))
    row = run_row(run, survey, tables["studies"], devices) | {"archive": archive}
    tables["runs"] = pa.concat_tables([old["runs"], rows.table("runs", [row])])
    run.cohort.confirm(run.run_id)
    _remember_state(run, survey)
    if remembered is not None:
        remember_links(remembered, run.cohort.links)
    attention = "; ".join(troubles(run, survey, old, archive))
    drift = drifting(run, graded, tables["studies"])
    news = has_news(run, row, (attention, drift), same)
    write_manifest(run, row, ours, seconds, attention, drift=drift, left_out=len(survey.left_out), news=news)
    publish_tables(
        run.cohort.root, tables, run.run_id, keep_days=run.config.run.keep_tables_days, same=same, changed=changed
    )
    remember_publication(run.cohort, run.run_id, survey.keys)
    remember_configuration(run.cohort, run.config, run.weights, run.given)
    run.cohort.forget_shard_inputs(run.run_id)
    if set(ours["cause"].drop_null().to_pylist()) - {Cause.NEW, Cause.FAILED}:  # some were graded again
        remove_superseded(run.cohort.private / "features")
    failed = _failures(tables["studies"])
    return Summary(run.run_id, row, failed, len(ours), attention, drift, len(survey.left_out), news)


def _with_grades(run: Run, survey: Survey) -> tuple[Survey, pa.Table]:
    """The survey, without studies that wait for a later run (`--limit`), and the ledger's row of each of its pairs."""
    keys = ledger.about(ledger.read_keys(run.cohort), survey.studies)
    latest = ledger.latest(keys)
    if run.selection.limit:
        survey = survey.without({due.study_key for due in survey.due if latest.keys().isdisjoint(due.known_as)})
    indices = [next(latest[name] for name in due.known_as if name in latest) for due in survey.due]
    return survey, ledger.read_rows(run.cohort, keys.take(pa.array(indices, pa.int64())))


def _remember_state(run: Run, survey: Survey) -> None:
    if survey.parted:
        remember(run, survey.parted, survey.studies)


def _failures(studies: pa.Table) -> list[str]:
    failed = studies.filter(pc.equal(studies["status"], "failed"))
    return [failure(row["study_key"], row["reason"], row["detail"]) for row in failed.to_pylist()]


def _next_tables(
    run: Run, survey: Survey, graded: pa.Table, old: dict[str, pa.Table], archive: int
) -> tuple[dict[str, pa.Table], dict[str, Changed], pa.Table | None, set[str]]:
    """The table `studies`, what changes in `series` and `levels`, the links that changed, if any, and the names of the
    tables that did not change.

    `old`: `studies` and `runs` of the run before; `archive`: number of the archive.
    """
    if len(old["runs"]) and _nothing_new(survey, old["studies"]):
        return {"studies": old["studies"]}, {}, None, {"studies", "series", "levels"}
    new = _tables(run, survey, graded)
    new["studies"] = with_archive(new["studies"], archive)
    keys = new["studies"]["study_key"].combine_chunks()
    known = keys.filter(pc.is_in(keys, old["studies"]["study_key"].combine_chunks()))
    series = read_rows(run.cohort.root, "series", known)
    new["series"] = enforce("series", rows.keep_run_ids("series", new["series"], series))
    stay = pa.array([*survey.left_out, *survey.as_before["study_key"].to_pylist()], pa.string())
    studies = rows.with_gone(new.pop("studies"), old["studies"], stay)
    remembered = links(survey)
    studies = with_days(studies, study_dates(remembered, run.cohort.links), old["studies"])
    studies = enforce("studies", rows.keep_run_ids("studies", studies, old["studies"]))
    same = {name for name, now, before in (("studies", studies, old["studies"]), ("series", new["series"], series))
            if now.equals(before)}  # fmt: skip
    if len(same) == 2 and enforce("levels", new["levels"]).equals(read_rows(run.cohort.root, "levels", known)):
        same.add("levels")
    return {"studies": studies}, {name: Changed(table, keys) for name, table in new.items()}, remembered, same


def _nothing_new(survey: Survey, old_studies: pa.Table) -> bool:
    """Whether every study that the tables hold as one of the archive is as before, and there is no other."""
    here = pc.sum(old_studies["in_archive"], min_count=0).as_py()
    return not (len(survey.studies) or survey.left_out) and here == len(survey.as_before)


def has_news(run: Run, row: dict[str, Any], notes: tuple[str, str], unchanged: Collection[str]) -> bool:
    """Whether a report of this run would differ from the newest one by more than its date.

    `notes`: what needs attention, and what drifts; `unchanged`: names of the tables that are those of the run before.
    """
    report = latest_report(run.cohort)
    if report is None or not {"studies", "series", "levels"} <= set(unchanged):
        return True
    runs = read_table(run.cohort.root, "runs")
    last = max(runs["run_id"].to_pylist(), default="")
    if last not in ("", report.parent.name) and read_manifest(run.cohort.run(last) / "manifest.json").news:
        return True  # it was killed before it wrote its report
    before = runs.filter(pc.equal(runs["run_id"], report.parent.name)).to_pylist()
    same = ("code_version", "grader_id", "configuration_hash", "files_rejected_by_reason")
    then = read_manifest(report.with_name("manifest.json"))
    return not before or (then.attention, then.drift) != notes or any(before[0][name] != row[name] for name in same)


def troubles(run: Run, survey: Survey, old: dict[str, pa.Table], archive: int) -> list[str]:
    """What somebody should look at in the archive as it is found. `old`, `archive`: as of `few_known`."""
    refused = all_refused(run.cohort.root, survey.files)
    return list(filter(None, (few_known(run, survey, old, archive), refused, closed_folders(run, survey))))


def expected_troubles(run: Run, survey: Survey) -> list[str]:
    """What a run that publishes now would say of the archive; notes nothing."""
    old = {name: read_table(run.cohort.root, name) for name in ("studies", "runs")}
    return troubles(run, survey, old, archive_number(run.cohort, run.archive, note=False))


def all_refused(root: Path, files: dict[str, Any]) -> str:
    """That no image of the archive was accepted, with the reasons; empty if one was.

    `root`: of the cohort; `files`: counts of a crawl.
    """
    if files["files_read"] + files["files_unchanged"]:
        return ""
    reasons = {reason: n for reason, n in files["rejected"].items() if reason != Reason.FILE_NOT_DICOM}
    counts = ", ".join(f"{reason} {n}" for reason, n in reasons.items())
    return (
        f"every DICOM file of the archive was refused ({counts}), so there is nothing to grade:"
        f" `modic files {root} --rejected` names them"
    )


def closed_folders(run: Run, survey: Survey) -> str:
    """That folders of the archive could not be read, and where they are named; empty if all could."""
    n = survey.files["rejected"].get(Reason.FILE_FOLDER_UNREADABLE, 0)
    if not n or run.config.run.folders_may_be_closed:
        return ""
    return (
        f"{counted(n, 'folder')} of the archive cannot be read, and what lies below is missing:"
        f" `modic files {run.cohort.root} --reason {Reason.FILE_FOLDER_UNREADABLE}` names them."
        " If this is meant, say [run] folders_may_be_closed = true in cohort.toml"
    )


def few_known(run: Run, survey: Survey, old: dict[str, pa.Table], archive: int) -> str:
    """That most studies that this archive should hold are not in it any more, and what to do; else empty.

    It should hold those of the run before or, if that read another archive and this one fed the cohort earlier, its
    own. `old`: `studies` and `runs` of the run before; `archive`: number of this one.
    """
    before, runs = old["studies"], old["runs"].select(["run_id", "archive"]).to_pylist()
    fed = {row["archive"] for row in runs}
    last = max(runs, key=lambda row: row["run_id"], default={"archive": None})["archive"]
    if last != archive and archive in fed:
        known, source = before.filter(pc.equal(before["archive"], archive)), "that this archive held"
    else:
        known, source = before.filter(pc.fill_null(before["in_archive"], True)), "of the run before"
    missing = len(known) - (pc.sum(pc.is_in(known["study_key"], survey.keys_here)).as_py() or 0)
    if run.config.run.studies_may_leave or 2 * missing <= len(known):
        return ""
    first = None not in fed and archive not in fed
    meant = "it is a further archive of this cohort, which has not read it before" if first else "this is meant"
    return (
        f"{missing} of the {counted(len(known), 'study')} {source} {'is' if missing == 1 else 'are'} not in"
        f" {run.archive}: is it the right folder, and mounted? Their rows stay. If {meant}, say [run]"
        " studies_may_leave = true in cohort.toml"
    )


def _tables(run: Run, survey: Survey, graded: pa.Table) -> dict[str, pa.Table]:
    """The rows of studies, series and levels of the survey's studies; `graded`: the ledger's row of every pair."""
    parts, start = [_rows(run, survey.keys, [], graded.slice(0, 0))], 0
    for found in survey.parts():
        due = sum(study.due is not None for study in found)
        parts.append(_rows(run, survey.keys, found, graded.slice(start, due)))
        start += due
    studies, series = map(pa.concat_tables, zip(*parts, strict=True))
    patients = dict(zip(studies["study_key"].to_pylist(), studies["patient_key"].to_pylist(), strict=True))
    return {
        "studies": studies,
        "series": series,
        "levels": rows.level_rows(graded, patients),
    }


def _rows(run: Run, keys: Pseudonyms, found: list[Found], graded: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of `studies` and `series` of some studies; `graded`: the ledger's rows of those that have a pair."""
    entries = {entry["study_key"]: entry for entry in graded.to_pylist()}
    unpacked = [study.unpack() for study in found]
    outcomes = [(outcome, outcome.t2 if isinstance(outcome, Pair) else series[-1]) for outcome, series in unpacked]
    studies = rows.study_rows(outcomes, entries, keys, run.run_id)
    pairs = [
        rows.graded_pair(outcome, entries[study.due.study_key])
        for study, (outcome, _) in zip(found, unpacked, strict=True)
        if study.due and isinstance(outcome, Pair)
    ]
    used = {rows.series_key(series, keys) for pair in pairs for series in pair.series}
    stacks = (stack for _, series in unpacked for stack in series)
    return rows.table("studies", studies), rows.table("series", rows.series_rows(stacks, used, keys, run.run_id))
