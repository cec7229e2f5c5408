"""`modic.open(COHORT)`: the tables of a cohort as pandas, and answers with intervals.

Every answer is about graded levels. Abstentions, and levels that were not found or unreadable, are never dropped
silently: each answer counts them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.analysis import by_readings
from modic.analysis.corrected import (
    METHODS,
    blind_readings,
    checked_readings,
    confusion_given,
    confusion_matrix,
    corrected_patients,
    corrected_prevalence,
    corrected_rows,
    not_estimable,
    read_validation,
)
from modic.analysis.elsewhere import ERROR_COVARIATES, impute_elsewhere
from modic.analysis.groups import groups, typed, with_flags
from modic.analysis.imputed import Imputed, impute
from modic.analysis.simulated import said
from modic.analysis.table_one import missingness, table_one, with_scanner
from modic.errors import UsageError
from modic.grades import CLASSES, PARTS
from modic.records import ENDPLATE_COLUMNS, LEVELS, MARROW_COLUMNS, STIR_COLUMNS
from modic.statistics.intervals import share_of_counts
from modic.statistics.odds_ratios import check_values, odds_ratios
from modic.tables.query import connect, published
from modic.tables.schema import OLDEST, SCHEMAS


def _joined(frame: pd.DataFrame, data: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """`frame` with the columns of a user's `data`, by study_key or patient_key, and their names."""
    if data is None:
        return frame, []
    if not isinstance(data, pd.DataFrame):
        raise UsageError(
            f"data is a {type(data).__name__}; give a pandas DataFrame (pd.read_csv of what modic link wrote)"
        )
    key = next((name for name in ("study_key", "patient_key") if name in data and data[name].notna().all()), None)
    if key is None:
        raise UsageError("data needs a column study_key or patient_key without gaps (modic link makes them)")
    added = [name for name in data.columns if name not in ("study_key", "patient_key", "days_since_first_study")]
    if taken := [name for name in added if name in frame.columns]:
        raise UsageError(f"data has columns that the tables have too: {', '.join(taken)}; rename them")
    if data[key].duplicated().any():
        raise UsageError(f"data has several rows for one {key}; keep one, or join by study_key")
    right = data[[key, *added]].astype({key: frame[key].dtype})
    if not right[key].isin(frame[key]).any():
        raise UsageError(
            f"no {key} of data is one of this cohort ({right[key].iloc[0] if len(right) else 'no rows'}; here they look"
            f" like {frame[key].iloc[0] if len(frame) else 'nothing'}): modic link gives the keys of your own table"
        )
    return frame.merge(right, on=key, how="left"), added


def _covariates(frame: pd.DataFrame, data: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """The same, of columns that a model can take; raises UsageError for dates, and for numbers that are text."""
    joined, added = _joined(frame, data)
    for name in added:
        try:
            check_values(joined[name])
        except UsageError as error:
            raise UsageError(f"{error}, or leave {name} out of data") from error
    return joined, added


def _patients_of(cohort: Path) -> pd.DataFrame:
    """study_key and ERROR_COVARIATES of the studies of `cohort`; no rows if it is none."""
    columns = ["study_key", *ERROR_COVARIATES]
    try:
        studies = pd.read_parquet(
            published(cohort) / "studies.parquet", dtype_backend="numpy_nullable", columns=columns
        )
    except UsageError:
        return pd.DataFrame({"study_key": pd.array([], "string")})
    return studies


BOXES = [f"{image}_{edge}" for image in ("t1", "t2") for edge in ("x0", "y0", "x1", "y1", "slice")]
CORNERS = [f"mm_{axis}{corner}" for axis in "xyz" for corner in (0, 1)]
MEASURED = frozenset([*BOXES, *CORNERS, *MARROW_COLUMNS, *STIR_COLUMNS, *ENDPLATE_COLUMNS])
"""Columns of `levels` that say where a level lies, and what was measured there."""


def _in_order(levels: pd.DataFrame) -> pd.DataFrame:
    return levels.assign(level=pd.Categorical(levels["level"], LEVELS, ordered=True))


COUNTED = ("study_key", "patient_key", "level", "level_status", "mc")
"""Columns from which an answer is counted."""
LIKE = 'lambda c: c.prevalence("level")'
"""A question for `CohortData.sensitivity`."""


def _with_bands(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with age_band (decades, up to `90+`) and scanner."""
    decade = frame["age_years"] // 10 * 10
    band = decade.astype("string") + "-" + (decade + 9).astype("string")
    return with_scanner(frame.assign(age_band=band.where(decade.isna() | (decade < OLDEST), f"{OLDEST}+")))


@dataclass(frozen=True)
class CohortData:
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
        columns = [name for name in SCHEMAS["levels"].names if name not in MEASURED]
        return _in_order(self._read("levels", None if self.measured else columns))

    def without_measurements(self) -> "CohortData":
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
        frame = self._six_levels(visits, sure_numbering)
        return frame[frame["level_status"] == "graded"].reset_index(drop=True)

    def _six_levels(self, visits: str, sure_numbering: bool, by: str | Sequence[str] | None = None) -> pd.DataFrame:
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
        of_study = _with_bands(studies.drop(columns=["patient_key", "status", "reason", "detail", "run_id"]))
        names = {by} if isinstance(by, str) else set(by or ())
        if by is not None and names <= {*own.columns, *of_study.columns}:
            own, of_study = (table[[name for name in table if name in {*names, *COUNTED}]] for table in (own, of_study))
        # pandas' merge takes five times as long
        place = pc.index_in(pa.array(own["study_key"]), pa.array(of_study["study_key"])).to_pandas()
        own, place = (part[place.notna().to_numpy()].reset_index(drop=True) for part in (own, place))
        studies = of_study.drop(columns="study_key").take(place.astype(int)).reset_index(drop=True)
        return with_flags(pd.concat([own, studies], axis=1))

    def only(self, keep: pd.Series) -> "CohortData":
        """The same tables with some studies alone; `keep`: bool, one value a row of `studies`.

        Answers by `sql` are still of all studies.
        """
        return replace(self, kept=frozenset(self.studies["study_key"][keep.to_numpy(bool)]))

    def table_one(self) -> pd.DataFrame:
        """Age, sex, scanner and year of graded studies beside those not graded (modic.analysis.table_one)."""
        return table_one(_with_bands(self.studies))

    def missingness(self, by: str | Sequence[str] = ("level", "scanner"), *, visits: str = "first") -> pd.DataFrame:
        """Levels of graded studies without a grade, by why (modic.analysis.table_one.missingness)."""
        return missingness(self._six_levels(visits, False), by)

    def sensitivity(self, question: Callable[["CohortData"], pd.DataFrame], *, fewest: int = 20) -> pd.DataFrame:
        """One answer under several choices: `cohort.sensitivity(lambda c: c.prevalence("level"))`.

        Asks `question` of all graded studies, without uncertain numbering, without suspected transitional vertebrae,
        and of each scanner with `fewest` patients or more. The column `analysis` names the choice; `why` says if one
        cannot be answered. Raises UsageError if none can.
        """
        if not callable(question):
            raise UsageError(f"question is a function of a cohort, as in {LIKE}, not a {type(question).__name__}")
        studies = with_scanner(self.studies)
        graded = studies["status"] == "graded"
        choices = {
            "all graded studies": graded,
            "without uncertain numbering": graded & (studies["level_numbering"] == "ok"),
            "without suspected transitional": graded & ~studies["transitional_suspected"].fillna(False).astype(bool),
        }
        patients = studies[graded].groupby("scanner", dropna=False)["patient_key"].nunique()
        for name in patients[patients >= fewest].index:
            same = studies["scanner"].isna() if pd.isna(name) else studies["scanner"] == name
            choices[f"scanner {'unknown' if pd.isna(name) else name}"] = graded & same
        answers, refused = [], []
        for name, keep in choices.items():
            try:
                answer = question(self.only(keep.fillna(False)))
            except UsageError as error:
                refused.append(str(error))
                answer = pd.DataFrame({"why": refused[-1:]})
            if not isinstance(answer, pd.DataFrame):
                raise UsageError(f"question gives a {type(answer).__name__}; let it give a table, as in {LIKE}")
            answers.append(answer.assign(analysis=name))
        if len(refused) == len(choices):
            raise UsageError(refused[0])
        found = pd.concat(answers, ignore_index=True)
        return found[["analysis", *(column for column in found if column != "analysis")]]

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

        A patient without a hit of whom one level was not decided (abstained, not found, unreadable) is undecided, and
        counted in n_abstained. Since patients with a hit are always decided, the share of the decided would be too
        high: `share` is null as soon as one patient is undecided, and low and high enclose both bounds with their 95 %
        intervals. n_not_graded counts patients without a graded level.
        """
        if unit not in ("levels", "patients"):
            raise UsageError(f"unit is levels or patients, not {unit!r}")
        frame = self._six_levels(visits, sure_numbering, by)
        frame["patient"] = pd.factorize(frame["patient_key"], sort=True)[0]  # numbers are sorted sooner than keys
        rows = []
        for group, members in groups(frame, by):
            counts = _Counts.of(members)
            rows += [{**group, "grade": grade, **_share(counts, types, unit)} for grade, types in PARTS.items()]
        return typed(pd.DataFrame(rows), frame, by)

    def corrected_prevalence(
        self,
        by: str | Sequence[str] = (),
        *,
        method: str = "rogan-gladen",
        unit: str = "levels",
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
            unit: `levels`; or `patients` with the grade at one level or more, by prediction-powered inference from
                patients that `modic review --by patient` drew, of whose first study readers read every graded level.
            validation: the folder that `modic validate` wrote (default: COHORT/validation); or a confusion matrix,
                float (3, 3) or with abstentions (3, 4), true grades as rows; or a frame of its cells (truth,
                predicted, n); or a frame of readings (truth, predicted, and if known patient_key, study_key, level,
                reader, weight, blind). Readings that were not blind are left out.

        An abstention (null in `predicted`) is a fourth answer of the model, in the cohort as in the validation, so none
        is dropped. One row a group and grade: share, low, high, method, n, n_patients, n_read, n_abstained,
        n_not_graded (of patients: those with an abstention, and those without a graded level). A group that cannot be
        corrected, as one of whose levels readers read none, has null instead of a share, and a further column `why`.
        Raises UsageError if the validation can correct no group.
        """
        if method not in METHODS:
            raise UsageError(f"method is one of {', '.join(sorted(METHODS))}, not {method!r}")
        if unit not in ("levels", "patients"):
            raise UsageError(f"unit is levels or patients, not {unit!r}")
        if unit == "patients" and (method != "prediction-powered" or visits != "first"):
            raise UsageError(
                'patients are corrected with method="prediction-powered" and visits="first", from readings of modic'
                " review --by patient; or take cohort.imputed().prevalence(unit='patients')"
            )
        frame = self._six_levels(visits, sure_numbering)
        known = self._validation(validation)
        rows: list[dict[str, Any]] = []
        for group, members in groups(frame, by):
            graded = members[members["level_status"] == "graded"].reset_index(drop=True)
            try:
                found = _corrected_group(graded, known, method, unit)
            except ValueError as error:
                found = not_estimable(graded, known, unit, str(error))
            rows += [{**group, **row, **_open(members, unit)} for row in found]
        if refused := [row for row in rows if "why" in row]:
            if len(refused) == len(rows):
                names = [by] if isinstance(by, str) else list(by)
                of = f" ({', '.join(f'{name} {refused[0][name]}' for name in names)})" if names else ""
                raise UsageError(f"{method}{of}: {refused[0]['why']}")
            rows = [row | {"why": row.get("why")} for row in rows]
        found = typed(pd.DataFrame(rows), frame, by)
        return said(found, "readings") if method == "prediction-powered" else found

    def imputed(
        self,
        m: int = 20,
        *,
        data: pd.DataFrame | None = None,
        validation: Path | pd.DataFrame | None = None,
        visits: str = "first",
        sure_numbering: bool = False,
        seed: int = 0,
        elsewhere: bool = False,
    ) -> Imputed:
        """The true grades of all levels, drawn `m` times from what readers said (modic.analysis.imputed).

        Abstained, not found and unread levels are drawn too; readings of all visits teach. `prevalence`, `association`
        and `estimate` of the answer pool the `m` cohorts by Rubin's rules; `long()` is the table for Stata's mi and R's
        mice.

        Args:
            data: your own covariates, one row a patient (patient_key) or a study (study_key). All its columns go into
                the model: an analysis of a covariate that did not is pulled towards no association.
            validation: the folder that `modic validate` wrote (default: COHORT/validation), or a frame of readings.
            visits, sure_numbering: as in `graded`.
            seed: the same seed draws the same grades.
            elsewhere: nobody read this cohort; `validation` (the folder of another cohort's, a frame of readings with
                level and, if known, age_years, sex and field_strength_t, or a confusion matrix) tells how the grader
                errs there, and is taken to err here (modic.analysis.elsewhere).

        Raises UsageError without enough readings of this cohort's levels, or `elsewhere`, for `m` below 2, of which no
        interval can be known, and for data that hold dates, or numbers as text.
        """
        if m < 2:
            raise UsageError(f"m is the number of imputations, 2 or more (20 for what is published), not {m}")
        if elsewhere:
            frame, added = _covariates(self._six_levels(visits, sure_numbering), data)
            return impute_elsewhere(frame, self._elsewhere(validation), m=m, seed=seed, covariates=added)
        known = self._readings(validation)
        frame, added = _covariates(self._six_levels("all", False), data)
        imputed = impute(frame, known, m=m, seed=seed, covariates=added)
        return imputed.only(pd.Index(self._six_levels(visits, sure_numbering)["study_key"]))

    def association(
        self,
        formula: str,
        *,
        data: pd.DataFrame | None = None,
        naive: bool = False,
        method: str = "imputed",
        scale: str = "odds ratio",
        m: int = 20,
        validation: Path | pd.DataFrame | None = None,
        visits: str = "first",
        sure_numbering: bool = False,
    ) -> pd.DataFrame:
        """Odds ratios of a `formula` over the columns of `graded` and `data`, corrected for the grader's errors.

        Example: `cohort.association("mc2 ~ bmi + age_years + C(level)", data=mine)`. The grades are imputed from the
        readings of `modic validate` (`imputed`), patients are clusters. `naive=True` takes the grades as they are and
        leaves abstentions out: errors then pull odds ratios towards 1, or make some that are not there. Columns and
        errors: `modic.statistics.odds_ratios.odds_ratios`. Raises UsageError without readings, unless `naive`.

        `method="readings"` takes the difference estimator instead (modic.analysis.by_readings): it assumes nothing
        about the model, only that readers read a random sample with the weights of `modic review`; intervals are wider.
        `method="elsewhere"` takes a validation of another place (`imputed(elsewhere=True)`), which `validation` names.
        `scale="difference"` gives differences of shares instead of odds ratios. What was simulated says
        `attrs["simulated"]` of the answer, and README.
        """
        if method not in ("imputed", "readings", "elsewhere"):
            raise UsageError(f"method is imputed, readings or elsewhere, not {method!r}")
        joined = _joined if naive or method == "readings" else _covariates
        graded, _ = joined(self.graded(visits=visits, sure_numbering=sure_numbering), data)
        if naive:
            return said(odds_ratios(graded, formula, scale=scale), "naive")
        try:
            if method == "readings":
                known = self._readings(validation)
            else:
                imputed = self.imputed(
                    m, data=data, validation=validation, visits=visits, sure_numbering=sure_numbering,
                    elsewhere=method == "elsewhere",
                )  # fmt: skip
        except UsageError as error:
            raise UsageError(
                f"{error}. Without readings no odds ratio is corrected; association(…, naive=True) takes the grades as"
                " they are"
            ) from error
        if method == "readings":
            return said(by_readings.association(graded, known, formula, scale=scale), method)
        return imputed.association(formula, scale=scale)

    def changes(
        self,
        *,
        method: str = "imputed",
        validation: Path | pd.DataFrame | None = None,
        m: int = 20,
        sure_numbering: bool = False,
    ) -> pd.DataFrame:
        """What became of each grade from a patient's first to last graded study, corrected for the grader's errors.

        `share` is of the levels with the grade `before` that have `after` later (modic.analysis.visits.change_rows).
        Two visits' errors look like changes, so only patients whom readers read at both visits can tell:
        `modic review --by patient --visits all`. `method`: `imputed` (Imputed.changes) or `readings` (the difference
        estimator). A validation elsewhere cannot tell. Raises UsageError without such readings.
        """
        if method == "imputed":
            imputed = self.imputed(m, validation=validation, visits="all", sure_numbering=sure_numbering)
            return imputed.changes()
        if method != "readings":
            raise UsageError(f"method is imputed or readings, not {method!r}")
        graded = self.graded(visits="all", sure_numbering=sure_numbering)
        return said(by_readings.changes(graded, self._readings(validation)), method)

    def _readings(self, given: Path | pd.DataFrame | None) -> pd.DataFrame:
        """Readings of this cohort's levels. Raises UsageError for a confusion matrix."""
        known = self._validation(given)
        if not isinstance(known, pd.DataFrame):
            raise UsageError("this needs readings of this cohort's own levels, not a confusion matrix")
        return known

    def _elsewhere(self, given: Path | pd.DataFrame | np.ndarray | None) -> pd.DataFrame | np.ndarray:
        """Readings of another place with what is known of their patients, or a confusion matrix."""
        if given is None:
            raise UsageError(
                "validation names the place that was read: the folder that modic validate wrote in another cohort, a"
                " frame of readings, or a confusion matrix"
            )
        known = self._validation(given)
        if isinstance(given, (str, Path)) and isinstance(known, pd.DataFrame):
            return known.merge(_patients_of(Path(given).parent), on="study_key", how="left")
        return known

    def _validation(self, given: Path | pd.DataFrame | np.ndarray | None) -> pd.DataFrame | np.ndarray:
        """Readings, or a confusion matrix. Readings of this cohort's levels get the grades that it holds now."""
        if isinstance(given, (np.ndarray, list, tuple)):
            return confusion_given(given)
        if isinstance(given, (str, Path)) and not Path(given).is_dir():
            raise UsageError(f"{given} is no folder; validation names one that modic validate wrote")
        known = given if isinstance(given, pd.DataFrame) else read_validation(Path(given or self.root / "validation"))
        if missing := {"truth", "predicted"} - set(known.columns):
            raise UsageError(f"the validation lacks {', '.join(sorted(missing))}")
        if "n" in known.columns:
            return confusion_matrix(known)
        readings = blind_readings(checked_readings(known)).reset_index(drop=True)
        if {"study_key", "level"} <= set(readings.columns):
            own = self.levels[["study_key", "level", "mc", "status"]].assign(
                level=self.levels["level"].astype("string")
            )
            joined = readings.drop(columns=["mc", "status"], errors="ignore").merge(
                own, on=["study_key", "level"], how="left"
            )
            graded = (joined["status"] == "graded").to_numpy(bool, na_value=False)
            readings["predicted"] = joined["mc"].where(graded, joined["predicted"]).astype("Int8")
        return readings


def _corrected_group(
    graded: pd.DataFrame, known: pd.DataFrame | np.ndarray, method: str, unit: str
) -> list[dict[str, Any]]:
    """Rows of one group. Raises ValueError if `known` cannot correct it."""
    if graded.empty:
        raise ValueError("no level of it was graded")
    if unit == "patients":
        return corrected_patients(graded, known)
    return corrected_rows(corrected_prevalence(method, graded, known))


def _open(members: pd.DataFrame, unit: str) -> dict[str, int]:
    """Levels (or patients with one) on which the model abstained, and levels (patients) without a grade."""
    graded = (members["level_status"] == "graded").to_numpy(bool)
    abstained, of = graded & members["mc"].isna().to_numpy(bool), members["patient_key"]
    if unit == "levels":
        return {"n_abstained": int(abstained.sum()), "n_not_graded": int((~graded).sum())}
    return {"n_abstained": of[abstained].nunique(), "n_not_graded": of.nunique() - of[graded].nunique()}


@dataclass(frozen=True, slots=True)
class _Counts:
    """Numbers of levels of some studies: (patients,), and `of_type` (CLASSES, patients)."""

    levels: np.ndarray
    graded: np.ndarray
    of_type: np.ndarray

    @classmethod
    def of(cls, members: pd.DataFrame) -> "_Counts":
        """`members`: one row a level."""
        _, patient = np.unique(members["patient"].to_numpy(), return_inverse=True)
        graded = (members["level_status"] == "graded").to_numpy(bool)
        mc = members["mc"].to_numpy(float, na_value=np.nan)
        masks = [np.ones(len(mc)), graded, *(mc == k for k in range(CLASSES))]
        levels, graded, *of_type = (np.bincount(patient, mask).astype(int) for mask in masks)
        return cls(levels, graded, np.array(of_type))


def _share(counts: _Counts, types: tuple[int, ...], unit: str) -> dict[str, Any]:
    """Share of levels (or patients) of one group with a grade of `types`, its interval, its bounds and its counts.

    Of patients, whatever was not graded is undecided too.
    """
    every, graded, hits = counts.levels, counts.graded, counts.of_type[list(types)].sum(0)
    unsure = graded - counts.of_type.sum(0)
    if unit == "patients":
        unsure = (graded > 0) & (hits == 0) & (counts.of_type.sum(0) < every)
        every, graded, hits, unsure = (np.minimum(of, 1).astype(int) for of in (every, graded, hits, unsure))
    n_all, n_hit, n_unsure = (int(of.sum()) for of in (graded, hits, unsure))
    interval = _of_patients_interval if unit == "patients" else _interval
    share, low, high = interval(hits, graded, unsure)
    return {
        "n": n_all - n_unsure,
        "n_hit": n_hit,
        "n_patients": np.count_nonzero(graded - unsure),
        "share": share,
        "low": low,
        "high": high,
        "n_abstained": n_unsure,
        "n_not_graded": int(every.sum()) - n_all,
        "share_at_least": n_hit / n_all if n_all else np.nan,
        "share_at_most": (n_hit + n_unsure) / n_all if n_all else np.nan,
    }


def _interval(hits: np.ndarray, graded: np.ndarray, unsure: np.ndarray) -> tuple[float, float, float]:
    """Share of the decided levels and its ends; of each patient, the number of levels."""
    decided = graded - unsure
    if not decided.any():
        return np.nan, np.nan, np.nan
    found = share_of_counts(hits, decided)
    return found.value, found.low, found.high


def _of_patients_interval(hits: np.ndarray, graded: np.ndarray, unsure: np.ndarray) -> tuple[float, float, float]:
    """Share of patients, if all are decided, and the ends of the interval between the shares that are possible."""
    if not graded.any():
        return np.nan, np.nan, np.nan
    least, most = share_of_counts(hits, graded), share_of_counts(hits + unsure, graded)
    return (np.nan if unsure.any() else least.value), least.low, most.high
