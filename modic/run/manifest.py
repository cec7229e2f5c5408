"""What a run records about itself: its row of `runs`, its manifest, and the private links from keys to the archive."""

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from modic.config import GRADING_SECTIONS
from modic.files import make_folder, write_json
from modic.run.prepare import Run
from modic.run.shards import read_plan
from modic.run.survey import Survey


def run_row(run: Run, survey: Survey, studies: pa.Table, devices: list[str]) -> dict[str, Any]:
    """This run's row of `runs`; `devices`: those that its workers graded on."""
    files, statuses = survey.files, Counter(studies["status"].to_pylist())
    return {
        "run_id": run.run_id,
        "started": run.started,
        "finished": max(datetime.now(UTC), run.started),
        "code_version": code_version(),
        "configuration_hash": run.config.grading_hash(),
        "conformal_thresholds": json.dumps(run.thresholds) if run.thresholds else None,
        "alpha": run.alpha,
        "detector_id": run.detector_id,
        "classifier_id": run.classifier_id,
        "grading_version": run.grader.version,
        "grader_id": run.grader.id,
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


def write_manifest(
    run: Run,
    row: dict[str, Any],
    ours: pa.Table,
    seconds: dict[str, float],
    attention: str = "",
    drift: str = "",
    left_out: int = 0,
    news: bool = True,
) -> None:
    """Write `runs/<run_id>/manifest.json`: the run's row, its options, why it graded what it graded, and the seconds
    that passed and that its workers spent on each stage.

    `ours`: the rows of the ledger that this run added; `left_out`: number of studies that it was not asked for;
    `news`: whether a report is to be written.
    """
    work: Counter[str] = Counter()
    for stages in ours["seconds"].to_pylist():
        work.update(dict(stages))
    options = {section: asdict(getattr(run.config, section)) for section in (*GRADING_SECTIONS, "run")}
    dates = {name: row[name].isoformat() for name in ("started", "finished")}
    counts = {"studies_worked_on": len(ours), "studies_by_cause": Counter(ours["cause"].drop_null().to_pylist())}
    manifest = {**row, **dates, "options": options, **counts, "to_grade": read_plan(run.cohort, run.run_id)}
    manifest |= {"news": news}
    manifest |= {name: note for name, note in (("attention", attention), ("drift", drift)) if note}
    manifest |= {"asked_for": str(run.selection), "left_out": left_out} if str(run.selection) else {}
    path = make_folder(run.cohort.run(run.run_id)) / "manifest.json"
    times: dict[str, dict[str, float]] = {"seconds": seconds, "seconds_by_stage": dict(work)}
    rounded = {name: {k: round(v, 3) for k, v in part.items()} for name, part in times.items()}
    write_json(path, {**manifest, **rounded})
