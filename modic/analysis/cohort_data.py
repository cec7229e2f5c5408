"""`modic.open(COHORT)`: a cohort's tables as pandas, and answers with intervals.

Every answer is about graded levels. Those not found or unreadable, and abstentions, are never dropped silently: each
answer counts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from modic.analysis.corrected import (
    METHODS,
    blind_readings,
    confusion_matrix,
    corrected_prevalence,
    corrected_rows,
    read_validation,
)
from modic.errors import UsageError
from modic.grades import PARTS
from modic.records import LEVELS
from modic.statistics.intervals import clustered_share
from modic.statistics.odds_ratios import odds_ratios
from modic.tables.query import connect, published
from modic.tables.schema import OLDEST


@dataclass(frozen=True)
class Opened:
    """The tables of one finished run. Get one from `modic.open`."""

    root: Path
    folder: Path

    @classmethod
    def of(cls, cohort: Path) -> "Opened":
        """Raises UsageError where `cohort` is none, or no run has finished in it."""
        return cls(cohort, published(cohort))

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
        frame = self._read("levels")
        return frame.assign(level=pd.Categorical(frame["level"], LEVELS, ordered=True))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a finished run."""
        return self._read("runs")

    def _read(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"{name}.parquet", dtype_backend="numpy_nullable", partitioning=None)

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """The answer to a query over studies, series, levels, runs and the views of sql/views, as a DuckDB relation.

        Nothing is read before it is asked for: `.df()`, `.arrow()`, `.fetchall()`; for tables too large for pandas.
        """
        return self._connection.sql(query)

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return connect(self.root)

    def graded(self, *, visits: str = "first", sure_numbering: bool = False) -> pd.DataFrame:
        """One row a graded level (a grade or an abstention) with what is known of its study, and columns to model.

        Args:
            visits: `first`: of every patient's first graded study; `all`: of all.
            sure_numbering: leave out studies whose level names may be shifted.

        Added: age_band (decades: `40-49`, up to `90+`), mc0, mc1, mc2, any_mc (0, 1, null where abstained),
        level_status.
        """
        frame = self._six_levels(visits, sure_numbering)
        return frame[frame["level_status"] == "graded"].reset_index(drop=True)

    def _six_levels(self, visits: str, sure_numbering: bool) -> pd.DataFrame:
        """The rows of `graded` and those of levels that were not."""
        if visits not in ("first", "all"):
            raise UsageError(f"visits is first or all, not {visits!r}")
        studies = self.studies[self.studies["status"] == "graded"]
        if visits == "first":
            ordered = studies.sort_values(["days_since_first_study", "study_key"], na_position="last")
            studies = ordered.drop_duplicates("patient_key")
        if sure_numbering:
            studies = studies[studies["level_numbering"] == "ok"]
        own = self.levels.rename(columns={"status": "level_status", "reason": "level_reason"})
        about = studies.drop(columns=["patient_key", "status", "reason", "detail", "run_id"])
        frame = own.merge(about, on="study_key", how="inner")
        decade = frame["age_years"] // 10 * 10
        band = decade.astype("string") + "-" + (decade + 9).astype("string")
        frame["age_band"] = band.where(decade.isna() | (decade < OLDEST), f"{OLDEST}+")
        for k in range(3):
            frame[f"mc{k}"] = (frame["mc"] == k).astype("Int8")
        frame["any_mc"] = (frame["mc"] > 0).astype("Int8")
        return frame

    def prevalence(
        self,
        by: str | Sequence[str] = (),
        *,
        unit: str = "levels",
        visits: str = "first",
        sure_numbering: bool = False,
    ) -> pd.DataFrame:
        """How frequent each grade is as the model says it: not yet the truth, see `corrected_prevalence`.

        Args:
            by: columns of `graded` whose values make groups: `level`, `sex`, `age_band`, `study_year`, ….
            unit: `levels`, or `patients`: who have the grade at one level or more.
            visits, sure_numbering: as in `graded`.

        One row a group and grade. `share` is of the n that have a grade (`n_hit` of them this one), with a 95 %
        interval for patients as clusters. Abstentions are not in n: `share_at_least` and `share_at_most` say what the
        share would be if none, or all, of the `n_abstained` were of this grade. `n_not_graded`: not found or
        unreadable.
        """
        if unit not in ("levels", "patients"):
            raise UsageError(f"unit is levels or patients, not {unit!r}")
        frame = self._six_levels(visits, sure_numbering)
        rows = []
        for group, some in _groups(frame, by):
            for grade, counted in PARTS.items():
                rows.append({**group, "grade": grade, **_counted(some, counted, unit)})
        return _typed(pd.DataFrame(rows), frame, by)

    def corrected_prevalence(
        self,
        by: str | Sequence[str] = (),
        *,
        method: str = "rogan-gladen",
        validation: Path | pd.DataFrame | np.ndarray | None = None,
        visits: str = "first",
        sure_numbering: bool = False,
    ) -> pd.DataFrame:
        """How frequent each grade is, corrected for the model's errors, with 95 % intervals that hold theirs too.

        Args:
            by, visits, sure_numbering: as in `prevalence`.
            method: `rogan-gladen`: with the model's confusion matrix, taken to be the same in every group;
                `prediction-powered`: with the levels of this cohort that readers read;
                `by-group`: so in each group of which a sample of `modic review` has OWN_READ levels or more, and
                Rogan-Gladen in the others. The column `method` says which.
            validation: what `modic validate` wrote (default: COHORT/validation); a confusion matrix (3, 3) or, with
                abstentions, (3, 4), true grades as rows; a frame of cells (truth, predicted, n) or of readings
                (truth, predicted, and patient_key, study_key, level, reader, weight, blind where there are). Readings
                that were not blind are left out.

        An abstention is a fourth thing that the model can say, in the cohort as in the validation, so that none is
        dropped; null in `predicted` means it. One row a group and grade: share, low, high, method, n, n_patients,
        n_read, n_abstained, n_not_graded. Raises UsageError where the validation cannot answer.
        """
        if method not in METHODS:
            raise UsageError(f"method is one of {', '.join(sorted(METHODS))}, not {method!r}")
        frame = self._six_levels(visits, sure_numbering)
        known = self._validation(validation)
        rows = []
        for group, some in _groups(frame, by):
            graded = some[some["level_status"] == "graded"].reset_index(drop=True)
            if graded.empty:
                continue
            counts = {"n_abstained": int(graded["mc"].isna().sum()), "n_not_graded": len(some) - len(graded)}
            try:
                found = corrected_prevalence(method, graded, known)
            except ValueError as error:
                raise UsageError(f"{method} {group or ''}: {error}") from error
            rows += [{**group, **row, **counts} for row in corrected_rows(found)]
        return _typed(pd.DataFrame(rows), frame, by)

    def association(self, formula: str, *, visits: str = "first", sure_numbering: bool = False) -> pd.DataFrame:
        """Odds ratios of `formula` over the columns of `graded`, with the patient as cluster:
        `modic.statistics.odds_ratios`.

        `cohort.association("mc2 ~ age_years + sex + C(level)")`. Abstentions are left out, and counted.
        """
        return odds_ratios(self.graded(visits=visits, sure_numbering=sure_numbering), formula)

    def _validation(self, given: Path | pd.DataFrame | np.ndarray | None) -> pd.DataFrame | np.ndarray:
        """Readings, with what this cohort's model says of levels that are its own; or a confusion matrix."""
        if isinstance(given, np.ndarray):
            return given
        known = given if isinstance(given, pd.DataFrame) else read_validation(Path(given or self.root / "validation"))
        if missing := {"truth", "predicted"} - set(known.columns):
            raise UsageError(f"the validation lacks {', '.join(sorted(missing))}")
        if "n" in known.columns:
            return confusion_matrix(known)
        readings = blind_readings(known[known["truth"].notna()]).reset_index(drop=True)
        if {"study_key", "level"} <= set(readings.columns):
            own = self.levels[["study_key", "level", "mc", "status"]].assign(
                level=self.levels["level"].astype("string")
            )
            joined = readings.merge(own, on=["study_key", "level"], how="left")
            here = (joined["status"] == "graded").to_numpy(bool, na_value=False)
            readings["predicted"] = joined["mc"].where(here, joined["predicted"]).astype("Int8")
        return readings


def _groups(frame: pd.DataFrame, by: str | Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    names = [by] if isinstance(by, str) else list(by)
    if wrong := [name for name in names if name not in frame.columns]:
        raise UsageError(f"there is no column {', '.join(wrong)}; there are {', '.join(frame.columns)}")
    if not names:
        return [({}, frame)] if len(frame) else []
    parts = frame.groupby(names, dropna=False, observed=True, sort=True)
    return [(dict(zip(names, key, strict=True)), part) for key, part in parts]


def _typed(found: pd.DataFrame, frame: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Columns of `by` with the types that they have in `frame`."""
    names = [by] if isinstance(by, str) else list(by)
    return found.astype({name: frame[name].dtype for name in names if name in found})


def _counted(some: pd.DataFrame, counted: tuple[int, ...], unit: str) -> dict[str, Any]:
    graded = some[some["level_status"] == "graded"]
    hit = graded["mc"].isin(counted)
    table = pd.DataFrame({"patient": graded["patient_key"], "hit": hit, "unsure": graded["mc"].isna()})
    not_graded = len(some) - len(graded)
    if unit == "patients":  # one row a patient; who has no hit may have one where the model abstained
        of_patient = table.groupby("patient")
        decided = of_patient["unsure"].apply(lambda unsure: not unsure.all())
        table = of_patient["hit"].any().to_frame().assign(maybe=of_patient["unsure"].any(), decided=decided)
        table = table.assign(unsure=table["maybe"] & ~table["hit"], patient=table.index)
        not_graded = some["patient_key"].nunique() - len(table)
        sure = table[table["decided"]]
    else:
        sure = table[~table["unsure"]]
    n_hit, n_all, n_unsure = int(table["hit"].sum()), len(table), int(table["unsure"].sum())
    row: dict[str, Any] = {"n": len(sure), "n_hit": n_hit, "n_patients": sure["patient"].nunique()}
    found = clustered_share(sure["hit"].to_numpy(), sure["patient"].to_numpy()) if len(sure) else None
    row |= {end: getattr(found, what) if found else np.nan for end, what in _ENDS.items()}
    row |= {"n_abstained": n_unsure, "n_not_graded": not_graded}
    bounds = {"share_at_least": n_hit, "share_at_most": n_hit + n_unsure}
    return row | {name: k / n_all if n_all else np.nan for name, k in bounds.items()}


_ENDS = {"share": "value", "low": "low", "high": "high"}
