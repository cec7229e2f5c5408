"""Table 1 of a paper: who was graded and who was not, and where grades are missing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from modic.analysis.groups import groups, typed
from modic.tables.strata import UNKNOWN, scanner_name

NUMBERS = ("age_years", "study_year")
SCANNER = ("manufacturer", "scanner_model")
KINDS = ("sex", "scanner", "field_strength_t", "age_band")


def with_scanner(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the column scanner: manufacturer and model, null if neither is known."""
    texts = frame[list(SCANNER)].astype("string").fillna("")
    codes, kinds = pd.factorize(texts[SCANNER[0]] + "\0" + texts[SCANNER[1]])
    names = [scanner_name(dict(zip(SCANNER, kind.split("\0"), strict=True))) or None for kind in kinds]
    return frame.assign(scanner=pd.array(names, "string").take(codes))


def table_one(studies: pd.DataFrame) -> pd.DataFrame:
    """Graded studies beside those that were not (excluded or failed).

    Args:
        studies: one row a study: status, patient_key, age_band, scanner, and the columns of NUMBERS and KINDS.

    One row a variable and value. Of numbers: mean (`graded`, `not_graded`) and standard deviation (`…_spread`); of
    kinds: the count and the share. `standardized_difference` stands in the first row of each variable: difference of
    means over the root of the mean variance; of kinds the distance of all shares (Yang and Dalton, SAS Global Forum
    2012, paper 335). Above 0.1 groups differ (Austin, Stat. Med. 28 (2009) 3083-3107).
    """
    graded = studies["status"] == "graded"
    parts = studies[graded], studies[~graded]
    rows = [_row("studies", "n", *(float(len(part)) for part in parts))]
    rows.append(_row("patients", "n", *(float(part["patient_key"].nunique()) for part in parts)))
    for name in NUMBERS:
        rows += _numbers(name, *(part[name].astype("Float64").to_numpy(float, na_value=np.nan) for part in parts))
    for name in KINDS:
        rows += _kinds(name, *(part[name].astype("string").fillna(UNKNOWN) for part in parts))
    return pd.DataFrame(rows)


def _row(variable: str, value: str, graded: float, other: float, **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("graded_spread", "not_graded_spread", "standardized_difference"), np.nan)
    return {"variable": variable, "value": value, "graded": graded, "not_graded": other, **empty, **more}


def _numbers(name: str, a: np.ndarray, b: np.ndarray) -> list[dict[str, Any]]:
    unknown = [int(np.isnan(values).sum()) for values in (a, b)]
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    means = [float(v.mean()) if len(v) else np.nan for v in (a, b)]
    spreads = [float(v.std(ddof=1)) if len(v) > 1 else np.nan for v in (a, b)]
    pooled = np.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 2)
    difference = (means[0] - means[1]) / pooled if pooled > 0 else np.nan
    more = dict(zip(("graded_spread", "not_graded_spread"), spreads, strict=True))
    rows = [_row(name, "mean", *means, **more, standardized_difference=difference)]
    return rows + ([_row(name, UNKNOWN, *map(float, unknown))] if any(unknown) else [])


def _kinds(name: str, a: pd.Series, b: pd.Series) -> list[dict[str, Any]]:
    values = sorted(set(a) | set(b))
    counts = np.array([[(part == value).sum() for value in values] for part in (a, b)], float).reshape(2, -1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    distance = _distance(*shares) if len(a) and len(b) else np.nan
    return [
        _row(name, value, *counts[:, i], graded_spread=shares[0, i], not_graded_spread=shares[1, i],
             standardized_difference=distance if i == 0 else np.nan)
        for i, value in enumerate(values)
    ]  # fmt: skip


def _distance(p: np.ndarray, q: np.ndarray) -> float:
    """Yang and Dalton's distance of two sets of shares that sum to 1."""
    p, q = p[1:], q[1:]
    covariance = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    return float(np.sqrt(max((p - q) @ np.linalg.pinv(covariance) @ (p - q), 0.0)))


def missingness(frame: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """One row a group of levels: how many there are, and the shares without a grade, by why.

    `frame`: one row a level of a graded study: level_status, mc, and the columns `by`. n = n_decided + n_abstained +
    n_not_found + n_unreadable; `share_missing` is of all that were not decided.
    """
    rows = []
    for group, members in groups(frame, by):
        status, n = members["level_status"], len(members)
        counts = {
            "n": n,
            "n_patients": members["patient_key"].nunique(),
            "n_decided": int(members["mc"].notna().sum()),
            "n_abstained": int(((status == "graded") & members["mc"].isna()).sum()),
            "n_not_found": int((status == "not_found").sum()),
            "n_unreadable": int((status == "unreadable").sum()),
        }
        rows.append({**group, **counts, "share_missing": 1 - counts["n_decided"] / n})
    return typed(pd.DataFrame(rows), frame, by)
