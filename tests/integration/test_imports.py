"""Imports run one way (pyproject.toml, [tool.importlinter]), and what a wheel must carry is in the packages."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imports_run_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert ", 0 broken" in done.stdout


def test_the_library_is_imported_without_networks_and_orchestration() -> None:
    code = "import sys, modic.run.publish; print({'torch', 'monai', 'prefect', 'dask'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_run_starts_without_what_its_report_needs() -> None:
    code = "import sys, flows.nightly; print({'torch', 'scipy.stats', 'modic.report.page'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_report_is_written_without_the_half_second_of_scipy_stats() -> None:
    code = "import sys, modic.report.page; print({'torch', 'scipy.stats', 'statsmodels'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
