"""What studies are told apart by."""

import pandas as pd
import pytest

from modic.analysis.table_one import with_scanner
from modic.errors import UsageError
from modic.reader_study.sample import STRATA, draw, strata_of
from modic.tables.strata import GROUPS, field_name, scanner_name


def study(manufacturer: str | None, model: str | None, field: float | None) -> dict[str, object]:
    return {"manufacturer": manufacturer, "scanner_model": model, "field_strength_t": field}


def test_field_strengths_fall_into_strata() -> None:
    assert [field_name(value) for value in (0.3, 0.9, 1.5, 3.0, None)] == [
        "under 0.9 T", "0.9–2 T", "0.9–2 T", "over 2 T", "unknown field",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("of", "name", "with_field"),
    [
        (study("SIEMENS", "Aera", 1.5), "SIEMENS Aera", "SIEMENS Aera 1.5 T"),
        (study(None, "Aera", None), "Aera", "Aera"),
        (study(None, None, None), "", "unknown"),
    ],
)
def test_a_scanner_has_one_name_everywhere(of: dict[str, object], name: str, with_field: str) -> None:
    assert scanner_name(of) == name
    assert GROUPS["scanner"](of) == with_field
    assert STRATA["scanner"](of) == (name or "unknown")
    (row,) = with_scanner(pd.DataFrame([of])).itertuples()
    assert row.scanner == name if name else pd.isna(row.scanner)


def test_a_sample_is_drawn_by_field_strength() -> None:
    fields = (0.3, 0.35, 1.5, None)
    discs = [study("S", "A", field) | {"study_key": f"s{i}", "level": "L4/L5"} for i, field in enumerate(fields)]
    strata = strata_of([[disc] for disc in discs], ["field"])
    assert {name: len(units) for name, units in strata.items()} == {"0.9–2 T": 1, "under 0.9 T": 2, "unknown field": 1}
    with pytest.raises(UsageError, match="2 cannot be drawn from 3 strata: say --sample 3 or more"):
        draw([[disc] for disc in discs], 2, ["field"], seed=0)
    assert len(draw([[disc] for disc in discs], 3, ["field"], seed=0)) == 3
