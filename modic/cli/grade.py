"""`modic grade`."""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modic.cli.options import OK, SOME_STUDIES_FAILED, add_cluster_arguments, add_command, show
from modic.cli.process import check_address_space, check_semaphores
from modic.resources import importing
from modic.text import counted

if TYPE_CHECKING:
    from modic.cohort import Cohort


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic grade /archive/lumbar --out lumbar-2026
  modic grade /archive/lumbar --out lumbar-2026 --config cohort.toml --cluster deployments/clusters/gpu-workstation.yaml
  modic grade /archive/lumbar --out lumbar-2026 --plan
  modic grade /archive/lumbar --out lumbar-2026 --only ids.csv --since 2019-01-01 --limit 100

A second run reads only what changed and grades only what is new. After a run was killed, the same command goes on from
its finished shards.

exit codes:
  0  every study ended graded or excluded; of --plan: a plan was made, whatever it says of the archive
  1  the run itself failed; what is finished is kept
  2  nothing was graded: wrong arguments or options, an archive without a DICOM file, another run at work on the cohort,
     or the --config or --models that it was graded with was forgotten or exchanged for another file, which would change
     grades (--regrade says that it is meant)
  3  the tables are published, but studies failed, most known ones are gone, folders cannot be read, or every image was
     refused; the last line says which"""
    grade = add_command(commands, "grade", run, "grade every lumbar study of a DICOM archive", examples)
    grade.add_argument(
        "archive",
        metavar="ARCHIVE",
        help="folder of DICOM files with any names and subfolders, zip, tar and gz files among them; a single zip or"
        " tar file; dicomweb+https://HOST/PATH of a server; or s3://BUCKET/PREFIX, gs:// or abfs:// of an object store."
        " It is only read",
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
    grade.add_argument(
        "--models",
        default="",
        metavar="NAME|DIR",
        help="`paper`, the networks of the paper's design, or a folder of weights, to grade with in place of those of"
        " --config: what `modic adapt` or `modic train` wrote",
    )
    grade.add_argument(
        "--plan",
        action="store_true",
        help="say how many studies would be graded and why, how long it takes and what the disk needs; grades nothing"
        " (the headers that it reads are kept in the cohort's folder for the run)",
    )
    grade.add_argument(
        "--only",
        default="",
        metavar="CSV",
        help="grade only studies whose patient id, study UID, study_key or patient_key is in the first column of this"
        " file; rows of other studies stay as they are",
    )
    grade.add_argument("--since", default="", metavar="DATE", help="only studies of this day or later, like 2019-01-31")
    grade.add_argument("--until", default="", metavar="DATE", help="only studies of this day or earlier")
    grade.add_argument(
        "--limit",
        type=_above_0,
        default=0,
        metavar="N",
        help="grade at most N studies, chosen at random but always the same; the others wait for a later run",
    )
    grade.add_argument(
        "--regrade",
        action="store_true",
        help="grade again without the --config or --models that the cohort was graded with, or with another file; such"
        " a run is refused without it",
    )
    add_cluster_arguments(grade, "studies are graded", "one process a core, which share the GPUs if there are any")


def _above_0(text: str) -> int:
    if not text.strip().isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number above 0, not {text}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """`modic grade`."""
    asked = {"only": options.only, "since": options.since, "until": options.until, "limit": options.limit}
    given = {"config": options.config, "models": options.models, "device": options.device}
    with importing():
        from modic.cohort import Cohort, nothing_left

    cohort = Cohort(Path(options.out))
    with nothing_left(cohort.root, unless=cohort.header_index.exists, alone=cohort.lock):
        if options.plan:
            return plan(options.archive, options.out, **given, **asked)
        return grade(options.archive, options.out, cluster=options.cluster, regrade=options.regrade, **given, **asked)


def plan(archive: str, cohort: str, *, config: str = "", models: str = "", device: str = "auto", **asked: Any) -> int:
    """Print what a run would grade, and why; returns the exit code."""
    from modic.errors import UsageError
    from modic.run.configuration import check_configuration
    from modic.run.plan import plan_studies
    from modic.run.prepare import prepare
    from modic.run.publish import expected_troubles
    from modic.run.selection import selection
    from modic.run.survey import find_studies

    chosen = selection(**asked)
    run = prepare(archive, cohort, config=config, models=models, device=device, selection=chosen, regrade=True)
    with run.cohort.lock():
        survey = find_studies(run)
        show(f"{counted(survey.n_studies, 'study')} in the archive, {survey.n_pairs} of them with a pair to grade"
             + (f"; {len(survey.left_out)} not asked for" if survey.left_out else ""))  # fmt: skip
        for trouble in filter(None, (survey.not_found, *expected_troubles(run, survey), survey.unread)):
            show(trouble)
        show(plan_studies(run, survey))
    try:
        check_configuration(run.cohort, run.config, run.weights, run.given)
    except UsageError as error:
        show(f"such a run needs --regrade: {error}")
    return OK


def grade(
    archive: str,
    cohort: str,
    *,
    config: str = "",
    models: str = "",
    cluster: str = "",
    device: str = "auto",
    regrade: bool = False,
    **asked: Any,
) -> int:
    """Run the nightly flow here and now; returns the exit code. `asked`: arguments of modic.run.selection.selection."""
    with importing():
        from flows.clusters import read_cluster, start_template
        from flows.prefect_server import prefect_api
        from modic.archive.walk import as_text
        from modic.run.prepare import prepare
        from modic.run.selection import selection
        from modic.run.status import listed

    check_semaphores()
    if not cluster:
        check_address_space()
    # reports wrong options before a server is started
    with noted(Path(cohort)):
        spec = read_cluster(Path(cluster) if cluster else None, device)  # before a folder is made
        chosen = selection(**asked)
        run = prepare(archive, cohort, config=config, models=models, device=device, selection=chosen, regrade=regrade)
    with run.cohort.lock():
        pass
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stderr.isatty():
        print("starting …", file=sys.stderr)  # Prefect's temporary server takes 4 s
    if not run.cohort.finished_shards():  # a first night has studies to grade
        start_template(spec)
    with prefect_api(run.cohort.private / "prefect") as ready:
        with importing():
            from httpx import HTTPError

            from flows.nightly import grade_cohort

        ready()
        try:
            outcome = grade_cohort(
                as_text(archive),
                cohort,
                config=config,
                models=models,
                cluster=cluster,
                device=device,
                regrade=regrade,
                **asked,
            )
            failed, attention = outcome["failed"], outcome["attention"]
        except HTTPError:
            failed, attention = after_server_loss(run.cohort)
    if attention:
        print(f"modic: {attention}", file=sys.stderr)
    if failed:
        print(f"modic: failed: {listed(failed)}", file=sys.stderr)
    return SOME_STUDIES_FAILED if failed or attention else OK


@contextmanager
def noted(root: Path) -> Iterator[None]:
    """Note why a night is refused where `modic status` finds it, if there is a cohort."""
    from modic.cohort import Cohort, is_cohort
    from modic.errors import UsageError
    from modic.files import write_whole

    try:
        yield
    except UsageError as error:
        with suppress(OSError, UsageError):
            if is_cohort(root):
                write_whole(Cohort(root).last_error, f"{error}\n")
        raise


def after_server_loss(cohort: "Cohort") -> tuple[list[str], str]:
    """The failed studies with their reasons, and what needs attention, of a run that published without its server.

    Raises ModicError if the run has not published.
    """
    from modic.errors import ModicError
    from modic.run import status

    last = status.finished(cohort)
    if last is None or last.run_id != cohort.last_begun()[0]:
        raise ModicError("Prefect's server does not answer any more; what is finished is kept")
    print("modic: Prefect's server was lost during the run; the tables are published all the same", file=sys.stderr)
    return last.all_failed, last.attention
