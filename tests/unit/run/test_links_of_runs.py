"""What a cohort remembers of studies: days since the first of a patient, from dates of earlier runs too."""

from datetime import date

import pyarrow as pa

from modic.run.memory import with_days
from modic.run.rows import table


def studies(*rows: tuple[str, str, int | None]) -> pa.Table:
    names = ("study_key", "patient_key", "days_since_first_study")
    return table("studies", [dict(zip(names, row, strict=True)) for row in rows]).select(names)


def links(*rows: tuple[str, date | None]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), ()]
    return pa.table({"study_key": pa.array(columns[0], pa.string()), "study_date": pa.array(columns[1], pa.date32())})


def test_days_are_counted_from_the_first_date_that_any_run_has_seen() -> None:
    remembered = links(("a", date(2020, 3, 1)), ("a", date(2020, 2, 1)), ("b", date(2020, 2, 11)), ("c", None))
    found = studies(("a", "p", None), ("b", "p", None), ("c", "p", None), ("d", "q", None))
    assert with_days(found, remembered, studies())["days_since_first_study"].to_pylist() == [0, 10, None, None]


def test_a_study_without_a_date_is_counted_from_what_was_published_beside_another_of_its_patient() -> None:
    published = studies(("a", "p", 100), ("b", "p", 30), ("c", "q", 5), ("d", "p", None))
    remembered = links(("a", date(2020, 5, 1)))
    days = with_days(published, remembered, published)
    assert days["days_since_first_study"].to_pylist() == [70, 0, None, None], "the first study has left: b is it now"
    assert days.schema == published.schema


def test_no_study_and_no_link() -> None:
    assert len(with_days(studies(), links(), studies())) == 0
