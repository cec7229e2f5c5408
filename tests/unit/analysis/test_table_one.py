"""Who was graded, where grades are missing, what depends on choices, and shares of another population."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import modic
from made_cohort import RUN, as_tables, make_rows
from modic.analysis.cohort_data import CohortData
from modic.analysis.imputed import Imputed
from modic.analysis.standardized import hits_of, standardized_share, weights_of
from modic.analysis.table_one import table_one, with_scanner
from modic.errors import UsageError
from modic.tables.store import publish


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> CohortData:
    root: Path = tmp_path_factory.mktemp("cohort")
    publish(root, as_tables(make_rows(200)), RUN)
    return modic.open(root)


def studies(ages: list[float], sexes: str, status: str) -> pd.DataFrame:
    n = len(ages)
    return pd.DataFrame({
        "status": status, "patient_key": [f"{status}{i}" for i in range(n)], "age_years": pd.array(ages, "Float64"),
        "study_year": 2020, "sex": list(sexes), "scanner": "A", "field_strength_t": 1.5, "age_band": "40-49",
    })  # fmt: skip


def test_table_one_has_standardized_differences() -> None:
    table = table_one(pd.concat([studies([40, 50, 60, 70], "FFFM", "graded"), studies([30, 40], "FM", "excluded")]))
    row = table.set_index(["variable", "value"])
    assert (row.loc[("studies", "n"), "graded"], row.loc[("studies", "n"), "not_graded"]) == (4, 2)
    age = row.loc[("age_years", "mean")]
    assert (age["graded"], age["not_graded"], age["graded_spread"]) == (55, 35, pytest.approx(12.91, abs=0.01))
    assert age["standardized_difference"] == pytest.approx(20 / np.sqrt((12.91**2 + 7.071**2) / 2), abs=0.001)
    sex = row.loc["sex"]
    assert sex["graded_spread"].tolist() == [0.75, 0.25] and sex["not_graded"].tolist() == [1, 1]
    assert sex["standardized_difference"].iloc[0] == pytest.approx(0.25 / np.sqrt((0.75 * 0.25 + 0.25) / 2))
    assert row.loc[("scanner", "A"), "standardized_difference"] == 0


def test_table_one_counts_every_study_of_a_cohort(cohort: CohortData) -> None:
    table = cohort.table_one().set_index("variable")
    for name in ("sex", "scanner", "field_strength_t", "age_band"):
        assert table.loc[[name], ["graded", "not_graded"]].sum().tolist() == [200, 3], name


def test_missing_levels_are_counted_by_why(cohort: CohortData) -> None:
    table = cohort.missingness()
    assert set(table.columns[:2]) == {"level", "scanner"}
    parts = table[["n_decided", "n_abstained", "n_not_found", "n_unreadable"]].sum(axis=1)
    assert (parts == table["n"]).all() and table["n"].sum() == 600
    top = table[table["level"] == "T12/L1"]
    assert (top["share_missing"] == 1).all() and (top["n_not_found"] == top["n"]).all()
    assert cohort.missingness("level", visits="all")["n"].sum() == 1200


def test_one_call_asks_under_every_choice(cohort: CohortData) -> None:
    found = cohort.sensitivity(lambda c: c.prevalence()).set_index(["analysis", "grade"])
    for grade, row in cohort.prevalence().set_index("grade").iterrows():
        assert found.loc[("all graded studies", grade), "n"] == row["n"]
    sure = cohort.prevalence(sure_numbering=True).set_index("grade").loc["MC2"]
    names = set(found.index.get_level_values("analysis"))
    assert {"without suspected transitional", "scanner SIEMENS Aera", "scanner unknown"} <= names
    # a patient whose first study is uncertain counts with the next one; `sure_numbering` leaves that patient out
    assert found.loc[("without uncertain numbering", "MC2"), "n"] > sure["n"]
    total = sum(found.loc[(name, "MC0"), ["n", "n_abstained"]].sum() for name in names if name.startswith("scanner"))
    assert total > found.loc[("all graded studies", "MC0"), ["n", "n_abstained"]].sum()

    def wrong(part: CohortData) -> pd.DataFrame:
        raise UsageError("wrong")

    def fails(part: CohortData) -> pd.DataFrame:
        if len(part.studies) < 150:
            raise UsageError("too few")
        return part.prevalence()

    why = cohort.sensitivity(fails)["why"]
    assert set(why.dropna()) == {"too few"} and why.isna().any()
    with pytest.raises(UsageError, match="wrong"):
        cohort.sensitivity(wrong)


def test_direct_standardization_weighs_groups_as_the_population() -> None:
    units = pd.DataFrame(
        {"patient_key": range(100), "sex": ["F"] * 80 + ["M"] * 20, "hit": [1.0, 0, 0, 0] * 20 + [1.0, 0] * 10}
    )
    weights = weights_of(pd.DataFrame({"sex": ["F", "M"], "people": [500, 500]}), "sex")
    found = standardized_share(units, weights, "sex")
    assert found.value == pytest.approx(0.5 * 0.25 + 0.5 * 0.5) and (found.n, found.n_outside) == (100, 0)
    expected = 0.25 * 0.25 * 0.75 / 80 + 0.25 * 0.5 * 0.5 / 20
    assert found.variance == pytest.approx(expected * 100 / 99)
    women = standardized_share(units, weights_of(pd.DataFrame({"sex": ["F"], "people": [1]}), "sex"), "sex")
    assert (women.value, women.n_outside) == (0.25, 20)
    with pytest.raises(UsageError, match="nobody of O"):
        standardized_share(units, weights_of(pd.DataFrame({"sex": ["F", "O"], "people": [1, 1]}), "sex"), "sex")
    with pytest.raises(UsageError, match="lacks people"):
        weights_of(pd.DataFrame({"sex": ["F"]}), "sex")


def test_imputed_cohorts_are_standardized(cohort: CohortData) -> None:
    frame = cohort.graded()
    frames = [frame.assign(mc=pd.array(np.full(len(frame), k), "Int8")) for k in (0, 2)]
    population = frame.drop_duplicates("sex")[["sex"]].assign(people=[1])
    found = Imputed(tuple(frames), 120, frame).standardized(population, "sex", unit="patients").set_index("grade")
    assert found.loc["MC2", "share"] == 0.5 and found.loc["MC1", "share"] == 0 and found.loc["MC2", "n_read"] == 120
    assert found.loc["MC2", "n"] == frame["patient_key"].nunique()
    both = hits_of(frame.assign(mc=pd.array(np.arange(len(frame)) % 3, "Int8")), (2,), "patients")
    assert both["hit"].all() and both["patient_key"].is_unique


def test_scanners_are_named_by_what_is_known_of_each() -> None:
    makers = pd.array(["SIEMENS", None, "Philips", "SIEMENS", None], "string")
    models = pd.array(["Aera", "Aera", None, "Aera", None], "string")
    named = with_scanner(pd.DataFrame({"manufacturer": makers, "scanner_model": models}, index=[9, 3, 5, 1, 0]))
    assert named["scanner"].to_list() == ["SIEMENS Aera", "Aera", "Philips", "SIEMENS Aera", pd.NA]
    assert named["scanner"].dtype == "string" and with_scanner(named.iloc[:0])["scanner"].empty


def test_groups_of_a_population_are_the_same_numbers_whatever_their_type() -> None:
    units = pd.DataFrame(
        {"patient_key": ["a", "b", "c"], "mc": [2, 0, 0], "age_years": pd.array([30, 30, 40], "Int16")}
    )
    hits = hits_of(units, (2,), "patients")
    for ages in ([30, 40], [30.0, 40.0], ["30", "40"]):
        weights = weights_of(pd.DataFrame({"age_years": ages, "people": ["1", "3"]}), "age_years")
        assert standardized_share(hits, weights, "age_years").value == pytest.approx(0.5 / 4)


@pytest.mark.parametrize("people", [["1,000", "2"], [np.nan, 2], [-1, 2]])
def test_a_population_without_numbers_of_people_is_refused(people: list[object]) -> None:
    with pytest.raises(UsageError, match="people of the population must be numbers"):
        weights_of(pd.DataFrame({"sex": ["F", "M"], "people": people}), "sex")
