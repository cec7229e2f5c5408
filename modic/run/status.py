"""The state of a cohort, read from its files: the last finished run, a later unfinished one, and what the next will do.

`modic status` prints it; the flow shows the same in Prefect when a run ends. It holds keys and counts, nothing of
`private/` but numbers.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from modic import versions
from modic.cohort import Cohort, began
from modic.decode import decode
from modic.errors import TRANSIENT, UsageError
from modic.files import read_json
from modic.records import LEVELS
from modic.run import shards
from modic.run.cause import graded_again, version_of
from modic.tables.published import current_tables
from modic.tables.store import read_file
from modic.text import counted, one_line, plural
from modic.versions import changes_since

UNSURE = "uncertain"
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LISTED = 10
"""Failed studies in the last line of a run."""
NAMED = 3
"""Studies that are named for each reason; `modic query` lists them all."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `modic status` shows of a run's manifest (modic.run.manifest)."""

    studies_worked_on: int | None = None
    to_grade: str = ""  # why they were graded
    attention: str = ""  # what needs the user's attention
    drift: str = ""  # what looks unlike that which the site's own grader was adapted to
    asked_for: str = ""  # modic.run.selection.Selection in words; empty: everything
    left_out: int = 0  # studies of the archive that the run was not asked for
    news: bool = False  # whether the run had to write a report
    seconds: dict[str, Seconds] = field(default_factory=dict)
    seconds_by_stage: dict[str, Seconds] = field(default_factory=dict)

    @property
    def studies_an_hour(self) -> float:
        """With the start of the workers; 0 if none was worked on, or it was not measured."""
        seconds = self.seconds.get("grade", 0.0)
        return 3600 * (self.studies_worked_on or 0) / seconds if seconds else 0.0


def read_manifest(path: Path) -> Manifest:
    """Of a run; an empty one if the file is missing or damaged."""
    shown = {key.name for key in fields(Manifest)}
    values = {key: value for key, value in (read_json(path) or {}).items() if key in shown}
    try:
        return decode(Manifest, values, str(path))
    except UsageError:
        return Manifest()


@dataclass(frozen=True, slots=True)
class Finished:
    """The last finished run."""

    row: dict[str, Any]  # of the table `runs`
    manifest: "Manifest"  # what modic.run.publish wrote beside it; empty if someone removed or damaged it
    to_look_at: list[dict[str, Any]]  # failed or uncertainly numbered: status, why, study_key, here, detail
    of_older_version: int  # graded studies of the archive that an older grading version graded
    oldest_version: int  # of these; of this version of modic if there are none
    report: str  # path of the newest report below the cohort; empty if there is none

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return str(self.row["run_id"])

    @property
    def reported(self) -> str:
        """The path of the newest report below the cohort; of this run's, which is missing, if there is none."""
        return self.report or f"runs/{self.run_id}/report.html"

    @property
    def reasons(self) -> dict[str, int]:
        """Reason → number of studies not graded, and of files rejected."""
        of = ("studies_by_reason", "files_rejected_by_reason")
        return {reason: n for name in of for reason, n in sorted(json.loads(self.row[name]).items())}

    def failed(self, *, again: bool) -> list[dict[str, Any]]:
        """The failed studies that the next run tries again, or those that it leaves as they are."""
        failed = [study for study in self.to_look_at if study["status"] == "failed"]
        return [study for study in failed if (study["why"] in TRANSIENT and study["here"]) is again]

    @property
    def all_failed(self) -> list[str]:
        """The failed studies as `failure` writes them."""
        return [failure(study["study_key"], study["why"], study["detail"])
                for study in self.to_look_at if study["status"] == "failed"]  # fmt: skip

    @property
    def attention(self) -> str:
        """What somebody should look at although nothing failed; empty if there is nothing."""
        return self.manifest.attention

    @property
    def uncertain(self) -> int:
        """Graded studies whose level names may be shifted."""
        return sum(study["status"] == "graded" for study in self.to_look_at)

    @property
    def duration_s(self) -> float:
        """Seconds from the start to the published tables."""
        return float((self.row["finished"] - self.row["started"]).total_seconds())

    @property
    def throughput(self) -> dict[str, float]:
        """Studies an hour (with the start of the workers) and files a second; what was not measured is left out."""
        seconds, rates = self.manifest.seconds, {}
        if self.manifest.studies_an_hour:
            rates["studies an hour"] = self.manifest.studies_an_hour
        if seconds.get("find_studies"):
            rates["files a second"] = self.row["files_seen"] / seconds["find_studies"]
        return rates


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that began after the last finished one: it runs now, was killed or stopped, or broke."""

    run_id: str
    running: bool
    planned: int  # studies that it has to grade; 0 while it reads the archive
    done: int  # of them, graded so far
    left: int  # of them, still to be graded, or again
    kept: int  # studies in finished shards of this run and of others that broke, which no later run grades again
    why: str  # what it has to grade, in words (modic.run.cause.sentence); empty while it reads the archive

    @property
    def began(self) -> datetime:
        """When it took its name."""
        return began(self.run_id)


def failure(study_key: str, reason: str, detail: str | None) -> str:
    """`s_08bb… study.time_limit (limit 300 s)`."""
    return f"{study_key} {reason}" + (f" ({detail})" if detail else "")


def listed(failed: list[str]) -> str:
    """The first of some failures, for one line."""
    return "; ".join(failed[:LISTED]) + (f"; … {len(failed)} in all" if len(failed) > LISTED else "")


def finished(cohort: Cohort) -> Finished | None:
    """The last finished run; None if there is none."""
    current = current_tables(cohort.root)  # links resolved, so that all tables are of one run
    if current is None:
        return None
    runs, studies = (read_file(current, name) for name in ("runs", "studies"))
    row = max(runs.to_pylist(), key=lambda run: (run["finished"], run["run_id"]))
    unsure = pc.fill_null(pc.equal(studies["level_numbering"], UNSURE), False)
    odd = studies.filter(pc.or_(pc.equal(studies["status"], "failed"), unsure))
    to_look_at = sorted(map(_to_look_at, odd.to_pylist()), key=lambda study: tuple(study.values()))
    path = cohort.run(row["run_id"]) / "manifest.json"
    manifest = read_manifest(path)
    older = _older_versions(current, studies)
    oldest, report = min(older, default=versions.GRADING_VERSION), latest_report(cohort)
    path_below = str(report.relative_to(cohort.root)) if report else ""
    return Finished(row, manifest, to_look_at, len(older), oldest, path_below)


def latest_report(cohort: Cohort) -> Path | None:
    """The newest report; a run that changed nothing writes none."""
    reports = (run / "report.html" for run in reversed(cohort.runs()))
    return next((path for path in reports if path.is_file()), None)


def _older_versions(current: Path, studies: pa.Table) -> list[int]:
    """The grading version of each graded study that the next run grades again for it; not of those that are gone."""
    here = studies.filter(pc.fill_null(studies["in_archive"], True))["study_key"]
    levels = read_file(current, "levels")
    levels = levels.filter(pc.and_(pc.is_in(levels["study_key"], here), pc.equal(levels["level"], LEVELS[0])))
    graded_by = (version_of(row) for row in levels.select(["grading_version"]).to_pylist())
    return [version for version in graded_by if version != versions.GRADING_VERSION]


def _to_look_at(study: dict[str, Any]) -> dict[str, Any]:
    unsure, p = study["level_numbering"] == UNSURE, study["level_numbering_probability"]
    return {
        "status": study["status"],
        "why": f"level_numbering {UNSURE}" if unsure else study["reason"],
        "study_key": study["study_key"],
        "here": study["in_archive"] is not False,
        "detail": study["detail"] or (f"all names right with probability {p:.2f}" if unsure and p is not None else ""),
    }


def unfinished(cohort: Cohort, last: Finished | None) -> Unfinished | None:
    """The run that began after `last`; None if there is none. Reads no study, only counts."""
    begun, running = cohort.last_begun()
    if begun is None or (last and begun <= last.run_id):
        return None
    graded, kept = Counter[str](), Counter[str]()
    for path in cohort.finished_shards():
        run_id = path.parent.parent.name
        if not last or run_id > last.run_id:
            reasons = pq.read_table(path, columns=["reason"], partitioning=None)["reason"].to_pylist()
            graded[run_id] += len(reasons)
            kept[run_id] += sum(reason not in TRANSIENT for reason in reasons)
    planned, at = shards.progress(cohort, begun)
    why = shards.read_plan(cohort, begun)
    return Unfinished(begun, running, planned, graded[begun] + at, planned - kept[begun], kept.total(), why)


def lines(cohort: Cohort) -> list[str]:
    """The lines that `modic status` prints, fifteen at most."""
    last = finished(cohort)
    later = unfinished(cohort, last)
    state = [("cohort", str(cohort.root)), ("now", _now(cohort, later))]
    state += _refused(cohort, later or last)
    state += _last(last) if last else [("last run", "none has finished yet")]
    state.append(("next run", _next(last, later)))
    if last:
        state.append(("report", last.report or f"modic report {cohort.root} writes it"))
    newest = later or last
    log = cohort.log(newest.run_id) if newest else None
    if log and log.is_file():
        state.append(("log", str(log.relative_to(cohort.root))))
    return [f"{name:10} {text}" for name, text in state]


def _now(cohort: Cohort, later: Unfinished | None) -> str:
    if later is None:
        return "no run is going on"
    if not later.running:
        error = cohort.last_error
        broke = error.is_file() and error.stat().st_mtime >= later.began.timestamp()
        what = f"broke before it published: {_said(error)}" if broke else "was killed or stopped before it published"
        return f"no run is going on; run {later.run_id} {what}"
    since = f"run {later.run_id} is going on since {_time(later.began)}: " + (f"{later.why}: " if later.why else "")
    return since + (f"{later.done} of {later.planned} studies" if later.planned else "reading the archive")


def _refused(cohort: Cohort, newest: Unfinished | Finished | None) -> list[tuple[str, str]]:
    """That a night was refused after the newest run, and why; a run that did not finish tells itself how it broke."""
    if isinstance(newest, Unfinished) or not cohort.last_error.is_file():
        return []
    when = datetime.fromtimestamp(cohort.last_error.stat().st_mtime, UTC)
    since = newest.row["finished"] if newest else when
    return [("refused", f"{_time(when)}: {_said(cohort.last_error)}")] if when >= since else []


def _said(error: Path) -> str:
    """An error in words, if it is one line; a traceback may name a patient, so only its place is said."""
    said = error.read_text(encoding="utf-8", errors="replace").strip()
    return f"see {error}" if "\n" in said or not said else one_line(said)


def _last(last: Finished) -> list[tuple[str, str]]:
    row = last.row
    files = ", ".join(f"{row[f'files_{name}']} {name}" for name in ("read", "unchanged", "rejected"))
    studies = ", ".join(f"{row[f'studies_{status}']} {status}" for status in ("graded", "excluded", "failed"))
    worked, why = last.manifest.studies_worked_on, last.manifest.to_grade
    worked_on = "?" if worked is None else worked
    speed = [f"{rate:.0f} {name}" for name, rate in last.throughput.items()]
    shares = last.manifest.seconds_by_stage
    speed += [f"{100 * s / sum(shares.values()):.0f} % {stage}" for stage, s in shares.items() if sum(shares.values())]
    counts = ", ".join(f"{reason} {n}" for reason, n in last.reasons.items())
    failed = [study for study in last.to_look_at if study["status"] == "failed"]
    on = "" if row["device"] == "auto" else f" on {row['device']}"  # auto: no network ran, nothing was to grade
    return [
        ("last run", f"{last.run_id}, published {_time(row['finished'])} after {duration(last.duration_s)},"
                     f" modic {row['code_version']}{on}"),
        ("files", f"{row['files_seen']} seen: {files}"),
        ("studies", f"{row['studies_found']} found: {studies}; {worked_on} worked on in that run"
                    + (f" ({why})" if why else "") + _asked(last.manifest)),
        ("speed", ", ".join(speed) or "nothing to do"),
        ("reasons", counts or "none"),
        ("failed", _named(failed)),
        *([("attention", last.attention)] if last.attention else []),
        *([("drift", last.manifest.drift)] if last.manifest.drift else []),
        ("uncertain", f"{last.uncertain} graded {plural(last.uncertain, 'study')} whose level names may be shifted"
                      " (level_numbering)"),
    ]  # fmt: skip


def _asked(manifest: Manifest) -> str:
    return f"; {manifest.asked_for}: {manifest.left_out} of the archive not asked for" if manifest.asked_for else ""


def _next(last: Finished | None, later: Unfinished | None) -> str:
    again = last.failed(again=True) if last else []
    left = last.failed(again=False) if last else []
    parts = ["grades what is new or changed"]
    if last and last.of_older_version:
        parts.append(graded_again(last.of_older_version, changes_since(last.oldest_version)))
    if again:
        parts.append(f"tries {len(again)} failed again ({_counts(again)})")
    if left:
        parts.append(f"leaves {len(left)} failed until their files change ({_counts(left)})")
    if later and not later.running and later.planned:
        parts.append(f"goes on from run {later.run_id}: {counted(later.kept, 'study')} kept, {later.left} to grade")
    return "; ".join(parts)


def _counts(studies: Iterable[dict[str, Any]]) -> str:
    return ", ".join(f"{why} {n}" for why, n in sorted(Counter(study["why"] for study in studies).items()))


def _named(failed: list[dict[str, Any]]) -> str:
    by_reason: dict[str, list[str]] = {}
    for study in failed:
        by_reason.setdefault(study["why"], []).append(study["study_key"])
    named = [
        f"{why} {len(keys)}: {', '.join(keys[:NAMED])}{' …' if len(keys) > NAMED else ''}"
        for why, keys in by_reason.items()
    ]
    return "; ".join(named) or "none"


def _time(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """`3 h 07 min`, `7 min` or `12 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def markdown(cohort: Cohort, last: Finished) -> str:
    """The page that Prefect shows of a finished run."""
    row = last.row
    parts = {
        "studies": [(status, row[f"studies_{status}"]) for status in ("graded", "excluded", "failed")],
        "files": [(name, row[f"files_{name}"]) for name in ("seen", "read", "unchanged", "rejected")],
        "reason": list(last.reasons.items()),
        "throughput": [(name, f"{rate:.0f}") for name, rate in last.throughput.items()],
        "stage, seconds of work": [(name, f"{s:.0f}") for name, s in last.manifest.seconds_by_stage.items()],
    }
    tables = [_markdown_table(head, rows) for head, rows in parts.items() if rows]
    path = cohort.root.resolve() / last.reported
    where = f"Report: [{path}]({path.as_uri()}), on the machine that ran it. Browsers do not follow this link: copy it."
    return "\n\n".join([f"# {cohort.root.name}, run {last.run_id}", where, *tables]) + "\n"


def _markdown_table(head: str, rows: list[tuple[str, Any]]) -> str:
    return "\n".join([f"| {head} | n |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows)])
