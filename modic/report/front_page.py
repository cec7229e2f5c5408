"""What the report's front page answers: prevalence, raw and corrected, by level, age and sex, beside the literature.

Shares of few people are not shown: with age, sex and a scanner's place they could point at one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modic.analysis.cohort_data import Opened
from modic.analysis.corrected import OWN_READ
from modic.errors import UsageError
from modic.grades import P

FEWEST = 5
"""Patients in a cell of age and sex that is shown."""

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 260, 60, 34, 12
SEXES = {"F": "women", "M": "men"}

PUBLISHED = (
    {
        "population": "Patients with non-specific low back pain or sciatica: median of a systematic review",
        "definition": "any type, by each study's own definition",
        "share": 0.43,
        "source": "Jensen et al., Eur Spine J 2008; 17:1407-1422",
    },
    {
        "population": "Non-clinical samples: median of the same review",
        "definition": "the same",
        "share": 0.06,
        "source": "Jensen et al., Eur Spine J 2008; 17:1407-1422",
    },
    {
        "population": "1,720 patients with low back pain, China",
        "definition": "types 1 to 3, lumbar spine",
        "share": 0.210,
        "source": "Sheng-yun et al., PLoS One 2014; 9:e114993",
    },
    {
        "population": "304 people without symptoms, China",
        "definition": "types 1 to 3, lumbar spine",
        "share": 0.105,
        "source": "Sheng-yun et al., PLoS One 2014; 9:e114993",
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


@dataclass(frozen=True, slots=True)
class Curve:
    """One sex: (x, y, y of the interval's ends, text) of each decade of age, SVG units; decades of few are gaps."""

    sex: str
    points: list[tuple[float, float, float, float, str]]
    lines: list[str]  # `points` of polylines, broken at gaps


def answers(cohort_root: Path) -> dict[str, Any]:
    """Everything of the front page that is more than a count; {} of each where nothing was graded."""
    opened = Opened.of(cohort_root)
    if opened.graded().empty:
        return {
            "overall": [],
            "curves": None,
            "corrected": {},
            "calibration": [],
            "why": "",
            "own_read": 0,
            "published": (),
        }
    corrected, why = _corrected(opened)
    levels, patients = (opened.prevalence(unit=unit).to_dict("records") for unit in ("levels", "patients"))
    overall = [
        {"grade": of["grade"], "levels": of, "patients": have, "corrected": corrected.get(("all", of["grade"]))}
        for of, have in zip(levels, patients, strict=True)
    ]
    return {
        "overall": overall,
        "corrected": corrected,
        "why": why,
        "own_read": OWN_READ,
        "curves": curves(opened.prevalence(["age_band", "sex"], unit="patients")),
        "calibration": calibration(opened) if corrected else [],
        "published": PUBLISHED,
    }


def _corrected(opened: Opened) -> tuple[dict[tuple[str, str], dict[str, Any]], str]:
    """(level or `all`, grade) → share, low, high, method; and, where there is none, why."""
    if not (opened.root / "validation").is_dir():
        return {}, "No validation by readers lies in this cohort (modic validate writes it): nothing can be corrected."
    try:
        rows = opened.corrected_prevalence(method="by-group").assign(level="all").to_dict("records")
    except UsageError as error:
        return {}, f"The validation in this cohort cannot correct these numbers: {error}."
    why = ""
    try:
        rows += opened.corrected_prevalence("level", method="by-group").to_dict("records")
    except UsageError as error:
        why = f"Single levels cannot be corrected: {error}."
    return {(str(row["level"]), str(row["grade"])): row for row in rows}, why


def curves(by_age_and_sex: pd.DataFrame) -> dict[str, Any] | None:
    """Share of patients with MC1 or MC2 by decade of age, women and men; None where no cell has FEWEST patients."""
    any_mc = by_age_and_sex[(by_age_and_sex["grade"] == "MC1 or MC2") & by_age_and_sex["sex"].isin(list(SEXES))]
    any_mc = any_mc[any_mc["age_band"].notna()]
    shown = any_mc[any_mc["n"] >= FEWEST]
    if shown.empty:
        return None
    bands = sorted(shown["age_band"].unique(), key=lambda band: int(band[:2].strip("-+")))
    top = min(1.0, np.ceil(float(shown["high"].max()) * 10) / 10)
    x = {band: LEFT + (i + 0.5) * (WIDTH - LEFT) / len(bands) for i, band in enumerate(bands)}
    found = [_curve(sex, shown[shown["sex"] == sex], bands, x, top) for sex in SEXES]
    marks = [(share, _y(share, top)) for share in np.linspace(0, top, 6)]
    left_out = int(any_mc.loc[any_mc["n"] < FEWEST, "n"].sum())
    return {"curves": found, "x": x, "marks": marks, "left_out": left_out, "width": WIDTH, "height": HEIGHT,
            "left": LEFT, "fewest": FEWEST}  # fmt: skip


def _y(share: float, top: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share / top, 2)


def _curve(sex: str, rows: pd.DataFrame, bands: list[str], x: dict[str, float], top: float) -> Curve:
    known = {row["age_band"]: row for row in rows.to_dict("records")}
    shift = 4 if sex == "M" else -4
    points: list[tuple[float, float, float, float, str]] = []
    lines: list[str] = []
    line: list[str] = []
    for band in [*bands, None]:
        row = known.get(band)
        if row is None:
            lines, line = [*lines, " ".join(line)] if line else lines, []
            continue
        at = round(x[str(band)] + shift, 2)
        share, low, high = (_y(float(row[end]), top) for end in ("share", "low", "high"))
        text = f"{SEXES[sex]} of {band} years: {100 * row['share']:.1f} % of {row['n']:,} patients"
        points.append((at, share, low, high, text))
        line.append(f"{at},{share}")
    return Curve(SEXES[sex], points, lines)


def calibration(opened: Opened) -> list[dict[str, Any]]:
    """Confidence of levels that readers read against how often readers agree; [] where no reading is of this cohort."""
    path = opened.root / "validation" / "readings.parquet"
    if not path.is_file():
        return []
    readings = pd.read_parquet(path, dtype_backend="numpy_nullable", partitioning=None)
    if not {"study_key", "level", "truth"} <= set(readings.columns):
        return []
    own = opened.levels.astype({"level": "string"})[["study_key", "level", "status", *P]]
    read = readings[["study_key", "level", "truth"]].merge(own[own["status"] == "graded"], on=["study_key", "level"])
    read = read[read["truth"].notna()]
    p = read[P].to_numpy(float)
    if not len(p):
        return []
    confidence, right = p.max(1), p.argmax(1) == read["truth"].to_numpy(int)
    bins = np.minimum((confidence * 10).astype(int), 9)
    return [
        {"from": b / 10, "n": int((bins == b).sum()), "said": float(confidence[bins == b].mean()),
         "right": float(right[bins == b].mean())} for b in np.unique(bins)
    ]  # fmt: skip
