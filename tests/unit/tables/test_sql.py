"""sql/: every query runs, also on an empty cohort, and every check catches the violation planted for it."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score

import modic
from made_cohort import RUN, as_tables, key, make_cohort, make_rows
from modic.cases.outliers import DISAGREEMENT
from modic.cli.check import check
from modic.tables.query import connect, first_comment, rows_of, run_checks, run_warnings, sql_dir, statements
from modic.tables.schema import SCHEMAS
from modic.tables.store import publish

FIRST, NUMBERED = 0, 2  # rows of `levels`: T12/L1 of the first study is not found, L2/L3 is graded


def write_unchecked(root: Path, rows: dict[str, list[dict[str, Any]]]) -> Path:
    """Write tables that `publish` would refuse, as a bug or another program could leave them."""
    (root / "current").mkdir(parents=True)
    for name, schema in SCHEMAS.items():
        free = pa.schema([field.with_nullable(True) for field in schema])
        pq.write_table(pa.Table.from_pylist(rows[name], schema=free), root / "current" / f"{name}.parquet")
    return root


VIOLATIONS: dict[str, tuple[str, int, dict[str, Any]]] = {
    # check: (table, row, what is wrong in it)
    "abstained_matches_prediction_set": ("levels", NUMBERED, {"prediction_set": [0, 1]}),
    "confidence_is_largest_probability": ("levels", NUMBERED, {"confidence": 0.5}),
    "endplates_agree_with_level": ("levels", NUMBERED, {"mc_upper": "0", "mc_lower": "0"}),
    "files_reconcile": ("runs", 0, {"files_seen": 1001}),
    "first_studies_are_first": ("studies", 1, {"days_since_first_study": 0}),
    "graded_levels_have_boxes": ("levels", NUMBERED, {"t1_x0": None}),
    "graded_studies_have_series": ("studies", 0, {"t2_series_key": None}),
    "keys_are_pseudonyms": ("studies", 0, {"patient_key": "DOE^JANE"}),
    "latest_run_counts_studies": ("runs", 0, {"studies_found": 99}),
    "levels_are_of_one_grading_version": ("levels", NUMBERED, {"grading_version": 2}),
    "levels_belong_to_studies": ("levels", NUMBERED, {"patient_key": key("p", 3)}),
    "levels_graded_are_counted": ("studies", 0, {"n_levels_graded": 6}),
    "levels_run_head_to_foot": ("levels", NUMBERED, {"mm_z0": 5.0, "mm_z1": 5.0}),
    "mc_is_most_probable": ("levels", NUMBERED, {"mc": 1, "prediction_set": [1]}),
    "probabilities_sum_to_one": ("levels", NUMBERED, {"p_mc0": 0.3}),
    "rows_come_from_known_runs": ("levels", NUMBERED, {"run_id": "20270101T000000Z-0000"}),
    "series_belong_to_studies": ("series", 0, {"study_key": key("s", 999)}),
    "six_levels_of_graded_studies": ("levels", NUMBERED, {"level": "T12/L1"}),
    "studies_reconcile": ("runs", 0, {"studies_failed": 2}),
    "transitional_has_reason": ("studies", 0, {"transitional_reason": None}),
    "ungraded_levels_have_no_grade": ("levels", FIRST, {"mc": 0}),
    "ungraded_studies_have_reasons": ("studies", -1, {"reason": None}),
    "values_are_of_closed_lists": ("series", 0, {"status": "maybe"}),
}
TRANSITIONAL: list[dict[str, Any]] = [
    {"transitional_probability": None},
    {"transitional_suspected": False},  # with a reason
    {"transitional_suspected": None},  # as if the sacrum were not in view
    {"transitional_reason": "count from C2 disagrees", "level_numbering": "ok"},
    {"transitional_reason": "count from C2 disagrees", "numbering_basis": "count from C2"},
]
UNGRADED_MC = [("mc_is_most_probable", {"abstained": True, "mc": 2}), ("mc_is_most_probable", {"mc": None})]


def test_a_sound_cohort_breaks_no_law(tmp_path: Path) -> None:
    assert {name: rows for name, rows in run_checks(make_cohort(tmp_path)).items() if rows} == {}


@pytest.mark.parametrize("check", VIOLATIONS)
def test_a_planted_violation_is_caught(check: str, tmp_path: Path) -> None:
    table, row, wrong = VIOLATIONS[check]
    rows = make_rows()
    assert rows[table][row] | wrong != rows[table][row]
    rows[table][row] |= wrong
    assert run_checks(write_unchecked(tmp_path, rows))[check]


ENDPLATES: list[tuple[int | None, dict[str, Any], bool]] = [
    (2, {"mc_upper": "2", "udby_upper": "A", "mc_lower": "0"}, True),
    (2, {"mc_upper": "1", "mc_lower": "1/2"}, True),
    (2, {"mc_upper": "2", "mc_lower": None}, True),
    (2, {"mc_upper": "1", "mc_lower": "0"}, False),
    (2, {"mc_upper": "1", "mc_lower": None}, False),
    (2, {"mc_upper": "2", "mc_lower": "0", "udby_lower": "A"}, False),
    (2, {"udby_upper": "A"}, False),
    (0, {"mc_upper": "0", "mc_lower": "0"}, True),
    (0, {"mc_upper": "0", "mc_lower": "2"}, False),
    (None, {"mc_upper": "0"}, False),
    (None, {}, True),
]


@pytest.mark.parametrize(("mc", "columns", "good"), ENDPLATES)
def test_endplates_agree_with_their_level(mc: int | None, columns: dict[str, Any], good: bool, tmp_path: Path) -> None:
    rows = make_rows()
    none = dict.fromkeys(("mc_upper", "udby_upper", "mc_lower", "udby_lower"))
    rows["levels"][NUMBERED] |= none | {"mc": mc} | columns
    assert (not run_checks(write_unchecked(tmp_path, rows))["endplates_agree_with_level"]) == good


@pytest.mark.parametrize("check, wrong", UNGRADED_MC)
def test_mc_is_null_exactly_where_abstained(check: str, wrong: dict[str, Any], tmp_path: Path) -> None:
    rows = make_rows()
    rows["levels"][NUMBERED] |= wrong
    assert run_checks(write_unchecked(tmp_path, rows))[check]


@pytest.mark.parametrize("wrong", TRANSITIONAL)
def test_transitional_columns_that_contradict_each_other_are_caught(wrong: dict[str, Any], tmp_path: Path) -> None:
    rows = make_rows()
    rows["studies"][0] |= wrong
    assert run_checks(write_unchecked(tmp_path, rows))["transitional_has_reason"]


def test_a_count_from_c2_that_disagrees_with_uncertain_names_breaks_no_law(tmp_path: Path) -> None:
    rows = make_rows()
    rows["studies"][0] |= {"transitional_reason": "count from C2 disagrees", "level_numbering": "uncertain"}
    assert not run_checks(write_unchecked(tmp_path, rows))["transitional_has_reason"]


def test_studies_with_a_suspected_transitional_vertebra_have_a_view(tmp_path: Path) -> None:
    with connect(make_cohort(tmp_path)) as connection:
        found = rows_of(connection, "FROM suspected_transitional")
        every = rows_of(connection, "SELECT study_key FROM studies WHERE transitional_suspected")
    assert found and {row["study_key"] for row in found} == {row["study_key"] for row in every}
    assert {row["transitional_reason"] for row in found} == {"disc more"}


def test_a_cohort_of_before_the_transitional_columns_is_read_with_nulls(tmp_path: Path) -> None:
    new = ("numbering_basis", "transitional_suspected", "transitional_probability", "transitional_reason")
    path = make_cohort(tmp_path) / "current" / "studies.parquet"
    table = pq.read_table(path)
    path.unlink()
    pq.write_table(table.drop_columns(list(new)), path)
    with connect(tmp_path) as connection:
        (row,) = rows_of(connection, f"SELECT DISTINCT {', '.join(new)} FROM studies")
        assert set(row.values()) == {None} and rows_of(connection, "FROM suspected_transitional") == []
    assert not any(run_checks(tmp_path).values())


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_key_used_twice_is_caught(table: str, tmp_path: Path) -> None:
    rows = make_rows()
    rows[table].append(rows[table][0])
    duplicates = run_checks(write_unchecked(tmp_path, rows))["keys_are_unique"]
    assert [row["table_name"] for row in duplicates] == [table]


def test_levels_of_a_study_that_is_not_graded_are_caught(tmp_path: Path) -> None:
    rows = make_rows()
    rows["studies"][0] |= {"status": "failed", "reason": "study.worker_died"}
    assert run_checks(write_unchecked(tmp_path, rows))["six_levels_of_graded_studies"][0]["study_key"] == key("s", 0)


def test_every_check_has_a_planted_violation() -> None:
    assert statements("checks").keys() == VIOLATIONS.keys() | {"keys_are_unique"}


def test_several_graders_are_a_warning_and_break_no_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows()
    for index, row in enumerate(rows["levels"]):
        row["grader_id"] = "aaaaaaaaaaaa" if index < 6 else "bbbbbbbbbbbb"
    publish(tmp_path, as_tables(rows), RUN)
    found = run_warnings(tmp_path)["levels_are_of_several_graders"]
    assert {row["grader_id"]: row["studies"] for row in found} == {"aaaaaaaaaaaa": 1, "bbbbbbbbbbbb": 7}
    assert check(tmp_path) == 0
    assert "warning: levels_are_of_several_graders: 2 rows" in capsys.readouterr().out
    assert not any(run_warnings(make_cohort(tmp_path / "one")).values())


@pytest.mark.parametrize("folder", sorted(path.name for path in sql_dir().iterdir() if path.is_dir()))
def test_every_file_says_what_one_row_is(folder: str) -> None:
    files = statements(folder)
    assert files and {name for name, sql in files.items() if not first_comment(sql).startswith("One row")} == set()


def test_views_checks_and_questions_run_on_a_cohort_without_rows(tmp_path: Path) -> None:
    publish(tmp_path, {name: schema.empty_table() for name, schema in SCHEMAS.items()}, RUN)
    assert not any(run_checks(tmp_path).values())
    with connect(tmp_path) as connection:
        for name in statements("views"):
            rows_of(connection, f"FROM {name}")
        for folder in ("cohort", "cases", "sr"):
            for sql in statements(folder).values():
                assert rows_of(connection, sql) == []


@pytest.mark.parametrize("question", statements("cohort"))
def test_questions_and_views_run_without_modic_where_the_tables_lie(
    question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_cohort(tmp_path / "cohort", 30)
    sql = statements("cohort")[question]
    monkeypatch.chdir(cohort / "current")
    plain = duckdb.sql(sql).df()
    assert len(plain), "a question that finds nothing in the made-up cohort tests nothing"
    with duckdb.connect() as connection:
        for view in statements("views").values():
            connection.execute(view)
        flow = connection.sql("FROM strobe_flow").fetchall()
    other = make_cohort(tmp_path / "other", 2)
    monkeypatch.chdir(other / "current")  # a name of a file must not lead to another cohort's file
    with connect(cohort) as connection:
        pd.testing.assert_frame_equal(connection.sql(sql).df(), plain)
        assert sorted(map(str, connection.sql("FROM strobe_flow").fetchall())) == sorted(map(str, flow))


def ask(cohort: Path, question: str) -> pd.DataFrame:
    return modic.open(cohort).sql(statements("cohort")[question]).df()


def test_answers_are_those_of_pandas(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path, 60)
    opened = modic.open(cohort)
    first = opened.graded()
    together = ask(cohort, "levels_together").set_index(["upper_level", "lower_level"])
    wide = first.pivot(index="study_key", columns="level", values="any_mc").astype("Float64")
    both = wide[["L3/L4", "L5/S1"]].dropna()
    row = together.loc[("L3/L4", "L5/S1")]
    assert row["n_patients"] == len(both) == row[["n_both", "n_upper_only", "n_lower_only", "n_neither"]].sum()
    assert row["n_both"] == (both.sum(axis=1) == 2).sum()

    scanners = ask(cohort, "prevalence_by_scanner_and_year")
    assert scanners["n_mc2"].sum() == (first["mc"] == 2).sum()
    assert scanners["n_patients"].sum() == first["patient_key"].nunique()

    confidence = ask(cohort, "confidence_distribution")
    every = opened.graded(visits="all")
    assert confidence["n_levels"].sum() == len(every)
    assert (confidence[["n_abstained", "n_mc0", "n_mc1", "n_mc2"]].sum(axis=1) == confidence["n_levels"]).all()

    near = ask(cohort, "neighbouring_levels").set_index("upper_level").loc["L4/L5"]
    grades = every.pivot(index="study_key", columns="level", values="mc")[["L4/L5", "L5/S1"]].dropna().astype(int)
    assert near["n_pairs"] == len(grades)
    assert near["kappa"] == pytest.approx(cohen_kappa_score(grades["L4/L5"], grades["L5/S1"]), abs=0.001)


def test_the_strobe_flow_adds_up(tmp_path: Path) -> None:
    with connect(make_cohort(tmp_path)) as connection:
        flow = rows_of(connection, "FROM strobe_flow")
    for unit in ("files", "studies", "levels"):
        numbers = {(row["outcome"], row["reason"]): row["n"] for row in flow if row["unit"] == unit}
        assert numbers.pop(("all", None)) == sum(numbers.values()) > 0


def test_prevalence_counts_each_patient_once_and_leaves_abstentions_out(tmp_path: Path) -> None:
    rows = make_rows()
    with connect(make_cohort(tmp_path)) as connection:
        levels = {row["level"]: row for row in rows_of(connection, "FROM prevalence_by_level")}
    firsts = {key("s", number) for number in (0, 2, 4, 6)}  # the second of each two studies is the same patient's
    for level, row in levels.items():
        here = [other for other in rows["levels"] if other["level"] == level and other["study_key"] in firsts]
        decided = [other["mc"] for other in here if other.get("mc") is not None]
        assert row["n_patients"] == len(here) == 4
        assert [row["n_mc0"], row["n_mc1"], row["n_mc2"]] == [decided.count(mc) for mc in range(3)]
        assert row["share_mc1"] == (pytest.approx(decided.count(1) / len(decided)) if decided else None)


def test_change_between_studies_pairs_a_patients_visits(tmp_path: Path) -> None:
    """Three visits a patient, of which one is passed over at a level that was not decided there."""
    rows = make_rows(60)
    visits = {row["study_key"]: (key("p", n // 3), (0, 365, 1000)[n % 3]) for n, row in enumerate(rows["studies"])}
    for row in rows["studies"]:
        row["patient_key"], row["days_since_first_study"] = visits[row["study_key"]]
    for row in rows["levels"]:
        row["patient_key"] = visits[row["study_key"]][0]
    publish(tmp_path, as_tables(rows), RUN)
    changes = ask(tmp_path, "change_between_studies").set_index(["level", "mc_before", "mc_after"])

    opened = modic.open(tmp_path)
    sure = opened.studies.loc[opened.studies["level_numbering"] == "ok", ["study_key", "days_since_first_study"]]
    decided = opened.levels[opened.levels["mc"].notna()].astype({"level": "string"}).merge(sure, on="study_key")
    decided = decided.sort_values(["patient_key", "level", "days_since_first_study"])
    after = decided.groupby(["patient_key", "level"])[["mc", "days_since_first_study"]].shift(-1)
    decided["mc_after"], decided["days"] = (
        after["mc"],
        after["days_since_first_study"] - decided["days_since_first_study"],
    )
    pairs = decided[decided["mc_after"].notna()].groupby(["level", "mc", "mc_after"])["days"].agg(["size", "median"])
    assert len(changes) == len(pairs) > 20 and changes["n"].sum() == pairs["size"].sum()
    assert {1000, 365, 635} <= set(decided["days"].dropna()), "a visit in between was passed over"
    for change, pair in pairs.iterrows():
        assert changes.loc[change, "n"] == pair["size"]
        assert changes.loc[change, "median_days_between"] == pytest.approx(pair["median"], abs=0.51)


def test_the_review_list_holds_what_is_unsure_and_its_evidence(tmp_path: Path) -> None:
    rows = make_rows()
    unsure = {"role": "unknown", "status": "not_used", "reason": "series.role_unsure", "detail": "SE TE=50"}
    rows["series"][0] |= {"warnings": "SeriesDescription disagrees with TR, TE and TI"}
    rows["series"][-1] |= unsure
    rows["series"][-2] |= unsure | {"plane": "axial"}
    publish(tmp_path, as_tables(rows), RUN)
    with connect(tmp_path) as connection:
        review = rows_of(connection, "SELECT series_key, detail, warnings FROM series_to_review")
    assert [row["series_key"] for row in review] == [rows["series"][0]["series_key"], rows["series"][-1]["series_key"]]
    assert (review[0]["warnings"], review[1]["detail"]) == (rows["series"][0]["warnings"], "SE TE=50")


QS: list[dict[str, Any]] = [{"alpha": alpha, "q": [q] * 3} for alpha, q in ((0.05, 0.99), (0.1, 0.6), (0.3, 0.2))]
QS[1]["wrong"] = 0.16


def graded_at(tmp_path: Path, **level: Any) -> dict[float, int | None]:
    """alpha → the grade of one level with these columns, where its run published `QS`."""
    rows = make_rows()
    rows["runs"][0] |= {"conformal_thresholds": json.dumps(QS), "alpha": 0.1}
    rows["levels"][NUMBERED] |= level
    wanted = rows["levels"][NUMBERED]
    with connect(write_unchecked(tmp_path, rows)) as connection:
        where = f"study_key = '{wanted['study_key']}' AND level = '{wanted['level']}'"
        answer = rows_of(connection, f"FROM grades_by_alpha WHERE {where} ORDER BY alpha")
    assert all(row["abstained"] == (row["mc"] is None) for row in answer)
    return {row["alpha"]: row["mc"] for row in answer}


def test_abstention_is_computed_again_at_another_risk(tmp_path: Path) -> None:
    p = {"p_mc0": 0.25, "p_mc1": 0.15, "p_mc2": 0.6}
    assert graded_at(tmp_path / "a", **p) == {0.05: None, 0.1: 2, 0.3: None}  # all types, one, none
    p = {"p_mc0": 0.9, "p_mc1": 0.05, "p_mc2": 0.05}
    assert graded_at(tmp_path / "b", **p) == {0.05: None, 0.1: 0, 0.3: 0}
    assert set(graded_at(tmp_path / "c", **p, abstained_reason="marrow.like_type_1").values()) == {None}


def test_what_a_smaller_risk_costs(tmp_path: Path) -> None:
    rows = make_rows()
    rows["runs"][0]["conformal_thresholds"] = json.dumps(QS)
    with connect(write_unchecked(tmp_path, rows)) as connection:
        by_alpha = rows_of(connection, "FROM yield_by_alpha")
        graded = rows_of(connection, "SELECT count(*) AS n FROM levels WHERE status = 'graded'")[0]["n"]
    assert [row["alpha"] for row in by_alpha] == [0.05, 0.1, 0.3]
    for row in by_alpha:
        assert row["n_levels"] == graded and row["n_sure"] == row["n_mc0"] + row["n_mc1"] + row["n_mc2"]
    assert by_alpha[0]["n_sure"] == 0
    assert [row["expected_wrong"] for row in by_alpha] == [None, 0.16, None]


def test_the_view_of_disagreeing_slices_has_the_limit_of_the_cases(tmp_path: Path) -> None:
    rows = make_rows()
    for row, value in zip(rows["levels"][1:3], (DISAGREEMENT, DISAGREEMENT - 0.01), strict=True):
        row["slice_disagreement"] = value
    publish(tmp_path, as_tables(rows), RUN)
    with connect(tmp_path) as connection:
        (study,) = rows_of(connection, "FROM studies_with_disagreeing_slices")
    assert (study["study_key"], study["levels"]) == (key("s", 0), "L1/L2")
    assert study["largest"] == pytest.approx(DISAGREEMENT)
