"""Prevalence corrected for the errors of the model, from the readings of `modic validate`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modic.errors import UsageError
from modic.grades import GRADES, P
from modic.statistics.prevalence import ABSTAINED, Corrected, confusion_of, prediction_powered, rogan_gladen

METHODS = {"rogan-gladen", "prediction-powered", "by-group"}
OWN_READ = 50
"""Read levels from which a group is corrected by its own readings: intervals from 50 drawn by grade covered 94-97 % of
simulated cohorts with 5 or 0.5 % of MC1; from 50 drawn without regard to the grade 90 % of the latter."""


def blind_readings(readings: pd.DataFrame) -> pd.DataFrame:
    """Without those that were given with the model's grade in sight: they hide its errors."""
    if "blind" not in readings.columns or readings.empty:
        return readings
    blind = readings[readings["blind"].astype("boolean").fillna(True).to_numpy(bool)]
    if blind.empty:
        raise UsageError("every reading was made with the model's grade in sight; modic review draws blind ones")
    return blind


def _said(graded: pd.DataFrame, column: str = "mc") -> np.ndarray:
    """What the model says of each level: 0-2, or ABSTAINED."""
    return graded[column].astype("Int8").fillna(ABSTAINED).to_numpy(int)


def _weights(readings: pd.DataFrame) -> np.ndarray:
    """Of each reading: the level's weight, shared among its readers."""
    weights = readings["weight"].to_numpy(float) if "weight" in readings else np.ones(len(readings))
    if not {"study_key", "level"} <= set(readings.columns):
        return weights
    n_readers: np.ndarray = readings.groupby(["study_key", "level"])["truth"].transform("size").to_numpy(float)
    return weights / n_readers


def corrected_prevalence(method: str, graded: pd.DataFrame, known: pd.DataFrame | np.ndarray) -> Corrected:
    if method == "rogan-gladen":
        return _invert(graded, known)
    if method == "prediction-powered":
        return _power(graded, known)
    drawn = _drawn(known)
    own = graded[["study_key", "level"]].astype("string").merge(drawn[["study_key", "level"]].drop_duplicates())
    return _power(graded, drawn) if len(own) >= OWN_READ else _invert(graded, known)


def _drawn(known: pd.DataFrame | np.ndarray) -> pd.DataFrame:
    """Readings of the one sample of `modic review` that has most: weights of two samples do not add up."""
    if not isinstance(known, pd.DataFrame) or not {"sample_id", "study_key", "level"} <= set(known.columns):
        return pd.DataFrame({"study_key": [], "level": []}, dtype="string")
    drawn = known[known["sample_id"].fillna("") != ""]
    return drawn[drawn["sample_id"].isin(drawn["sample_id"].mode()[:1])]


def _invert(graded: pd.DataFrame, known: pd.DataFrame | np.ndarray) -> Corrected:
    said, patients = _said(graded), graded["patient_key"].to_numpy()
    if isinstance(known, np.ndarray):
        return rogan_gladen(said, patients, known)
    readers = known["patient_key"].to_numpy() if "patient_key" in known else np.arange(len(known))
    table = confusion_of(known["truth"].to_numpy(int), _said(known, "predicted"), readers, _weights(known))
    return replace(rogan_gladen(said, patients, table), n_read=len(known))


def _power(graded: pd.DataFrame, known: pd.DataFrame | np.ndarray) -> Corrected:
    if not isinstance(known, pd.DataFrame) or not {"study_key", "level"} <= set(known.columns):
        raise ValueError("needs readings of this cohort's levels: study_key, level, truth")
    known = known.assign(w=known.get("weight", 1.0))
    shares = [known["truth"].eq(k).groupby([known["study_key"], known["level"]]).mean() for k in range(3)]
    weight = known.groupby(["study_key", "level"])["w"].first()
    place = graded.assign(level=graded["level"].astype("string"), place=np.arange(len(graded)))
    read = pd.concat([*shares, weight], axis=1, keys=[*GRADES, "w"]).reset_index()
    read = read.assign(level=read["level"].astype("string")).merge(place[["study_key", "level", "place"]])
    if read.empty:
        raise ValueError("none of these levels was read")
    return prediction_powered(
        graded[P].to_numpy(float), graded["patient_key"].to_numpy(), read=read["place"].to_numpy(int),
        truth=read[list(GRADES)].to_numpy(float), weights=read["w"].to_numpy(float),
    )  # fmt: skip


def corrected_rows(found: Corrected) -> list[dict[str, Any]]:
    """Of each grade, and of MC1 or MC2, which is all that is not MC0."""
    about = {"method": found.method, "n": found.n, "n_patients": found.n_patients, "n_read": found.n_read}
    ends = [*zip(GRADES, found.share, found.low, found.high, strict=True)]
    ends.append(("MC1 or MC2", 1 - found.share[0], 1 - found.high[0], 1 - found.low[0]))
    return [{"grade": grade, "share": share, "low": low, "high": high, **about} for grade, share, low, high in ends]


def read_validation(folder: Path) -> pd.DataFrame:
    for name in ("readings.parquet", "confusion.parquet"):
        if (folder / name).is_file():
            return pd.read_parquet(folder / name, dtype_backend="numpy_nullable", partitioning=None)
    raise UsageError(f"{folder} holds no validation: run modic validate first, or give a confusion matrix")


def confusion_matrix(cells: pd.DataFrame) -> np.ndarray:
    """(3, 4) of cells (truth, predicted, n and, where the sample was weighted, weight).

    Rows keep their weighted shares and their number of readings.
    """
    table, weighted = np.zeros((3, 4)), np.zeros((3, 4))
    sure = cells[cells["truth"].notna()]
    at = (sure["truth"].to_numpy(int), _said(sure, "predicted"))
    np.add.at(table, at, sure["n"].to_numpy(float))
    np.add.at(weighted, at, sure["weight" if "weight" in sure else "n"].to_numpy(float))
    totals = np.maximum(weighted.sum(1, keepdims=True), 1e-12)
    return weighted / totals * table.sum(1, keepdims=True)
