"""Batch grading of Modic changes in retrospective cohorts of lumbar MRI."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from modic.analysis.cohort_data import CohortData


def open(cohort: "str | Path", run: str | None = None) -> "CohortData":
    """The tables of a cohort as pandas, and answers with intervals: `modic.open("lumbar-2026").prevalence("level")`.

    All that is read through the answer is of one run: the last finished one, or `run`. Raises modic.errors.UsageError
    if `cohort` is no cohort, if no run has finished in it, or if the tables of `run` are not kept any more.
    """
    from pathlib import Path

    from modic.analysis.cohort_data import CohortData

    return CohortData.of(Path(cohort), run)
