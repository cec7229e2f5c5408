"""Prevalence of a cohort, corrected for the model's errors with the readings of `modic validate`.

Tables in, `modic.statistics.prevalence` behind. `graded` is always a frame of graded levels (study_key, level,
patient_key, mc, p_mc…); `known` a frame of readings (truth, predicted, …) or a confusion matrix.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modic.errors import UsageError
from modic.grades import CLASSES, GRADES, PARTS, P
from modic.labels.level_names import disc_rank, name_of
from modic.records import LEVELS
from modic.statistics.difference import Read
from modic.statistics.patient_shares import OUTCOMES, patient_shares, patients_of, whole_readings
from modic.statistics.prevalence import (
    ABSTAINED,
    Corrected,
    Method,
    confusion_of,
    prediction_powered,
    rogan_gladen,
)
from modic.text import counted

METHODS = {"rogan-gladen", "prediction-powered", "by-group"}
OWN_READ = 50
"""Fewest read levels with which a group is corrected by its own readings. In simulated cohorts with 5 or 0.5 % of MC1,
intervals from 50 levels drawn by grade covered 94-97 %; from 50 drawn at random they covered 90 % at 0.5 %."""


WHOLE = {"unit", "study_key", "patient_key", "level", "reader"}
"""Columns of readings that tell which patients were drawn and read whole."""


def reference(readings: pd.DataFrame) -> pd.DataFrame:
    """The readings that count as the truth: no repeats, and none that an arbiter overruled."""
    if "reference" not in readings.columns:
        return readings
    return readings[readings["reference"].fillna(True).to_numpy(bool)]


def checked_readings(readings: pd.DataFrame) -> pd.DataFrame:
    """The readings that give a grade, in the types and with the level names of the tables.

    Raises UsageError for a truth other than 0, 1, 2 or none, weights that are none, or a level that is none.
    """
    truth = pd.to_numeric(readings["truth"], errors="coerce")
    wrong = readings["truth"].notna() & ~truth.isin(range(CLASSES)).fillna(False).astype(bool)
    if wrong.any():
        raise UsageError(
            f"truth holds {readings['truth'][wrong].iloc[0]} ({counted(int(wrong.sum()), 'reading')}); it is 0, 1 or 2,"
            " or empty for what is no grade"
        )
    given = readings.assign(truth=truth.astype("Float64").astype("Int64"))[readings["truth"].notna()]
    for name in {"study_key", "patient_key"} & set(given.columns):
        given[name] = given[name].astype("string")
    if "weight" in given and len(given):
        weights = given["weight"].astype("Float64").to_numpy(float, na_value=np.nan)
        if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
            raise UsageError("weight of a reading is how many levels it stands for: a number above 0")
    return given if "level" not in given else given.assign(level=_level_names(given["level"]))


def _level_names(levels: pd.Series) -> pd.Series:
    """Their names in the tables; they may be written as `modic validate` reads them (`L4L5`)."""
    ranks = {text: disc_rank(str(text)) for text in levels.unique()}
    if unknown := [text for text, rank in ranks.items() if rank is None or name_of(rank) < 0]:
        raise UsageError(f"{unknown[0]} is no level that is graded: {', '.join(LEVELS)}")
    return levels.map({text: LEVELS[name_of(rank or 0)] for text, rank in ranks.items()}).astype("string")


def blind_readings(readings: pd.DataFrame) -> pd.DataFrame:
    """The readings made without seeing the model's grade; others hide its errors. Raises UsageError if none is left."""
    if "blind" not in readings.columns or readings.empty:
        return readings
    blind = readings[readings["blind"].astype("boolean").fillna(True).to_numpy(bool)]
    if blind.empty:
        raise UsageError("every reading was made with the model's grade in sight; modic review makes blind readings")
    return blind


def answers(graded: pd.DataFrame, column: str = "mc") -> np.ndarray:
    """The model's answer for each level, int (n,): a grade or ABSTAINED."""
    return graded[column].astype("Int8").fillna(ABSTAINED).to_numpy(int)


def reading_weights(readings: pd.DataFrame) -> np.ndarray:
    """Weight of each reading (n,): that of its level, shared among the readers of the level."""
    weights = readings["weight"].to_numpy(float) if "weight" in readings else np.ones(len(readings))
    return weights * _shares(readings)


def _shares(readings: pd.DataFrame) -> np.ndarray:
    """What part of its level's readings each is (n,), 0-1."""
    if not {"study_key", "level"} <= set(readings.columns):
        return np.ones(len(readings))
    n_readers: np.ndarray = readings.groupby(["study_key", "level"])["truth"].transform("size").to_numpy(float)
    return 1 / n_readers


def corrected_prevalence(method: str, graded: pd.DataFrame, known: pd.DataFrame | np.ndarray) -> Corrected:
    """By one of METHODS; `by-group` takes `graded` as one group. Raises ValueError if `known` cannot correct it."""
    if method == "rogan-gladen":
        return _invert(graded, known)
    if method == "prediction-powered":
        return _power(graded, known)
    drawn = _drawn(known)
    own = graded[["study_key", "level"]].astype("string").merge(drawn[["study_key", "level"]].drop_duplicates())
    return _power(graded, drawn) if len(own) >= OWN_READ else _invert(graded, known)


def _drawn(known: pd.DataFrame | np.ndarray) -> pd.DataFrame:
    """Readings of discs that `modic review` drew. Weights of several samples add up since they are combined (`drawn`);
    of discs and of patients together, or in files of before, those of the sample with the most readings."""
    if not isinstance(known, pd.DataFrame) or not {"sample_id", "study_key", "level"} <= set(known.columns):
        return pd.DataFrame({"study_key": [], "level": []}, dtype="string")
    drawn = known[known["sample_id"].fillna("") != ""]
    if "drawn" in known.columns and drawn["unit"].nunique() == 1:
        return drawn
    return drawn[drawn["sample_id"].isin(drawn["sample_id"].mode()[:1])]


def _invert(graded: pd.DataFrame, known: pd.DataFrame | np.ndarray) -> Corrected:
    """Rogan-Gladen."""
    said, patients = answers(graded), graded["patient_key"].to_numpy()
    if isinstance(known, np.ndarray):
        return rogan_gladen(said, patients, known)
    readers = known["patient_key"].to_numpy() if "patient_key" in known else np.arange(len(known))
    truth, shares = known["truth"].to_numpy(int), _shares(known)
    table = confusion_of(truth, answers(known, "predicted"), readers, reading_weights(known), shares)
    return replace(rogan_gladen(said, patients, table), n_read=round(shares.sum()))


def _power(graded: pd.DataFrame, known: pd.DataFrame | np.ndarray) -> Corrected:
    """Prediction-powered inference."""
    read = read_levels(graded, known)
    return prediction_powered(
        graded[P].to_numpy(float), graded["patient_key"].to_numpy(), read=read.place, truth=read.truth,
        weights=read.weights,
    )  # fmt: skip


def corrected_patients(graded: pd.DataFrame, known: pd.DataFrame | np.ndarray) -> list[dict[str, Any]]:
    """One row of each outcome of patients: share, low, high, method, n, n_patients, n_read, n_not_whole.

    `graded`: of one study a patient. Raises ValueError without patients that were drawn and read whole.
    """
    if not isinstance(known, pd.DataFrame) or not set(known.columns) >= WHOLE:
        raise ValueError("needs readings of whole patients of this cohort (modic review --by patient, modic validate)")
    found = patient_shares(graded, known)
    about = {"method": Method.PREDICTION_POWERED.value, "n": found.n_patients, "n_patients": found.n_patients}
    about |= {"n_read": found.n_read, "n_not_whole": found.n_not_whole}
    return [
        {"grade": name, "share": share, "low": low, "high": high, **about}
        for name, share, low, high in zip(OUTCOMES, *found.ends, strict=True)
    ]


def read_levels(graded: pd.DataFrame, known: pd.DataFrame | np.ndarray) -> Read:
    """The read levels of `graded`: share of readers who gave each type. Raises ValueError if there is none."""
    if not isinstance(known, pd.DataFrame) or not {"study_key", "level"} <= set(known.columns):
        raise ValueError("needs readings of this cohort's levels: study_key, level, truth")
    known = known.assign(w=known.get("weight", 1.0))
    shares = [known["truth"].eq(k).groupby([known["study_key"], known["level"]]).mean() for k in range(CLASSES)]
    weight = known.groupby(["study_key", "level"])["w"].first()
    place = graded.assign(level=graded["level"].astype("string"), place=np.arange(len(graded)))
    read = pd.concat([*shares, weight], axis=1, keys=[*GRADES, "w"]).reset_index()
    read = read.assign(level=read["level"].astype("string")).merge(place[["study_key", "level", "place"]])
    if read.empty:
        raise ValueError("no reader read one of these levels")
    return Read(read["place"].to_numpy(int), read[list(GRADES)].to_numpy(float), read["w"].to_numpy(float))


def corrected_rows(result: Corrected) -> list[dict[str, Any]]:
    """One row of each grade, and one of any Modic change (all that is not MC0)."""
    about = {
        "method": result.method.value,
        "n": result.n,
        "n_patients": result.n_patients,
        "n_read": result.n_read,
    }
    shares = [*zip(GRADES, result.share, result.low, result.high, strict=True)]
    shares.append((list(PARTS)[-1], 1 - result.share[0], 1 - result.high[0], 1 - result.low[0]))
    return [{"grade": grade, "share": share, "low": low, "high": high, **about} for grade, share, low, high in shares]


def not_estimable(graded: pd.DataFrame, known: pd.DataFrame | np.ndarray, unit: str, why: str) -> list[dict[str, Any]]:
    """The rows of a group (graded levels) that cannot be corrected, as of `corrected_rows` or `corrected_patients`."""
    about: dict[str, Any] = {
        "method": None,
        "n": len(graded),
        "n_patients": graded["patient_key"].nunique(),
        "n_read": 0,
    }
    if unit == "patients":
        about |= {"n": about["n_patients"], "n_not_whole": 0}
        if isinstance(known, pd.DataFrame) and set(known.columns) >= WHOLE and len(graded):
            read, about["n_not_whole"] = whole_readings(patients_of(graded), known)
            about["n_read"] = len(read.place)
    elif isinstance(known, pd.DataFrame) and {"study_key", "level"} <= set(known.columns):
        keys = ["study_key", "level"]
        about["n_read"] = len(graded[keys].astype("string").merge(known[keys].astype("string").drop_duplicates()))
    nothing = dict.fromkeys(("share", "low", "high"), np.nan)
    return [{"grade": grade, **nothing, **about, "why": why} for grade in (OUTCOMES if unit == "patients" else PARTS)]


def read_validation(folder: Path) -> pd.DataFrame:
    """Readings that `modic validate` wrote, or else its confusion matrix. Raises UsageError if there is neither."""
    for name in ("readings.parquet", "confusion.parquet"):
        if (folder / name).is_file():
            return reference(pd.read_parquet(folder / name, dtype_backend="numpy_nullable", partitioning=None))
    own = folder / "validation"
    hint = f"name {own}" if own.is_dir() else "run modic validate first"
    raise UsageError(f"{folder} holds no validation: {hint}")


def confusion_matrix(cells: pd.DataFrame) -> np.ndarray:
    """(classes, classes + 1) of cells (truth, predicted, n and, if the sample was weighted, weight).

    Each row keeps its weighted shares and its number of readings.
    """
    table, weighted = np.zeros((2, CLASSES, CLASSES + 1))
    sure = cells[cells["truth"].notna()]
    at = (sure["truth"].to_numpy(int), answers(sure, "predicted"))
    np.add.at(table, at, sure["n"].to_numpy(float))
    np.add.at(weighted, at, sure["weight" if "weight" in sure else "n"].to_numpy(float))
    totals = np.maximum(weighted.sum(1, keepdims=True), 1e-12)
    return weighted / totals * table.sum(1, keepdims=True)


def confusion_given(table: Any) -> np.ndarray:
    """float (classes, classes) or, with abstentions, (classes, classes + 1). Raises UsageError for another table."""
    try:
        given = np.asarray(table, float)
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given.shape not in ((CLASSES, CLASSES), (CLASSES, CLASSES + 1)) or not (np.isfinite(given) & (given >= 0)).all():
        raise UsageError(
            f"a confusion matrix has {CLASSES} rows (true grades) and {CLASSES} columns (the model's), or one more of"
            " abstentions, of numbers of readings"
        )
    return given


def corrected_group(
    graded: pd.DataFrame, known: pd.DataFrame | np.ndarray, method: str, unit: str
) -> list[dict[str, Any]]:
    """Rows of one group. Raises ValueError if `known` cannot correct it."""
    if graded.empty:
        raise ValueError("no level of it was graded")
    if unit == "patients":
        return corrected_patients(graded, known)
    return corrected_rows(corrected_prevalence(method, graded, known))


def undecided(members: pd.DataFrame, unit: str) -> dict[str, int]:
    """Levels (or patients with one) on which the model abstained, and levels (patients) without a grade."""
    graded = (members["level_status"] == "graded").to_numpy(bool)
    abstained, of = graded & members["mc"].isna().to_numpy(bool), members["patient_key"]
    if unit == "levels":
        return {"n_abstained": int(abstained.sum()), "n_not_graded": int((~graded).sum())}
    return {"n_abstained": of[abstained].nunique(), "n_not_graded": of.nunique() - of[graded].nunique()}
