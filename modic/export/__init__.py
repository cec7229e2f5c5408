"""The tables of a cohort in other formats than Parquet: CSV, Stata, SPSS, R, OMOP CDM, and DICOM SR for the PACS.

The data dictionary goes with every format. Each format is a function (cohort, out) → lines that say what was written
and what was left out.
"""

from collections.abc import Callable
from pathlib import Path

from modic.errors import UsageError

Writer = Callable[[Path, Path], list[str]]
FORMATS = ("csv", "stata", "spss", "r", "omop", "sr")


def export(cohort: Path, out: Path, *, format: str, write: Writer | None = None) -> list[str]:
    """Write the cohort's current tables as `format` into `out`, a new or empty folder outside the cohort.

    Returns lines that say what was written. Raises UsageError if `cohort` has no finished run, if `out` lies inside the
    cohort or is not empty, or if the format is unknown or needs a package that is not installed. `write`: a writer of
    a layer above, in place of that of the format.
    """
    from modic.cohort import nothing_left
    from modic.export.flat import flat_queries, whole_dictionary
    from modic.tables.dictionary import MARKDOWN
    from modic.tables.query import connect, published

    published(cohort)
    here, there = cohort.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UsageError(f"{out} lies inside the cohort (or around it); give a folder outside the cohort")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty; give a new folder")
    write = write or _writer(format)
    with nothing_left(out):
        try:
            out.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"cannot make {out}: {error.strerror}") from error
        lines = write(cohort, out)
    with connect(cohort) as connection:
        columns = {name: connection.sql(query).columns for name, query in flat_queries().items()}
    (out / MARKDOWN).write_text(whole_dictionary(columns), encoding="utf-8")
    return lines


def _writer(format: str) -> Writer:
    if format == "csv":
        from modic.export.csv import write_csv

        return write_csv
    if format == "r":
        from modic.export.r import write_r

        return write_r
    if format == "omop":
        from modic.export.omop import write_omop

        return write_omop
    if format in ("stata", "spss"):
        try:
            from modic.export import stats
        except ImportError as error:
            why = f"Stata and SPSS need pyreadstat ({error.name} is missing): pip install 'modic[stats]'"
            raise UsageError(why) from error
        return stats.write_stata if format == "stata" else stats.write_spss
    if format == "sr":
        try:
            from modic.export.sr import write_sr
        except ImportError as error:
            raise UsageError(f"DICOM SR needs highdicom ({error.name} is missing): pip install 'modic[sr]'") from error
        return write_sr
    raise UsageError(f"there is no format {format}; there are {', '.join(FORMATS)}")
