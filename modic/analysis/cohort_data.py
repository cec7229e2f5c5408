"""`modic.open(COHORT)`: the tables of a cohort as pandas, and answers with intervals.

Every answer is about graded levels. Abstentions, and levels that were not found or unreadable, are never dropped
silently: each answer counts them.
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
from modic.grades import CLASSES, PARTS
from modic.records import LEVELS
from modic.statistics.intervals import clustered_share
from modic.statistics.odds_ratios import odds_ratios
from modic.tables.query import connect, published
from modic.tables.schema import OLDEST


@dataclass(frozen=True)
class CohortData:
    """The tables of one finished run, whatever runs publish meanwhile. Get one from `modic.open`.

    `folder` never changes; it stays for `keep_tables_days` (cohort.toml, [run]) after newer tables were published.
    """

    root: Path
    folder: Path

    @classmethod
    def of(cls, cohort: Path, run: str | None = None) -> "CohortData":
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
        frame = self._read("levels")
        return frame.assign(level=pd.Categorical(frame["level"], LEVELS, ordered=True))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a finished run."""
        return self._read("runs")

    def _read(self, name: str) -> pd.DataFrame:
        self._check_kept()
        return pd.read_parquet(self.folder / f"{name}.parquet", dtype_backend="numpy_nullable", partitioning=None)

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

        Added columns: age_band (decades: `40-49`, up to `90+`), mc0, mc1, mc2, any_mc (0 or 1; null if the model
        abstained), level_status.
        """
        frame = self._six_levels(visits, sure_numbering)
        return frame[frame["level_status"] == "graded"].reset_index(drop=True)

    def _six_levels(self, visits: str, sure_numbering: bool) -> pd.DataFrame:
        """The rows of `graded`, and those of levels that were not found or unreadable."""
        if visits not in ("first", "all"):
            raise UsageError(f"visits is first or all, not {visits!r}")
        studies = self.studies[self.studies["status"] == "graded"]
        if visits == "first":
            ordered = studies.sort_values(["days_since_first_study", "study_key"], na_position="last")
            studies = ordered.drop_duplicates("patient_key")
        if sure_numbering:
            studies = studies[studies["level_numbering"] == "ok"]
        own = self.levels.rename(columns={"status": "level_status", "reason": "level_reason"})
        of_study = studies.drop(columns=["patient_key", "status", "reason", "detail", "run_id"])
        frame = own.merge(of_study, on="study_key", how="inner")
        decade = frame["age_years"] // 10 * 10
        band = decade.astype("string") + "-" + (decade + 9).astype("string")
        frame["age_band"] = band.where(decade.isna() | (decade < OLDEST), f"{OLDEST}+")
        for k in range(CLASSES):
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
        """How frequent each grade is as graded, not corrected for the model's errors (see `corrected_prevalence`).

        Args:
            by: columns of `graded` that make groups: `level`, `sex`, `age_band`, `study_year`, ….
            unit: `levels`, or `patients` (with the grade at one level or more).
            visits, sure_numbering: as in `graded`.

        One row a group and grade. `share` is n_hit / n, of the n levels with a grade, and has a 95 % interval with
        patients as clusters. Abstentions are not in n: `share_at_least` and `share_at_most` are the shares if none, or
        all, of the n_abstained had this grade. n_not_graded counts levels that were not found or unreadable.
        """
        if unit not in ("levels", "patients"):
            raise UsageError(f"unit is levels or patients, not {unit!r}")
        frame = self._six_levels(visits, sure_numbering)
        rows = []
        for group, members in _groups(frame, by):
            for grade, types in PARTS.items():
                rows.append({**group, "grade": grade, **_share(members, types, unit)})
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
        """How frequent each grade is, corrected for the model's errors; 95 % intervals include the correction's own.

        Args:
            by, visits, sure_numbering: as in `prevalence`.
            method: `rogan-gladen` uses the model's confusion matrix and takes it to be the same in every group;
                `prediction-powered` uses the levels of this cohort that readers read;
                `by-group` is prediction-powered in each group of which a sample of `modic review` holds OWN_READ levels
                or more, and Rogan-Gladen in the others. The column `method` says which.
            validation: the folder that `modic validate` wrote (default: COHORT/validation); or a confusion matrix,
                float (3, 3) or with abstentions (3, 4), true grades as rows; or a frame of its cells (truth,
                predicted, n); or a frame of readings (truth, predicted, and if known patient_key, study_key, level,
                reader, weight, blind). Readings that were not blind are left out.

        An abstention (null in `predicted`) is a fourth answer of the model, in the cohort as in the validation, so none
        is dropped. One row a group and grade: share, low, high, method, n, n_patients, n_read, n_abstained,
        n_not_graded. Raises UsageError if the validation cannot correct these numbers.
        """
        if method not in METHODS:
            raise UsageError(f"method is one of {', '.join(sorted(METHODS))}, not {method!r}")
        frame = self._six_levels(visits, sure_numbering)
        known = self._validation(validation)
        rows = []
        for group, members in _groups(frame, by):
            graded = members[members["level_status"] == "graded"].reset_index(drop=True)
            if graded.empty:
                continue
            counts = {"n_abstained": int(graded["mc"].isna().sum()), "n_not_graded": len(members) - len(graded)}
            try:
                corrected = corrected_prevalence(method, graded, known)
            except ValueError as error:
                raise UsageError(f"{method} {group or ''}: {error}") from error
            rows += [{**group, **row, **counts} for row in corrected_rows(corrected)]
        return _typed(pd.DataFrame(rows), frame, by)

    def association(self, formula: str, *, visits: str = "first", sure_numbering: bool = False) -> pd.DataFrame:
        """Odds ratios of a `formula` over the columns of `graded`, with patients as clusters.

        Example: `cohort.association("mc2 ~ age_years + sex + C(level)")`. Abstentions are left out and counted. Method,
        columns and errors: `modic.statistics.odds_ratios.odds_ratios`.
        """
        return odds_ratios(self.graded(visits=visits, sure_numbering=sure_numbering), formula)

    def _validation(self, given: Path | pd.DataFrame | np.ndarray | None) -> pd.DataFrame | np.ndarray:
        """Readings, or a confusion matrix. Readings of this cohort's levels get the grades that it holds now."""
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
            graded = (joined["status"] == "graded").to_numpy(bool, na_value=False)
            readings["predicted"] = joined["mc"].where(graded, joined["predicted"]).astype("Int8")
        return readings


def _groups(frame: pd.DataFrame, by: str | Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Values of the columns `by` → their rows; one group of all rows without `by`."""
    names = [by] if isinstance(by, str) else list(by)
    if wrong := [name for name in names if name not in frame.columns]:
        raise UsageError(f"there is no column {', '.join(wrong)}; there are {', '.join(frame.columns)}")
    if not names:
        return [({}, frame)] if len(frame) else []
    parts = frame.groupby(names, dropna=False, observed=True, sort=True)
    return [(dict(zip(names, key, strict=True)), part) for key, part in parts]


def _typed(answer: pd.DataFrame, frame: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """`answer` whose columns `by` have the types that they have in `frame`."""
    names = [by] if isinstance(by, str) else list(by)
    return answer.astype({name: frame[name].dtype for name in names if name in answer})


def _share(members: pd.DataFrame, types: tuple[int, ...], unit: str) -> dict[str, Any]:
    """Share of levels (or patients) of one group with a grade of `types`, its interval, its bounds and its counts."""
    graded = members[members["level_status"] == "graded"]
    units = pd.DataFrame(
        {"patient": graded["patient_key"], "hit": graded["mc"].isin(types), "unsure": graded["mc"].isna()}
    ).assign(decided=graded["mc"].notna())
    n_not_graded = len(members) - len(graded)
    if unit == "patients":
        units = _of_patients(units)
        n_not_graded = members["patient_key"].nunique() - len(units)
    decided = units[units["decided"]]
    n_hit, n_all, n_unsure = int(units["hit"].sum()), len(units), int(units["unsure"].sum())
    share = clustered_share(decided["hit"].to_numpy(), decided["patient"].to_numpy()) if len(decided) else None
    return {
        "n": len(decided),
        "n_hit": n_hit,
        "n_patients": decided["patient"].nunique(),
        "share": share.value if share else np.nan,
        "low": share.low if share else np.nan,
        "high": share.high if share else np.nan,
        "n_abstained": n_unsure,
        "n_not_graded": n_not_graded,
        "share_at_least": n_hit / n_all if n_all else np.nan,
        "share_at_most": (n_hit + n_unsure) / n_all if n_all else np.nan,
    }


def _of_patients(levels: pd.DataFrame) -> pd.DataFrame:
    """One row a patient. A patient without a hit is unsure if the model abstained at a level: it may be one."""
    of_patient = levels.groupby("patient")
    hit, abstained = of_patient["hit"].any(), of_patient["unsure"].any()
    return pd.DataFrame(
        {"patient": hit.index, "hit": hit, "unsure": abstained & ~hit, "decided": of_patient["decided"].any()}
    )
