"""Clinical data by patient → by pseudonym."""

from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from made_cohort import RUN, as_tables, key, make_rows
from modic.cohort import create_cohort
from modic.errors import UsageError
from modic.export.linked import covariates, link
from modic.run.memory import LINKS
from modic.tables.store import publish


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Four patients 0011, 0012, …, each with graded studies on 2 January and on 6 February of the year after."""
    (tmp_path / "archive").mkdir()
    home = create_cohort(tmp_path / "cohort", archive=tmp_path / "archive")
    publish(home.root, as_tables(make_rows()), RUN)
    links = [
        {
            "study_key": key("s", number), "patient_key": key("p", number // 2), "PatientID": f"00{11 + number // 2}",
            "StudyInstanceUID": f"1.2.3.{number}", "study_date": (date(2020, 1, 2), date(2021, 2, 6))[number % 2],
        } for number in range(8)
    ]  # fmt: skip
    pa.parquet.write_table(pa.Table.from_pylist(links, schema=LINKS), home.private / "links.parquet")
    return home.root


def linked(cohort: Path, text: str) -> tuple[pd.DataFrame, str]:
    (cohort.parent / "clinic.csv").write_text(text, encoding="utf-8")
    out = cohort.parent / "linked.csv"
    out.unlink(missing_ok=True)
    said = "\n".join(link(cohort, cohort.parent / "clinic.csv", out))
    assert out.stat().st_mode & 0o077 == 0
    return pd.read_csv(out, dtype=str, keep_default_na=False), said


def test_rows_are_linked_by_study_by_day_and_by_patient(cohort: Path) -> None:
    frame, said = linked(
        cohort,
        "Patient_ID;study_uid;study_date;bmi\n;1.2.3.3;;24,5\n0011;;2021-02-06;31\n0013;;;22\n12;;06.02.2021;-3\n",
    )
    assert frame["patient_key"].tolist() == [key("p", 1), key("p", 0), key("p", 2), key("p", 1)]
    assert frame["study_key"].tolist() == [key("s", 3), key("s", 1), "", key("s", 3)]
    assert frame["days_since_first_study"].tolist() == ["401", "401", "", "401"]
    assert frame["bmi"].tolist() == ["24.5", "31", "22", "-3"], "a decimal comma is a text to pandas"
    assert "4 of 4 rows" in said and "patient_id, study_uid, study_date" in said


def test_what_does_not_match_is_counted_by_reason(cohort: Path) -> None:
    frame, said = linked(
        cohort, "patient_id,study_date,x\n0099,,1\n0011,2021-02-07,2\n0011,soon,3\n,,4\n0011,2020-01-02,5\n"
    )
    assert frame["x"].tolist() == ["5"]
    for reason in ("no such patient_id 1", "on study_date 1", "is no date (2024-01-31) 1", "neither patient_id nor"):
        assert reason in said


def test_no_identifier_and_no_date_leaves(cohort: Path) -> None:
    text = (
        "patient_id,Name,other_id,surgery,note\n"
        "0011,Doe,0011,2020-01-12,=1+1\n"
        "0012,Roe,77,,fine\n"
    )  # fmt: skip
    frame, said = linked(cohort, text)
    assert list(frame.columns) == ["patient_key", "study_key", "days_since_first_study", "surgery_days", "note"]
    assert frame["surgery_days"].tolist() == ["10", ""] and frame["note"].tolist() == ["'=1+1", "fine"]
    assert "patient_id, name, other_id" in said and "first study: surgery" in said


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("note", "Patient 0011 came again"),
        ("remark", "images (1.2.3.0)."),
        ("patient_dob", "x"),
        ("geb_datum", "1960-01-31"),
        ("PLZ", "20095"),
        ("Straße", "Hauptstr. 1"),
        ("versichertennummer", "A1"),
        ("op", "1/12/2020"),
        ("op", "12.01.20"),
        ("op", "2020-01-12 or later"),
        ("note", "operated on 12.1.2020"),
    ],
)
def test_what_identifies_does_not_leave_however_it_is_written(cohort: Path, column: str, value: str) -> None:
    frame, said = linked(cohort, f"patient_id\t{column}\tgrip\n0012\tunknown\t3\n0011\t{value}\t4\n")
    assert frame.columns[3:].tolist() == ["grip"] and frame["grip"].tolist() == ["3", "4"]
    assert f"{column.lower()}" in "".join(line for line in said.splitlines() if line.startswith("dropped"))


def test_scores_and_ratios_are_no_dates_and_no_identifiers(cohort: Path) -> None:
    frame, _ = linked(cohort, "patient_id,pressure,score,text\n0011,120/80,3-4,L4/L5 and L5/S1 1.5 T\n")
    assert frame.iloc[0, 3:].tolist() == ["120/80", "3-4", "L4/L5 and L5/S1 1.5 T"]


def test_letters_that_nobody_sees_neither_hide_a_patient_nor_an_id(cohort: Path) -> None:
    """As a value copied from a page or a chat holds them."""
    frame, said = linked(cohort, "patient_id,study_date,code\n\u200b0011,2020-01-02,00\u200b12\n")
    assert frame["patient_key"].tolist() == [key("p", 0)]
    assert "code" not in frame and "patient_id, study_date, code" in said


def test_a_study_of_another_patient_is_not_linked(cohort: Path) -> None:
    frame, said = linked(cohort, "patient_id,study_uid,x\n0012,1.2.3.0,1\n11,1.2.3.0,2\n11.0,1.2.3.1,3\n")
    assert frame["x"].tolist() == ["2", "3"] and "study_uid is of another patient 1" in said


def test_a_date_that_is_not_the_studys_is_counted(cohort: Path) -> None:
    rows = ["1.2.3.0,02.01.2020,1", "1.2.3.0,03.01.2020,2", "1.2.3.1,soon,3", "1.2.3.1,,4", "9,2020-01-02,5"]
    frame, said = linked(cohort, "\n".join(["study_uid,study_date,x", *rows]))
    assert frame["x"].tolist() == ["1", "4"]
    for reason in (
        "study_date is not that of study_uid 1",
        "study_date is no date (2024-01-31) 1",
        "no such study_uid 1",
    ):
        assert reason in said


@pytest.mark.parametrize(
    "day", ["2021-02-06", "2021-2-6", "2021/02/06", "20210206", "20210206.0", "6.2.2021", "06.02.2021 00:00",
            "2021-02-06 00:00:00", "2021-02-06T08:15:00.5+01:00"],
)  # fmt: skip
def test_dates_are_understood_as_programs_write_them(cohort: Path, day: str) -> None:
    assert linked(cohort, f"patient_id,study_date\n0011,{day}\n")[0]["study_key"].tolist() == [key("s", 1)]


@pytest.mark.parametrize("day", ["06/02/2021", "6.2.21", "2021-02-06 or so", "2021-02", "44233", "2021-13-01"])
def test_a_date_that_could_be_another_links_nothing(cohort: Path, day: str) -> None:
    assert "study_date is no date" in linked(cohort, f"patient_id,study_date\n0011,{day}\n")[1]


@pytest.mark.parametrize("line", ["0012,24,5", "0012,24,5,"])
def test_a_line_with_more_values_than_columns_is_refused(cohort: Path, line: str) -> None:
    """pandas takes the first column of such a table for an index, and the second for the patient's id."""
    with pytest.raises(UsageError, match=r"line 2 has \d values for 2 columns"):
        linked(cohort, f"patient_id,bmi\n{line}\n")
    assert linked(cohort, "patient_id,bmi\n0012,24,\n0013\n")[0]["bmi"].tolist() == ["24", ""]


def test_headings_are_known_as_programs_write_them(cohort: Path) -> None:
    text = '\ufeff"Patient ID";StudyDate;note\n0011;06.02.2021;"two\nlines"\n0012;;\n'
    frame, said = linked(cohort, text)
    assert frame["study_key"].tolist() == [key("s", 1), ""] and frame["note"].tolist() == ["two\nlines", ""]
    assert "2 of 2 rows, 1 of them to a patient alone, without a study" in said


def test_ids_that_became_numbers_are_found_again(cohort: Path) -> None:
    assert linked(cohort, "patient_id,x\n11.0,1\n12,2\n0013,3\n")[0]["x"].tolist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("patient_id,patient_key\n0011,x\n", "patient_key.*rename"),
        ("mrn,bmi\n1,2\n", "neither a column patient_id nor study_uid"),
        ("", "neither a column patient_id nor study_uid"),
    ],
)
def test_a_table_that_cannot_be_linked_is_refused(cohort: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        linked(cohort, text)


def test_nothing_is_overwritten(cohort: Path) -> None:
    (cohort.parent / "clinic.csv").write_text("patient_id\n0011\n")
    with pytest.raises(UsageError, match="exists"):
        link(cohort, cohort.parent / "clinic.csv", cohort.parent / "clinic.csv")


def test_a_cohort_without_links_says_who_can_link(cohort: Path) -> None:
    (cohort / "private" / "links.parquet").unlink()
    with pytest.raises(UsageError, match="only the keeper"):
        linked(cohort, "patient_id\n0011\n")


def test_covariates_are_read_as_numbers_whatever_separates_them(tmp_path: Path) -> None:
    texts = ("patient_key,BMI,smoker\np_1,24.5,yes\np_2,NA,\n", "\ufeffpatient_key;BMI;smoker\np_1;24,5;yes\np_2;;\n")
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.csv"
        path.write_text(text, encoding="utf-8")
        data = covariates(path)
        assert data["BMI"].dtype == float and data["BMI"].isna().tolist() == [False, True]
        assert data["BMI"][0] == 24.5 and data["smoker"].isna().tolist() == [False, True]
    path.write_text("patient_key,x,x\np_1,1,2\n")
    with pytest.raises(UsageError, match="column x twice"):
        covariates(path)
