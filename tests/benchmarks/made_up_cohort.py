"""What a paper prints first, from a made-up cohort whose truth is known: `python tests/benchmarks/made_up_cohort.py`

5,000 studies of 3,530 patients (tests/benchmarks/imputation.py simulates them), published as a run publishes tables,
and asked through `modic.open`: as graded, with readings of 600 levels drawn by the grader's answer, and with readings
of 150 whole patients at all visits. Prints the table of modic/analysis/README.md.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "support")]

from benchmarks.imputation import read, read_patients, simulate, with_grades  # noqa: E402

import modic  # noqa: E402
from made_cohort import MODELS, RUN, run  # noqa: E402
from modic.analysis.cohort_data import CohortData  # noqa: E402
from modic.analysis.imputed import Imputed  # noqa: E402
from modic.errors import UsageError  # noqa: E402
from modic.statistics.odds_ratios import odds_ratios  # noqa: E402
from modic.tables.query import run_checks  # noqa: E402
from modic.tables.schema import SCHEMAS  # noqa: E402
from modic.tables.store import publish  # noqa: E402

PATIENTS, STUDIES = 3530, 5000
AGE = "mc2 ~ age_years + C(level, Treatment('L1/L2'))"
FORMULA = {"odds ratio of MC2, a year of age": "age_years", "…, L5/S1 against L1/L2": "[T.L5/S1]"}


def made_up(seed: int = 0, patients: int = PATIENTS, studies: int = STUDIES) -> pd.DataFrame:
    """One row a level, as `simulate` makes them; the first `studies - patients` patients have two visits."""
    frame = simulate(np.random.default_rng(seed), patients, 2, base=-3.1)
    number = frame["patient_key"].str[1:].astype(int)
    frame = frame[(frame["days_since_first_study"] == 0) | (number < studies - patients)]
    keys = {name: frame[name].str.replace(r"\D", "", regex=True).str.zfill(16) for name in ("patient_key", "study_key")}
    columns = {"patient_key": "p_" + keys["patient_key"], "study_key": "s_" + keys["study_key"]}
    return frame.assign(**columns, age_years=frame["age_years"].astype(int)).reset_index(drop=True)


def publish_it(root: Path, frame: pd.DataFrame) -> CohortData:
    """The cohort as tables at `root`."""
    one = frame.drop_duplicates("study_key")
    number = one["study_key"].str[2:]
    series = pd.concat(
        [
            pd.DataFrame({"series_key": f"r_{i}" + number.str[1:], "study_key": one["study_key"], "role": role})
            for i, role in enumerate(("t1", "t2"))
        ]
    ).assign(role_evidence="SE", plane="sagittal", n_slices=15, status="used", run_id=RUN)
    own = ["study_key", "patient_key", "age_years", "sex", "field_strength_t", "days_since_first_study"]
    studies = one[own].assign(
        study_year=2015 + one["days_since_first_study"] // 365, status="graded", n_levels_graded=6, reason=None,
        level_numbering="ok", level_numbering_probability=0.98, numbering_basis="sacrum", in_archive=True,
        t1_series_key="r_0" + number.str[1:], t2_series_key="r_1" + number.str[1:], overlap_fraction=1.0, run_id=RUN,
        transitional_suspected=False, transitional_probability=0.05,
    )  # fmt: skip
    p = frame[["p_mc0", "p_mc1", "p_mc2"]].to_numpy()
    mc, likely = frame["mc"].astype("Int8"), p.argmax(1)
    sets = [[int(k)] if sure else [0, int(k) or 1] for k, sure in zip(likely, mc.notna(), strict=True)]
    boxes = {
        f"{n}_{c}{i}": 10.0 * (i + 1)
        for n, axes in (("t2", "xy"), ("t1", "xy"), ("mm", "xyz"))
        for c in axes
        for i in (0, 1)
    }
    places = -35.0 * frame.groupby("study_key").cumcount()
    levels = frame[["study_key", "patient_key", "level", "p_mc0", "p_mc1", "p_mc2"]].assign(
        status="graded", mc=mc, confidence=p.max(1), prediction_set=sets, abstained=mc.isna(), level_score=0.9,
        t2_slice=7, t1_slice=7, normalization="standardize", run_id=RUN, **MODELS, **boxes,
    ).assign(mm_z0=places, mm_z1=places - 12, t2_y0=-places, t2_y1=12 - places)  # fmt: skip
    rows = {
        "studies": studies,
        "series": series,
        "levels": levels,
        "runs": pd.DataFrame([run(studies.to_dict("records"))]),
    }
    publish(root, {name: _table(name, part) for name, part in rows.items()}, RUN)
    if broken := [name for name, found in run_checks(root).items() if found]:
        raise SystemExit(f"checks fail: {broken}")
    return modic.open(root)


def _table(name: str, frame: pd.DataFrame) -> pa.Table:
    schema = SCHEMAS[name]
    missing = {field.name: None for field in schema if field.name not in frame}
    return pa.Table.from_pandas(frame.assign(**missing)[schema.names], schema=schema, preserve_index=False)


Answers = dict[str, str]


def share(rows: pd.DataFrame, grade: str) -> str:
    """`50.1 (48.2-52.0) %` of one grade; bounds if there is no single share."""
    row = rows.set_index("grade").loc[grade]
    ends = f"({100 * row['low']:.1f}-{100 * row['high']:.1f})"
    return f"between {ends} %" if np.isnan(row["share"]) else f"{100 * row['share']:.1f} {ends} %"


def ratios(found: pd.DataFrame) -> Answers:
    """The odds ratios of FORMULA."""
    rows = {}
    for name, term in FORMULA.items():
        row = found[found["term"].str.endswith(term)].iloc[0]
        rows[name] = f"{row['odds_ratio']:.3g} ({row['low']:.3g}-{row['high']:.3g})"
    return rows


def asked(prevalence: Callable[..., pd.DataFrame], association: Callable[[str], pd.DataFrame]) -> Answers:
    """The questions of the table; what cannot be answered says why in a word."""
    rows: Answers = {}
    for unit, grades in (("levels", ("MC1", "MC2")), ("patients", ("MC1 or MC2", "MC1"))):
        try:
            found = prevalence((), unit=unit)
            rows |= {f"{unit} with {grade}": share(found, grade) for grade in grades}
        except UsageError:
            rows |= {f"{unit} with {grade}": "not answered" for grade in grades}
    try:
        by_age = prevalence("age_band", unit="patients")
        ends = [share(by_age[by_age["age_band"] == band], "MC1 or MC2") for band in ("20-29", "70-79")]
        rows |= dict(zip(("patients with a change, 20-29 years", "…, 70-79 years"), ends, strict=True))
    except UsageError:
        rows |= dict.fromkeys(("patients with a change, 20-29 years", "…, 70-79 years"), "not answered")
    return rows | ratios(association(AGE))


def changed(found: pd.DataFrame) -> str:
    """Share of levels without a change that have MC2 later."""
    row = found[(found["before"] == "MC0") & (found["after"] == "MC2")].iloc[0]
    return f"{100 * row['share']:.1f} ({100 * row['low']:.1f}-{100 * row['high']:.1f}) %"


def of_truth(cohort: CohortData, frame: pd.DataFrame) -> Answers:
    """The same questions of the true grades."""
    true = with_grades(frame, frame["truth"].to_numpy())
    levels = cohort.graded(visits="all").drop(columns=["mc", "mc0", "mc1", "mc2", "any_mc"]).astype({"level": "string"})
    levels = levels.merge(true[["study_key", "level", "mc", "mc0", "mc1", "mc2", "any_mc"]], on=["study_key", "level"])
    whole = Imputed((levels, levels), 0, levels, n_pairs=10**6)
    first = whole.only(pd.Index(cohort.graded()["study_key"]))
    rows = asked(first.prevalence, lambda formula: odds_ratios(first.frames[0], formula))
    rows["levels without a change that have MC2 at the last visit"] = changed(whole.changes())
    return {name: text.split(" (")[0] + (" %" if text.endswith("%") else "") for name, text in rows.items()}


def main(m: int) -> None:
    frame = made_up()
    levels = read(np.random.default_rng(1), frame, 600).assign(predicted=0)
    whole = read_patients(0, frame, 150).assign(predicted=0)
    last = "levels without a change that have MC2 at the last visit"
    with tempfile.TemporaryDirectory() as folder:
        cohort = publish_it(Path(folder), frame)
        columns = {"truth": of_truth(cohort, frame)}
        columns["as graded"] = asked(cohort.prevalence, lambda f: cohort.association(f, naive=True))
        drawn = cohort.imputed(m, validation=levels)
        columns["imputed, 600 levels read"] = asked(drawn.prevalence, drawn.association)
        every = cohort.imputed(m, validation=whole, visits="all")
        first = every.only(pd.Index(cohort.graded()["study_key"]))
        columns["imputed, 150 patients read"] = asked(first.prevalence, first.association) | {
            last: changed(every.changes())
        }

        def powered(by: object, *, unit: str) -> pd.DataFrame:
            return cohort.corrected_prevalence(by, method="prediction-powered", unit=unit, validation=whole)  # type: ignore[arg-type]

        by_readings = asked(powered, lambda f: cohort.association(f, method="readings", validation=whole))
        by_readings[last] = changed(cohort.changes(method="readings", validation=whole))
        columns["difference estimator, 150 patients read"] = by_readings
    print("| question |" + "".join(f" {name} |" for name in columns))
    print("|---|" + "---|" * len(columns))
    for name in columns["truth"]:
        print(f"| {name} |" + "".join(f" {of.get(name, '-')} |" for of in columns.values()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
