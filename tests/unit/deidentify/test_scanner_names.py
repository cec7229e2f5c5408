"""Names of scanners are shown; any other text in their place is not."""

import csv
from pathlib import Path

import pytest

from modic.deidentify.pseudonyms import Pseudonyms
from modic.deidentify.scanner_names import is_scanner_name
from modic.phantom.headers import SCANNERS
from modic.records import Series
from modic.run.rows import attributes


@pytest.mark.parametrize(
    "name",
    [
        "Siemens Healthineers", "Philips Medical Systems", "GE MEDICAL SYSTEMS", "CANON_MEC", "Hitachi, Ltd.",
        "Esaote S.p.A.", "MAGNETOM Free.Max", "SymphonyTim", "Biograph_mMR", "Ingenia Ambition X", "Optima MR450w",
        "SIGNA EXCITE", "Vantage Galan 3T/ZGV", "MRT-1504", "Aperto Lucent", "G-scan", "uMR 770",
    ],
)  # fmt: skip
def test_names_of_scanners_are_shown(name: str) -> None:
    assert is_scanner_name(name)


def test_the_scanners_of_phantoms_and_of_spider_are_known(shared_data: Path) -> None:
    names = {text for one in SCANNERS for text in (one.Manufacturer, one.ManufacturerModelName)}
    with (shared_data / "spider" / "series.csv").open(encoding="utf-8") as file:
        names |= {row[column] for row in csv.DictReader(file) for column in ("Manufacturer", "ManufacturerModelName")}
    assert [name for name in names if name and not is_scanner_name(name)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Doe^John", "Doe Aera", "Aera 19570317", "17 03 57", "17.03.1957", "0012345", "1.2.826.0.1", "Ærá",
        "<script>alert(1)</script>", "=1+1", "\x1b[2J Aera", "'; DROP TABLE studies; --", "../../etc/passwd",
    ],
)  # fmt: skip
def test_other_text_becomes_a_keyed_hash(tmp_path: Path, text: str) -> None:
    here, there = (Pseudonyms.open(tmp_path / name) for name in ("a", "b"))
    fields = dict.fromkeys(Series.__dataclass_fields__)
    one = Series(**{**fields, "header": {"Manufacturer": text, "ManufacturerModelName": "Aera"}})
    row = attributes(one, here)
    assert row["scanner_model"] == "Aera"
    assert row["manufacturer"].startswith("unlisted_") and len(row["manufacturer"]) == 17
    assert row["manufacturer"] == attributes(one, here)["manufacturer"] != attributes(one, there)["manufacturer"]
