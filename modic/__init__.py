"""Batch grading of Modic changes in retrospective cohorts of lumbar MRI."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from modic.analysis.cohort_data import CohortData


def open(cohort: "str | Path") -> "CohortData":
    """The tables of a cohort as pandas, and answers with intervals: `modic.open("lumbar-2026").prevalence("level")`.

    Raises modic.errors.UsageError if `cohort` is no cohort, or no run has finished in it.
    """
    from pathlib import Path

    from modic.analysis.cohort_data import CohortData

    return CohortData.of(Path(cohort))
