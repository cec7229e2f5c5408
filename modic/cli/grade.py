"""`modic grade`."""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modic.cli.options import OK, SOME_STUDIES_FAILED, add_cluster_arguments, add_command
from modic.cli.process import check_semaphores

if TYPE_CHECKING:
    from modic.cohort import Cohort


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic grade /archive/lumbar --out lumbar-2026
  modic grade /archive/lumbar --out lumbar-2026 --config cohort.toml --cluster deployments/clusters/gpu-workstation.yaml

A second run reads only what changed and grades only what is new. After a run was killed, the same command goes on from
its finished shards. Exit codes: 0 all graded or excluded, 3 studies failed, most known ones are gone, or every image
was refused, 2 wrong usage, 1 the run failed."""
    grade = add_command(commands, "grade", run, "grade every lumbar study of a DICOM archive", examples)
    grade.add_argument(
        "archive",
        metavar="ARCHIVE",
        help="folder of DICOM files with any names and subfolders; its files are only read",
    )
    grade.add_argument(
        "--out",
        required=True,
        metavar="COHORT",
        help="folder of the cohort: a new or empty one, or that of an earlier run",
    )
    grade.add_argument(
        "--config",
        default="",
        metavar="FILE",
        help="TOML file of options; deployments/cohort.toml lists all of them with their defaults",
    )
    add_cluster_arguments(grade, "studies are graded")


def run(options: argparse.Namespace) -> int:
    """`modic grade`."""
    return grade(options.archive, options.out, config=options.config, cluster=options.cluster, device=options.device)


def grade(archive: str, cohort: str, *, config: str = "", cluster: str = "", device: str = "auto") -> int:
    """Run the nightly flow here and now; returns the exit code."""
    from flows.clusters import read_cluster
    from flows.prefect_server import prefect_api
    from modic.archive.walk import as_text
    from modic.run.prepare import prepare

    check_semaphores()
    run = prepare(archive, cohort, config=config, device=device)  # reports wrong options before a server is started
    read_cluster(Path(cluster) if cluster else None, device)
    with run.cohort.lock():
        pass
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stderr.isatty():
        print("starting …", file=sys.stderr)  # Prefect's temporary server takes 6 s, the first time 15 s
    with prefect_api(run.cohort.private / "prefect") as ready:
        from httpx import HTTPError

        from flows.nightly import grade_cohort

        ready()
        try:
            outcome = grade_cohort(as_text(archive), cohort, config=config, cluster=cluster, device=device)
            failed, attention = outcome["failed"], outcome["attention"]
        except HTTPError:
            failed, attention = after_server_loss(run.cohort)
    if attention:
        print(f"modic: {attention}", file=sys.stderr)
    if failed:
        print(f"modic: failed: {', '.join(failed[:20])}{' …' if len(failed) > 20 else ''}", file=sys.stderr)
    return SOME_STUDIES_FAILED if failed or attention else OK


def after_server_loss(cohort: "Cohort") -> tuple[list[str], str]:
    """Keys of the failed studies, and what needs attention, of a run that published although Prefect's server was lost.

    Raises ModicError if the run has not published.
    """
    from modic.errors import ModicError
    from modic.run import status

    last = status.finished(cohort)
    if last is None or last.run_id != cohort.last_begun()[0]:
        raise ModicError("Prefect's server does not answer any more; what is finished is kept")
    print("modic: Prefect's server was lost during the run; the tables are published all the same", file=sys.stderr)
    return [study["study_key"] for study in last.to_look_at if study["status"] == "failed"], last.attention
