"""The tables of one finished run as pandas or SQL."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.analysis.groups import with_flags
from modic.analysis.table_one import with_scanner
from modic.errors import UsageError
from modic.records import ENDPLATE_COLUMNS, LEVELS, MARROW_COLUMNS, STIR_COLUMNS
from modic.tables.query import connect, published
from modic.tables.schema import OLDEST, SCHEMAS

BOXES = [f"{image}_{edge}" for image in ("t1", "t2") for edge in ("x0", "y0", "x1", "y1", "slice")]
CORNERS = [f"mm_{axis}{corner}" for axis in "xyz" for corner in (0, 1)]
MEASURED = frozenset([*BOXES, *CORNERS, *MARROW_COLUMNS, *STIR_COLUMNS, *ENDPLATE_COLUMNS])
"""Columns of `levels` that say where a level lies, and what was measured there."""


def _in_order(levels: pd.DataFrame) -> pd.DataFrame:
    return levels.assign(level=pd.Categorical(levels["level"], LEVELS, ordered=True))


COUNTED = ("study_key", "patient_key", "level", "level_status", "mc")
"""Columns from which an answer is counted."""


def with_bands(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with age_band (decades, up to `90+`) and scanner."""
    decade = frame["age_years"] // 10 * 10
    band = decade.astype("string") + "-" + (decade + 9).astype("string")
    return with_scanner(frame.assign(age_band=band.where(decade.isna() | (decade < OLDEST), f"{OLDEST}+")))


@dataclass(frozen=True)
class RunTables:
    """The tables of one finished run, whatever runs publish meanwhile. Get one from `modic.open`.

    `folder` never changes; it stays for `keep_tables_days` (cohort.toml, [run]) after newer tables were published.
    """

    root: Path
    folder: Path
    kept: frozenset[str] | None = field(default=None, repr=False)
    """Keys of the studies that `only` kept; None: all."""
    measured: bool = field(default=True, repr=False)
    """Whether levels have their boxes and measured marrow (`without_measurements`)."""

    @classmethod
    def of(cls, cohort: Path, run: str | None = None) -> Self:
        """The tables of the last finished run, or those that `run` published.

        Raises UsageError if `cohort` is no cohort, if no run has finished in it, or if those of `run` are not kept.
        """
        return cls(cohort, published(cohort, run))

    @property
    def run_id(self) -> str:
        """The run that published these tables; `modic.open(cohort, run=run_id)` reads the same ones again."""
        return str(self.runs["run_id"].max())

    @cached_property
    def studies(self) -> pd.DataFrame:
        """One row a study."""
        return self._read("studies")

    @cached_property
    def series(self) -> pd.DataFrame:
        """One row a stack of images."""
        return self._read("series")

    @cached_property
    def levels(self) -> pd.DataFrame:
        """One row a level of a graded study; `level` is an ordered category, head to foot."""
        columns = [name for name in SCHEMAS["levels"].names if name not in MEASURED]
        return _in_order(self._read("levels", None if self.measured else columns))

    def without_measurements(self) -> Self:
        """The same tables without the boxes and the measured marrow of levels, which take most of the memory."""
        return replace(self, measured=False)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a finished run."""
        return self._read("runs")

    def _read(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        self._check_kept()
        path = self.folder / f"{name}.parquet"
        written = columns and [column for column in columns if column in pq.read_schema(path).names]
        rows = pd.read_parquet(path, columns=written, dtype_backend="numpy_nullable", partitioning=None)
        if self.kept is None or "study_key" not in rows:
            return rows
        return rows[rows["study_key"].isin(list(self.kept))].reset_index(drop=True)

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """The answer to a query over studies, series, levels, runs and the views of sql/views, as a DuckDB relation.

        A relation reads nothing until you ask for rows (`.df()`, `.arrow()`, `.fetchall()`), so it also serves for
        tables too large for pandas.
        """
        self._check_kept()
        return self._connection.sql(query)

    def _check_kept(self) -> None:
        if not self.folder.is_dir():
            raise UsageError(f"{self.folder} is not kept any more; call modic.open again for the tables of today")

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return connect(self.root, self.folder)

    def graded(self, *, visits: str = "first", sure_numbering: bool = False) -> pd.DataFrame:
        """One row a graded level (a grade or an abstention) with the columns of its study, and columns to model with.

        Args:
            visits: `first` takes every patient's first graded study, `all` takes every graded study.
            sure_numbering: leave out studies whose level names may be shifted.

        Added columns: age_band (decades: `40-49`, up to `90+`), scanner (manufacturer and model), mc0, mc1, mc2, any_mc
        (0 or 1; null if the model abstained), level_status.
        """
        frame = self.six_levels(visits, sure_numbering)
        return frame[frame["level_status"] == "graded"].reset_index(drop=True)

    def six_levels(self, visits: str, sure_numbering: bool, by: str | Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of `graded`, and those of levels that were not found or unreadable.

        `by`: columns that are asked for; then most others are left out, which in a large cohort take gigabytes.
        """
        if visits not in ("first", "all"):
            raise UsageError(f"visits is first or all, not {visits!r}")
        studies = self.studies[self.studies["status"] == "graded"]
        if visits == "first":
            ordered = studies.sort_values(["days_since_first_study", "study_key"], na_position="last")
            studies = ordered.drop_duplicates("patient_key")
        if sure_numbering:
            studies = studies[studies["level_numbering"] == "ok"]
        own = self.levels.rename(columns={"status": "level_status", "reason": "level_reason"})
        of_study = with_bands(studies.drop(columns=["patient_key", "status", "reason", "detail", "run_id"]))
        names = {by} if isinstance(by, str) else set(by or ())
        if by is not None and names <= {*own.columns, *of_study.columns}:
            own, of_study = (table[[name for name in table if name in {*names, *COUNTED}]] for table in (own, of_study))
        # pandas' merge takes five times as long
        place = pc.index_in(pa.array(own["study_key"]), pa.array(of_study["study_key"])).to_pandas()
        own, place = (part[place.notna().to_numpy()].reset_index(drop=True) for part in (own, place))
        studies = of_study.drop(columns="study_key").take(place.astype(int)).reset_index(drop=True)
        return with_flags(pd.concat([own, studies], axis=1))

    def only(self, keep: pd.Series) -> Self:
        """The same tables with some studies alone; `keep`: bool, one value a row of `studies`.

        Answers by `sql` are still of all studies.
        """
        return replace(self, kept=frozenset(self.studies["study_key"][keep.to_numpy(bool)]))
