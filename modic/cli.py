"""The command line. Every import that costs time is inside the command that needs it, so that `--help` is quick.

Exit codes: 0 every study ended graded or excluded; 3 the run finished and some studies failed; 2 wrong arguments or
configuration, said in one line; 1 the run itself failed.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modic import __doc__ as about
from modic.errors import ModicError, UsageError

OK, RUN_FAILED, WRONG_USAGE, SOME_STUDIES_FAILED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (argparse itself exits with 2)."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser(given[0] if given else "").parse_args(given)
    try:
        return int(options.command(options))
    except UsageError as error:
        print(f"modic: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_USAGE
    except ModicError as error:
        print(f"modic: the run failed: {error}", file=sys.stderr)
        return RUN_FAILED
    except KeyboardInterrupt:
        print("modic: stopped; what is finished is kept", file=sys.stderr)
        return RUN_FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has had enough: `| head`
        return RUN_FAILED


def parser(wanted: str = "") -> argparse.ArgumentParser:
    """All commands. The options of `train` and `evaluate` cost an import: only those of the `wanted` one are added."""
    top = argparse.ArgumentParser(
        prog="modic", description=about, epilog="modic COMMAND --help says more. Research use only."
    )
    top.add_argument("--version", action=_Version, nargs=0, help="say the version and stop")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_grade(commands)
    _add_query(commands)
    _add_check(commands)
    _add_report(commands)
    _add_train(commands, wanted == "train")
    _add_evaluate(commands, wanted == "evaluate")
    return top


class _Version(argparse.Action):
    """Looks the version up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"modic {version('modic')}")
        parser.exit()


def _command(commands: Any, name: str, run: Any, summary: str, examples: str, **more: Any) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    added.set_defaults(command=run)
    return added


def _add_grade(commands: Any) -> None:
    examples = """\
  modic grade /archive/lumbar --out lumbar-2026
  modic grade /archive/lumbar --out lumbar-2026 --config cohort.toml --cluster workstation.yaml

A second run reads only what changed and grades only what is new. A run that was killed goes on from its
finished shards. Exit codes: 0 all graded or excluded, 3 some studies failed, 2 wrong usage, 1 the run failed."""
    grade = _command(commands, "grade", run_grade, "grade every lumbar study of a DICOM archive", examples)
    grade.add_argument(
        "archive", metavar="ARCHIVE", help="folder of DICOM files, of any depth and with any names; only read"
    )
    grade.add_argument(
        "--out", required=True, metavar="COHORT", help="folder of the cohort: new, empty, or of an earlier run"
    )
    grade.add_argument(
        "--config", default="", metavar="FILE", help="cohort.toml with options (default: see deployments/cohort.toml)"
    )
    grade.add_argument(
        "--cluster", default="", metavar="FILE", help="cluster YAML (default: one process a core of this machine)"
    )
    grade.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="where networks run (default: auto)"
    )


def run_grade(options: argparse.Namespace) -> int:
    """`modic grade`."""
    return grade(options.archive, options.out, config=options.config, cluster=options.cluster, device=options.device)


def grade(archive: str, cohort: str, *, config: str = "", cluster: str = "", device: str = "auto") -> int:
    """Run the nightly flow here and now; returns the exit code."""
    from flows.clusters import read_cluster
    from flows.server import prefect_api
    from modic.night import prepare

    run = prepare(archive, cohort, config=config, device=device)  # what is wrong is said before a server is started
    read_cluster(Path(cluster) if cluster else None)
    with run.cohort.lock():
        pass
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stderr.isatty():
        print("starting …", file=sys.stderr)  # Prefect's temporary server, some 6 s, the first time 15 s
    with prefect_api(run.cohort.private / "prefect") as ready:
        from flows.nightly import grade_cohort

        ready()
        summary = grade_cohort(archive, cohort, config=config, cluster=cluster, device=device)
    failed = summary["failed"]
    if failed:
        print(f"modic: failed: {', '.join(failed[:20])}{' …' if len(failed) > 20 else ''}", file=sys.stderr)
    return SOME_STUDIES_FAILED if failed else OK


def _add_demo(commands: Any) -> None:
    examples = """\
  modic demo
  modic demo --out demo --patients 20

No network, server, GPU or data is needed. The archive holds synthetic spines as five manufacturers would write
them, with missing contrasts and broken files; the truth lies beside it."""
    demo = _command(
        commands, "demo", run_demo, "make a synthetic archive, grade it, check it and write its report", examples
    )
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="new or earlier folder (default: demo)"
    )
    demo.add_argument("--patients", type=int, default=6, metavar="N", help="synthetic patients (default: 6)")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same archive (default: 0)")


def run_demo(options: argparse.Namespace) -> int:
    """`modic demo`."""
    from modic.demo import make_archive, show

    archive, cohort = make_archive(options.out, patients=options.patients, seed=options.seed)
    graded, sound = grade(str(archive), str(cohort)), check(cohort)
    show(options.out)
    return graded or sound


def _add_query(commands: Any) -> None:
    examples = """\
  modic query lumbar-2026 "SELECT level, mc, count(*) FROM levels GROUP BY ALL ORDER BY ALL"
  modic query lumbar-2026 "FROM studies WHERE status = 'failed'" --format csv > failed.csv

Tables: studies, series, levels, runs (the last finished run). Views: SHOW TABLES lists them."""
    query = _command(commands, "query", run_query, "ask a cohort a question in SQL (DuckDB)", examples)
    query.add_argument("cohort", type=Path, metavar="COHORT")
    query.add_argument("sql", metavar="SQL", help="one DuckDB query; - reads it from standard input")
    query.add_argument("--format", default="table", choices=("table", "csv", "json", "parquet"), help="default: table")


def run_query(options: argparse.Namespace) -> int:
    """`modic query`."""
    from modic.query import print_query

    sql = sys.stdin.read() if options.sql == "-" else options.sql
    print_query(options.cohort, sql, format=options.format, out=sys.stdout)
    return OK


def _add_check(commands: Any) -> None:
    examples = """\
  modic check lumbar-2026 && echo sound

Runs every query of sql/checks; each returns the rows that break a law. Exit code 0 only if none does."""
    command = _command(commands, "check", run_check, "check that a cohort's tables obey their laws", examples)
    command.add_argument("cohort", type=Path, metavar="COHORT")


def run_check(options: argparse.Namespace) -> int:
    """`modic check`."""
    return check(options.cohort)


def check(cohort: Path) -> int:
    """Print the laws that rows break, with some of the rows; 1 where there are any."""
    from modic.query import run_checks

    outcome = run_checks(cohort)
    broken = {name: rows for name, rows in outcome.items() if rows}
    for name, rows in broken.items():
        print(f"{name}: {len(rows)} rows")
        for row in rows[:5]:
            print(f"  {row}")
    print(f"{len(outcome) - len(broken)} of {len(outcome)} checks hold")
    return RUN_FAILED if broken else OK


def _add_report(commands: Any) -> None:
    examples = "  modic report lumbar-2026"
    report = _command(commands, "report", run_report, "write the HTML report of the last finished run again", examples)
    report.add_argument("cohort", type=Path, metavar="COHORT")


def run_report(options: argparse.Namespace) -> int:
    """`modic report`."""
    from modic.report import write_report

    print(write_report(options.cohort))
    return OK


def _add_train(commands: Any, wanted: bool) -> None:
    examples = "  modic train detector --help\n  modic train classifier --help"
    train = _command(commands, "train", None, "train the detector or the classifier", examples)
    if not wanted:
        return
    from modic.train import classifier, detector

    _add_models(train, "train", {"detector": detector, "classifier": classifier})


def _add_evaluate(commands: Any, wanted: bool) -> None:
    examples = """\
  modic evaluate detector --data spider=DIR --out evaluation
  modic evaluate classifier --data spider=DIR --weights mine/classifier.safetensors --out evaluation
  modic evaluate classifier --data spider=DIR --out thin --slices 1 --jitter 0.1"""
    evaluate = _command(commands, "evaluate", None, "measure a detector or a classifier on labelled patients", examples)
    if not wanted:
        return
    from modic.train import evaluate_classifier, evaluate_detector

    _add_models(evaluate, "evaluate", {"detector": evaluate_detector, "classifier": evaluate_classifier})


def _add_models(command: argparse.ArgumentParser, verb: str, modules: dict[str, Any]) -> None:
    """`modic VERB MODEL`, with the options and the work of the model's module."""
    models = command.add_subparsers(metavar="MODEL", required=True)
    for name, module in modules.items():
        model = models.add_parser(name, help=f"{verb} the {name}", description=module.__doc__)
        module.add_arguments(model)
        model.set_defaults(command=module.run)
