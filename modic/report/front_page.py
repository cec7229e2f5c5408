"""What the report answers first: prevalence as graded and corrected, by level, age and sex, beside the literature.

Shares of few patients are not shown: age, sex and the place of a scanner could point at a person.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modic.analysis.as_graded import prevalence
from modic.analysis.cohort_data import CohortData
from modic.analysis.corrected import OWN_READ, reference
from modic.analysis.imputed import Imputed
from modic.errors import UsageError
from modic.grades import PARTS, P
from modic.statistics.prevalence import Method

FEWEST = 5
"""Fewest patients of one age and sex whose share is shown."""

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 276, 60, 34, 28
SEXES = {"F": "women", "M": "men"}
AGE_AND_SEX = ["age_band", "sex"]
ANY_CHANGE = list(PARTS)[-1]

REVIEW = "Jensen et al., Eur Spine J 2008; 17:1407-1422"
CHINA = "Sheng-yun et al., PLoS One 2014; 9:e114993"
PUBLISHED = (
    {
        "population": "Patients with non-specific low back pain or sciatica: median of a systematic review",
        "definition": "any type, by each study's own definition",
        "share": 0.43,
        "source": REVIEW,
    },
    {
        "population": "Non-clinical samples: median of the same review",
        "definition": "the same",
        "share": 0.06,
        "source": REVIEW,
    },
    {
        "population": "1,720 patients with low back pain, China",
        "definition": "types 1 to 3, lumbar spine",
        "share": 0.210,
        "source": CHINA,
    },
    {
        "population": "304 people without symptoms, China",
        "definition": "types 1 to 3, lumbar spine",
        "share": 0.105,
        "source": CHINA,
    },
    {
        "population": "2,449 volunteers of the population, southern China",
        "definition": "any type, lumbar spine, on sagittal T2 alone",
        "share": 0.058,
        "source": "Mok et al., Spine J 2016; 16:32-41",
    },
    {
        "population": "561 men of a twin registry, mean age 50, Finland",
        "definition": "types 1 to 3 and mixed, all lumbar endplates",
        "share": 0.556,
        "source": "Wang et al., Spine J 2012; 12:411-416",
    },
)
"""Share of people with Modic change at one level or more, as the abstracts of these papers give it."""

Row = dict[str, Any]
NOTHING: Row = {
    "overall": [], "curves": None, "corrected": {}, "calibration": [], "why": "", "own_read": 0, "fewest": FEWEST,
    "published": (), "imputed_from": 0,
}  # fmt: skip
"""The answers of a cohort without a graded level."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Shares of one sex by decade of age. A point is (x, y or None, y of both ends of its bar, text), in SVG units."""

    sex: str
    points: list[tuple[float, float | None, float, float, str]]
    lines: list[str]  # `points` of polylines; a decade without a single share interrupts the line


def answers(cohort_root: Path) -> Row:
    """The part of the report that statistics fill in; `NOTHING` if no level was graded."""
    cohort = CohortData.of(cohort_root).without_measurements()
    if not (cohort.levels["status"] == "graded").any():
        return NOTHING
    corrected, why = _corrected(cohort)
    frame = cohort.six_levels("first", sure_numbering=False, by=AGE_AND_SEX)
    levels, patients = (prevalence(frame, (), unit).to_dict("records") for unit in ("levels", "patients"))
    imputed = _imputed(cohort)
    true = {row["grade"]: row for row in imputed.prevalence(unit="patients").to_dict("records")} if imputed else {}
    overall = [
        {"grade": level["grade"], "levels": level, "patients": patient,
         "corrected": corrected.get(("all", level["grade"])), "patients_corrected": true.get(level["grade"])}
        for level, patient in zip(levels, patients, strict=True)
    ]  # fmt: skip
    return {
        "overall": overall,
        "corrected": corrected,
        "why": why,
        "own_read": OWN_READ,
        "fewest": FEWEST,
        "imputed_from": imputed.n_read if imputed else 0,
        "curves": curves(_by_age_and_sex(frame, imputed)),
        "calibration": calibration(cohort) if corrected else [],
        "published": PUBLISHED,
    }


def _corrected(cohort: CohortData) -> tuple[dict[tuple[str, str], Row], str]:
    """(level or `all`, grade) → share, low, high and what they rest on; and why shares are missing."""
    if not (cohort.root / "validation").is_dir():
        return {}, "No reader has validated this cohort yet (modic validate), so nothing can be corrected."
    try:
        rows = cohort.corrected_prevalence(method="by-group").assign(level="all").to_dict("records")
    except UsageError as error:
        return {}, f"The validation in this cohort cannot correct these numbers: {error}."
    why = ""
    try:
        rows += cohort.corrected_prevalence("level", method="by-group").to_dict("records")
    except UsageError as error:
        why = f"Single levels cannot be corrected: {error}."
    without = dict.fromkeys(f"{row['level']}: {row['why']}" for row in rows if np.isnan(row["share"]) and row["n"])
    if without:
        why = f"Levels that cannot be corrected: {'; '.join(without)}."
    own = Method.PREDICTION_POWERED
    shown = [row | {"by_own": row["method"] == own} for row in rows if not np.isnan(row["share"])]
    return {(str(row["level"]), str(row["grade"])): row for row in shown}, why


def _imputed(cohort: CohortData) -> Imputed | None:
    """The true grades, drawn from what readers said of this cohort; None without enough readings."""
    try:
        return cohort.imputed()
    except UsageError:
        return None


def _by_age_and_sex(frame: pd.DataFrame, imputed: Imputed | None) -> pd.DataFrame:
    if imputed is None:
        return prevalence(frame, AGE_AND_SEX, "patients")
    shares = imputed.prevalence(AGE_AND_SEX, unit="patients")
    return shares.assign(n_abstained=0, share_at_least=shares["share"], share_at_most=shares["share"])


def curves(by_age_and_sex: pd.DataFrame) -> Row | None:
    """Share of patients with MC1 or MC2 by decade of age, women and men; None if no group has FEWEST patients.

    `by_age_and_sex`: prevalence by age_band and sex, of patients.
    """
    any_mc = by_age_and_sex[(by_age_and_sex["grade"] == ANY_CHANGE) & by_age_and_sex["sex"].isin(list(SEXES))]
    any_mc = any_mc[any_mc["age_band"].notna()]
    patients = any_mc["n"] + any_mc["n_abstained"]
    shown = any_mc[patients >= FEWEST]
    if shown.empty:
        return None
    bands = sorted(shown["age_band"].unique())  # 0-9, 10-19, …, 90+
    top = min(1.0, np.ceil(float(shown["high"].max()) * 10) / 10)
    x = {band: LEFT + (i + 0.5) * (WIDTH - LEFT) / len(bands) for i, band in enumerate(bands)}
    marks = [(share, _y(share, top)) for share in np.linspace(0, top, 6)]
    return {
        "curves": [_curve(sex, shown[shown["sex"] == sex], bands, x, top) for sex in SEXES],
        "x": x,
        "marks": marks,
        "left_out": int(patients[patients < FEWEST].sum()),
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "fewest": FEWEST,
    }


def _y(share: float, top: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share / top, 2)


def _curve(sex: str, rows: pd.DataFrame, bands: list[str], x: dict[str, float], top: float) -> Curve:
    of_band = {row["age_band"]: row for row in rows.to_dict("records")}
    shift = 4 if sex == "M" else -4  # so that the bars of women and men do not cover each other
    points: list[tuple[float, float | None, float, float, str]] = []
    lines: list[list[str]] = [[]]
    for band in bands:
        row = of_band.get(band)
        if row is None:
            lines.append([])
            continue
        at = round(x[band] + shift, 2)
        low, high = (_y(float(row[end]), top) for end in ("low", "high"))
        bounds = sorted({f"{100 * row[name]:.1f}" for name in ("share_at_least", "share_at_most")}, key=float)
        patients = row["n"] + row["n_abstained"]
        text = f"{SEXES[sex]} of {band} years: {' to '.join(bounds)} % of {patients:,} patients"
        share = None if np.isnan(row["share"]) else _y(float(row["share"]), top)
        points.append((at, share, low, high, text))
        if share is None:
            lines.append([])
        else:
            lines[-1].append(f"{at},{share}")
    return Curve(SEXES[sex], points, [" ".join(line) for line in lines if line])


def calibration(cohort: CohortData) -> list[Row]:
    """Confidence of levels that readers read, and how often readers agree, by tenths of confidence.

    Empty if no reading is of a graded level of this cohort.
    """
    path = cohort.root / "validation" / "readings.parquet"
    if not path.is_file():
        return []
    readings = reference(pd.read_parquet(path, dtype_backend="numpy_nullable", partitioning=None))
    if not {"study_key", "level", "truth"} <= set(readings.columns):
        return []
    own = cohort.levels.astype({"level": "string"})[["study_key", "level", "status", *P]]
    read = readings[["study_key", "level", "truth"]].merge(own[own["status"] == "graded"], on=["study_key", "level"])
    read = read[read["truth"].notna()]
    p = read[P].to_numpy(float)
    if not len(p):
        return []
    confidence, agrees = p.max(1), p.argmax(1) == read["truth"].to_numpy(int)
    tenth = np.minimum((confidence * 10).astype(int), 9)
    inside = {lowest / 10: tenth == lowest for lowest in np.unique(tenth)}
    return [
        {"from": lowest, "n": int(of.sum()), "confidence": float(confidence[of].mean()),
         "agreement": float(agrees[of].mean())} for lowest, of in inside.items()
    ]  # fmt: skip
