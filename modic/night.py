"""The steps of a night around the grading, in the order in which flows/nightly.py calls them.

    prepare        check everything the user gave, before anything costs time
    find_studies   crawl → identify (→ look, where no header tells the contrast) → pair
    cut_shards     what the ledger does not hold yet, in shards
    publish        ledger + archive → the four tables, in one atomic step

A study is graded again only if its fingerprint is new: a keyed hash over both its series, or over those of all its
pairs where the first did not serve (UID, size and modification time of every image; not the folder, which may move),
both models and the options that can change a grade.
"""

import hashlib
import json
import logging
import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from modic import rows, shards
from modic.cohort import Cohort, create_cohort, write_json
from modic.config import GRADING_SECTIONS, Config, load_config
from modic.crawl import crawl
from modic.errors import ModicError, UsageError
from modic.identify import identify
from modic.limits import cores
from modic.pair import pair
from modic.pipeline import where
from modic.pseudonym import Pseudonyms
from modic.records import Excluded, Pair, Series
from modic.schemas import SCHEMAS
from modic.shards import Job, Shard, Work
from modic.tables import publish as publish_tables
from modic.tables import read_table, write_table
from modic.untold import tell_roles
from modic.weights import model_id, read_card

LOG = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")
LINKS = pa.schema(
    [(name, pa.string()) for name in ("study_key", "series_key", "patient_key")]
    + [(name, pa.string()) for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")]
    + [("stack", pa.int32()), ("files", pa.list_(pa.string()))]
)
SHARDS_PER_WORKER = 4
"""At least so many, so that all workers end at about the same time and progress moves."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run is about, once everything in it has been checked (`prepare`)."""

    archive: Path
    cohort: Cohort
    config: Config
    device: str
    run_id: str
    started: datetime
    detector_id: str
    classifier_id: str
    models: str  # hash of everything in both cards that can change a grade

    @property
    def job(self) -> Job:
        """The part that workers and their watchers need."""
        return Job(self.cohort, self.run_id, self.device, self.config.run.study_time_limit_s)


def discreet(step: Callable[Concatenate[Run, P], R]) -> Callable[Concatenate[Run, P], R]:
    """A step whose bugs may be logged: what an exception says, maybe a path or a patient, stays in `private/`."""

    @wraps(step)
    def wrapped(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> R:
        note = run.cohort.private / "last_error.txt"  # `modic status` points to it
        try:
            return step(run, *args, **kwargs)
        except ModicError as error:
            with suppress(OSError):
                note.write_text(f"{error}\n", encoding="utf-8")
            raise
        except Exception as error:  # noqa: BLE001  (raised again, without its message)
            said = f"{step.__name__}: {where(error)}"
            with suppress(OSError):  # the disk may be full
                note.write_text(traceback.format_exc(), encoding="utf-8")
                said += f"; more in {note}"
            raise ModicError(said) from None

    return wrapped


@dataclass(frozen=True, eq=False)
class Survey:
    """The archive as this run finds it. Identifying: it stays in this process."""

    files: dict[str, Any]  # modic.crawl.Crawl.counts
    series: list[Series]
    outcomes: list[Pair | Excluded]  # one a study
    keys: Pseudonyms
    work: list[Work]  # one a study with a pair
    seconds: float  # that it took
    ended: float = field(default_factory=time.monotonic)

    @property
    def pairs(self) -> list[Pair]:
        """The studies that can be graded."""
        return [one.pair for one in self.work]


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


def prepare(archive: str, cohort: str, *, config: str = "", device: str = "auto") -> Run:
    """Check what the user gave and open the cohort, making it where it is new. Raises UsageError."""
    if not (archive and cohort):
        which = "cohort" if archive else "archive"
        raise UsageError(f"no {which} is given; a deployment takes MODIC_ARCHIVE and MODIC_COHORT when it is deployed")
    folder = Path(archive)
    if not folder.is_dir():
        raise UsageError(f"the archive {archive} " + ("is not a folder" if folder.exists() else "does not exist"))
    options = load_config(Path(config) if config else None)
    options = replace(options, detector=_absolute(options.detector), classifier=_absolute(options.classifier))
    cards = [read_card(options.detector, "detector")[0], read_card(options.classifier, "classifier")[0]]
    detector_id, classifier_id = map(model_id, cards)
    home = create_cohort(Path(cohort), archive=folder)
    now = datetime.now(UTC)
    return Run(folder, home, options, device, home.new_run_id(), now, detector_id, classifier_id, _models_hash(cards))


def _absolute(weights: str) -> str:
    """Workers may run in another folder; the name of shipped weights stays a name."""
    return weights if Path(weights).name == weights and "." not in weights else str(Path(weights).resolve())


def _models_hash(cards: list[dict[str, Any]]) -> str:
    parts = ("sha256", "architecture", "preprocessing", "calibration")
    text = json.dumps([{part: card.get(part) for part in parts} for card in cards], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@discreet
def find_studies(run: Run, *, on_progress: Callable[[int], None] | None = None) -> Survey:
    """crawl → identify → pair; `on_progress` is told the files seen. Raises UsageError where there is no DICOM."""
    began = time.monotonic()
    # the workers that will grade have nothing to do yet
    found = crawl(run.archive, index=run.cohort.header_index, on_progress=on_progress, processes=cores())
    LOG.info("files: %s", json.dumps(found.counts))
    series = identify(found.headers, options=run.config.identify)
    series = _with_roles_told(run, series)
    outcomes = pair(series, options=run.config.pair)
    keys = Pseudonyms.open(run.cohort.private)
    work = [_work(run, one, keys) for one in outcomes if isinstance(one, Pair)]
    LOG.info("%d studies found, %d of them with a pair to grade", len(outcomes), len(work))
    return Survey(found.counts, series, outcomes, keys, work, time.monotonic() - began)


def _with_roles_told(run: Run, series: list[Series]) -> list[Series]:
    memory = run.cohort.private / "looked_at.json"
    return tell_roles(series, memory=memory, config=run.config, device=run.device, detector_id=run.detector_id)


def _work(run: Run, one: Pair, keys: Pseudonyms) -> Work:
    with_others = _fingerprint(run, one.choices, keys) if one.others else ""
    return Work(keys.study(one.study_uid), _fingerprint(run, [one], keys), one, with_others)


def _fingerprint(run: Run, pairs: Iterable[Pair], keys: Pseudonyms) -> str:
    both = [series for pair in pairs for series in (pair.t1, pair.t2)]
    files = [(series.sop_uids, series.frames, series.sizes, series.mtimes_ns) for series in both]
    return keys.fingerprint(run.models, run.config.grading_hash(), *files)


@discreet
def cut_shards(run: Run, survey: Survey, *, workers: int) -> list[Shard]:
    """Write the inputs of the shards that this run has to grade; empty where there is nothing to do."""
    run.cohort.forget_shard_inputs()
    shards.set_damaged_aside(run.cohort)
    done = shards.finished(shards.ledger(run.cohort))
    work = [one for one in survey.work if done.isdisjoint(one.known_as)]
    LOG.info("%d studies to grade; %d have their grades", len(work), len(survey.work) - len(work))
    size = min(run.config.run.shard_size, math.ceil(len(work) / (SHARDS_PER_WORKER * workers)) or 1)
    return [
        shards.write_input(run.cohort, run.run_id, f"{index:05d}", work[start : start + size], run.config)
        for index, start in enumerate(range(0, len(work), size))
    ]


@discreet
def publish(run: Run, survey: Survey) -> Summary:
    """Build the four tables from the ledger and the archive and make them current in one atomic step."""
    ledger = shards.ledger(run.cohort)
    latest = shards.latest(ledger)
    found = [next(latest[name] for name in one.known_as if name in latest) for one in survey.work]
    graded = ledger.take(pa.array(found, pa.int64()))
    old = {name: read_table(run.cohort.root, name) for name in SCHEMAS}
    tables = rows.with_gone(_tables(run, survey, graded, old), old)
    ours = graded.filter(pc.equal(graded["run_id"], run.run_id))
    seconds = {"find_studies": survey.seconds, "grade": time.monotonic() - survey.ended}
    row = _run_row(run, survey, tables["studies"], sorted(set(ours["device"].drop_null().to_pylist())))
    tables["runs"] = pa.concat_tables([old["runs"], rows.table("runs", [row])])
    write_table(_links(survey), run.cohort.private / "links.parquet")
    _write_manifest(run, row, ours, seconds)
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
    used = {rows.series_key(one, keys) for pair in chosen for one in (pair.t1, pair.t2)}
    series = rows.table("series", rows.series_rows(survey.series, used, keys, run.run_id))
    patients = dict(zip(studies["study_key"].to_pylist(), studies["patient_key"].to_pylist(), strict=True))
    return {
        "studies": rows.keep_run_ids("studies", studies, old["studies"]),
        "series": rows.keep_run_ids("series", series, old["series"]),
        "levels": rows.level_rows(graded, patients),
    }


def _run_row(run: Run, survey: Survey, studies: pa.Table, devices: list[str]) -> dict[str, Any]:
    """This run's row of `runs`; `devices`: what its workers said."""
    files, statuses = survey.files, Counter(studies["status"].to_pylist())
    return {
        "run_id": run.run_id,
        "started": run.started,
        "finished": max(datetime.now(UTC), run.started),
        "code_version": code_version(),
        "configuration_hash": run.config.grading_hash(),
        "detector_id": run.detector_id,
        "classifier_id": run.classifier_id,
        "device": devices[0] if len(devices) == 1 else run.device,
        **{name: files[name] for name in ("files_seen", "files_read", "files_unchanged")},
        "files_rejected": sum(files["rejected"].values()),
        "files_rejected_by_reason": json.dumps(files["rejected"], sort_keys=True),
        "studies_found": len(studies),
        **{f"studies_{status}": statuses[status] for status in ("graded", "excluded", "failed")},
        "studies_by_reason": json.dumps(Counter(studies["reason"].drop_null().to_pylist()), sort_keys=True),
    }


def code_version() -> str:
    """The installed version of modic."""
    try:
        return version("modic")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


def _links(survey: Survey) -> pa.Table:
    """The way back from keys to the archive, one row a stack; identifying, so for `private/` only."""
    keys = survey.keys
    return pa.Table.from_pylist(
        [
            {
                "study_key": keys.study(one.study_uid),
                "series_key": rows.series_key(one, keys),
                "patient_key": keys.patient(one.patient_id),
                "PatientID": one.patient_id,
                "StudyInstanceUID": one.study_uid,
                "SeriesInstanceUID": one.series_uid,
                "stack": one.stack,
                "files": list(one.files),
            }
            for one in survey.series
        ],
        schema=LINKS,
    )


def _write_manifest(run: Run, row: dict[str, Any], ours: pa.Table, seconds: dict[str, float]) -> None:
    """`runs/<run_id>/manifest.json`: the run's row, its options, seconds by the clock, and of work by stage."""
    work: Counter[str] = Counter()
    for stages in ours["seconds"].to_pylist():
        work.update(dict(stages))
    options = {section: asdict(getattr(run.config, section)) for section in (*GRADING_SECTIONS, "run")}
    dates = {name: row[name].isoformat() for name in ("started", "finished")}
    manifest = {**row, **dates, "options": options, "studies_worked_on": len(ours)}
    run.cohort.run(run.run_id).mkdir(parents=True, exist_ok=True)
    path = run.cohort.run(run.run_id) / "manifest.json"
    times: dict[str, dict[str, float]] = {"seconds": seconds, "seconds_by_stage": dict(work)}
    rounded = {name: {k: round(v, 3) for k, v in one.items()} for name, one in times.items()}
    write_json(path, {**manifest, **rounded})
