"""`modic grade`."""

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modic.cli.options import OK, SOME_STUDIES_FAILED, add_cluster_arguments, add_command

if TYPE_CHECKING:
    from modic.cohort import Cohort


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic grade /archive/lumbar --out lumbar-2026
  modic grade /archive/lumbar --out lumbar-2026 --config cohort.toml --cluster deployments/clusters/gpu-workstation.yaml

A second run reads only what changed and grades only what is new. A run that was killed goes on from its
finished shards. Exit codes: 0 all graded or excluded, 3 some studies failed, 2 wrong usage, 1 the run failed."""
    grade = add_command(commands, "grade", run, "grade every lumbar study of a DICOM archive", examples)
    grade.add_argument(
        "archive", metavar="ARCHIVE", help="folder of DICOM files, of any depth and with any names; only read"
    )
    grade.add_argument(
        "--out", required=True, metavar="COHORT", help="folder of the cohort: new, empty, or of an earlier run"
    )
    grade.add_argument(
        "--config",
        default="",
        metavar="FILE",
        help="options; deployments/cohort.toml has all of them, with their defaults",
    )
    add_cluster_arguments(grade, "studies are graded")


def run(options: argparse.Namespace) -> int:
    """`modic grade`."""
    return grade(options.archive, options.out, config=options.config, cluster=options.cluster, device=options.device)


def grade(archive: str, cohort: str, *, config: str = "", cluster: str = "", device: str = "auto") -> int:
    """Run the nightly flow here and now; returns the exit code."""
    from flows.clusters import read_cluster
    from flows.prefect_server import prefect_api
    from modic.run.prepare import prepare

    run = prepare(archive, cohort, config=config, device=device)  # what is wrong is said before a server is started
    read_cluster(Path(cluster) if cluster else None, device)
    with run.cohort.lock():
        pass
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stderr.isatty():
        print("starting …", file=sys.stderr)  # Prefect's temporary server, some 6 s, the first time 15 s
    with prefect_api(run.cohort.private / "prefect") as ready:
        from httpx import HTTPError

        from flows.nightly import grade_cohort

        ready()
        try:
            failed = grade_cohort(archive, cohort, config=config, cluster=cluster, device=device)["failed"]
        except HTTPError:
            failed = failed_though_unheard(run.cohort)
    if failed:
        print(f"modic: failed: {', '.join(failed[:20])}{' …' if len(failed) > 20 else ''}", file=sys.stderr)
    return SOME_STUDIES_FAILED if failed else OK


def failed_though_unheard(cohort: "Cohort") -> list[str]:
    """Failed studies of the run that has just published its tables, though Prefect's server was lost on the way.

    Raises ModicError where it has not.
    """
    from modic.errors import ModicError
    from modic.run import status

    last = status.finished(cohort)
    if last is None or last.run_id != cohort.last_begun()[0]:
        raise ModicError("Prefect's server does not answer any more; what is finished is kept")
    print("modic: Prefect's server was lost on the way; the tables are published all the same", file=sys.stderr)
    return [one["study_key"] for one in last.to_look_at if one["status"] == "failed"]
