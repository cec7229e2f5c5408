"""`modic.open(COHORT)`: the tables of a cohort as pandas, and answers with intervals.

Every answer is about graded levels. Abstentions, and levels that were not found or unreadable, are never dropped
silently: each answer counts them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modic.analysis import as_graded, by_readings
from modic.analysis.corrected import (
    METHODS,
    blind_readings,
    checked_readings,
    confusion_given,
    confusion_matrix,
    corrected_group,
    not_estimable,
    read_validation,
    undecided,
)
from modic.analysis.elsewhere import ERROR_COVARIATES, impute_elsewhere
from modic.analysis.groups import groups, typed
from modic.analysis.imputed import Imputed, impute
from modic.analysis.own_data import covariates, joined
from modic.analysis.run_tables import RunTables, with_bands
from modic.analysis.simulated import said
from modic.analysis.table_one import missingness, table_one, with_scanner
from modic.errors import UsageError
from modic.statistics.odds_ratios import odds_ratios
from modic.tables.query import published

LIKE = 'lambda c: c.prevalence("level")'
"""A question for `CohortData.sensitivity`."""


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


@dataclass(frozen=True)
class CohortData(RunTables):
    """The tables of one finished run, and answers with intervals. Get one from `modic.open`."""

    def table_one(self) -> pd.DataFrame:
        """Age, sex, scanner and year of graded studies beside those not graded (modic.analysis.table_one)."""
        return table_one(with_bands(self.studies))

    def missingness(self, by: str | Sequence[str] = ("level", "scanner"), *, visits: str = "first") -> pd.DataFrame:
        """Levels of graded studies without a grade, by why (modic.analysis.table_one.missingness)."""
        return missingness(self.six_levels(visits, False), by)

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
        return as_graded.prevalence(self.six_levels(visits, sure_numbering, by), by, unit)

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
        frame = self.six_levels(visits, sure_numbering)
        known = self._validation(validation)
        rows: list[dict[str, Any]] = []
        for group, members in groups(frame, by):
            graded = members[members["level_status"] == "graded"].reset_index(drop=True)
            try:
                found = corrected_group(graded, known, method, unit)
            except ValueError as error:
                found = not_estimable(graded, known, unit, str(error))
            rows += [{**group, **row, **undecided(members, unit)} for row in found]
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
            frame, added = covariates(self.six_levels(visits, sure_numbering), data)
            return impute_elsewhere(frame, self._elsewhere(validation), m=m, seed=seed, covariates=added)
        known = self._readings(validation)
        frame, added = covariates(self.six_levels("all", False), data)
        imputed = impute(frame, known, m=m, seed=seed, covariates=added)
        return imputed.only(pd.Index(self.six_levels(visits, sure_numbering)["study_key"]))

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
        beside = joined if naive or method == "readings" else covariates
        graded, _ = beside(self.graded(visits=visits, sure_numbering=sure_numbering), data)
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
            with_own = readings.drop(columns=["mc", "status"], errors="ignore").merge(
                own, on=["study_key", "level"], how="left"
            )
            graded = (with_own["status"] == "graded").to_numpy(bool, na_value=False)
            readings["predicted"] = with_own["mc"].where(graded, with_own["predicted"]).astype("Int8")
        return readings
