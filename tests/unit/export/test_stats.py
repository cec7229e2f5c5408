"""Stata, SPSS and R files: the same numbers as the tables, with labels."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pyreadstat
import pytest

import modic
from made_cohort import make_cohort
from modic.export import export

READ = {"stata": (pyreadstat.read_dta, "dta"), "spss": (pyreadstat.read_sav, "sav")}


@pytest.mark.parametrize("format", READ)
def test_levels_and_patients_with_their_labels(tmp_path: Path, format: str) -> None:
    cohort = make_cohort(tmp_path / "cohort", 20)
    said = export(cohort, tmp_path / "out", format=format)
    read, suffix = READ[format]
    levels, about = read(str(tmp_path / "out" / f"graded_levels.{suffix}"))
    opened = modic.open(cohort)
    graded = opened.graded(visits="all")
    assert len(levels) == len(graded) and f"{len(graded):,} rows" in said[0]
    counts = levels["mc"].value_counts(dropna=False)
    assert counts[2.0] == (graded["mc"] == 2).sum() and counts[float("nan")] == graded["mc"].isna().sum()
    assert (
        about.variable_value_labels["level"][6.0] == "L5/S1"
        and about.variable_value_labels["mc"][2.0] == "Modic type 2"
    )
    assert about.column_names_to_labels["mc"].startswith("Modic change: 0 none")
    assert {"mc_upper", "udby_lower"} <= set(levels.columns)
    labels = about.column_names_to_labels
    assert labels["p_mc1"].endswith("not for this cohort") and not any(
        text.endswith(" the") for text in labels.values()
    )
    patients, about = read(str(tmp_path / "out" / f"patients.{suffix}"))
    assert len(patients) == graded["patient_key"].nunique()
    first = opened.graded().astype({"level": "string"})
    own = first[first["level"] == "L5/S1"].set_index("patient_key")["mc"]
    for key, value in patients.set_index("patient_key")["mc_l5_s1"].items():
        assert pd.isna(value) == pd.isna(own[key]) and (pd.isna(value) or value == own[key])
    assert about.variable_value_labels["any_mc"] == {0.0: "no", 1.0: "yes"}
    assert (tmp_path / "out" / "dictionary.md").is_file()


@pytest.mark.parametrize("format", ["csv", "omop", "stata", "spss", "r"])
def test_every_export_explains_itself(tmp_path: Path, format: str) -> None:
    export(make_cohort(tmp_path / "cohort"), tmp_path / "out", format=format)
    text = (tmp_path / "out" / "dictionary.md").read_text()
    for name in ("`mc_l5_s1` | Modic type at L5/S1", "## graded_levels (flat)", "`any_mc` | Modic change at one"):
        assert name in text


def test_r_reads_levels_and_patients_with_factors_and_labels(tmp_path: Path) -> None:
    cohort, out = make_cohort(tmp_path / "cohort", 20), tmp_path / "out"
    said = export(cohort, out, format="r")
    assert said[-1].endswith('source("read.R", chdir = TRUE)')
    code = (out / "read.R").read_text(encoding="utf-8")
    for table in ("graded_levels", "patients"):
        read = next(line for line in code.splitlines() if line.startswith(f"{table} <- "))
        assert all(f"{column} = " in read for column in pd.read_csv(out / f"{table}.csv").columns)
    if (rscript := shutil.which("Rscript")) is None:
        return
    asks = """source("read.R", chdir = TRUE)
    cat(nrow(graded_levels), sum(graded_levels$mc == "Modic type 2", na.rm = TRUE), sum(is.na(graded_levels$mc)),
        levels(graded_levels$level)[6], class(graded_levels$sex), class(patients$any_mc), levels(patients$mc_l5_s1)[1],
        attr(graded_levels$p_mc1, "label"), sep = "|")"""
    answer = subprocess.run([rscript, "-e", asks], cwd=out, capture_output=True, text=True, check=True).stdout
    mc = modic.open(cohort).graded(visits="all")["mc"]
    assert answer.split("|") == [
        str(len(mc)), str((mc == 2).sum()), str(mc.isna().sum()), "L5/S1", "character", "logical", "no Modic change",
        "P(MC1), calibrated for equally frequent grades, not for this cohort",
    ]  # fmt: skip


def test_csv_has_a_row_a_graded_level_and_a_wide_row_a_patient(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort", 20)
    export(cohort, tmp_path / "out", format="csv")
    graded = modic.open(cohort).graded(visits="all")
    assert len(pd.read_csv(tmp_path / "out" / "graded_levels.csv")) == len(graded)
    patients = pd.read_csv(tmp_path / "out" / "patients.csv").set_index("patient_key")
    assert len(patients) == graded["patient_key"].nunique() and patients["mc_t12_l1"].isna().all()
    own = modic.open(cohort).graded().astype({"level": "string"})
    own = own[own["level"] == "L4/L5"].set_index("patient_key")["mc"].dropna()
    assert (patients.loc[own.index, "mc_l4_l5"] == own.astype(float)).all()
