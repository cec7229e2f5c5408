"""modic export: every file holds what the tables hold, no formula, and nothing made up."""

import csv
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom import dcmread

import modic
from fake_worker import MODEL
from made_cohort import RUN, as_tables, make_cohort, make_rows
from modic.cli.main import main
from modic.errors import Rejected, UsageError
from modic.export import export
from modic.export.omop import MEASURED
from modic.imaging.in_place import load_volumes
from modic.models import weights
from modic.phantom.archive import write_archive
from modic.records import LEVELS, Grade, LevelBox, LevelResult, StudyResult
from modic.run import worker
from modic.tables.query import published
from modic.tables.schema import SCHEMAS
from modic.tables.store import publish
from plain_run import plain_run

MEASUREMENT_TABLE = 1147330
"""OMOP's concept of the table `measurement`, the only one that an export may name."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort"), 20)


def test_csv_holds_every_value_and_tells_null_from_nothing(cohort: Path, tmp_path: Path) -> None:
    lines = export(cohort, tmp_path / "out", format="csv")
    assert len(lines) == 6 and "120 rows" in lines[2]
    opened = modic.open(cohort)
    for name in SCHEMAS:
        written = pd.read_csv(tmp_path / "out" / f"{name}.csv", keep_default_na=False, na_values=[""])
        known = getattr(opened, name)
        assert list(written.columns) == list(known.columns) and len(written) == len(known)
        assert (written.isna().to_numpy() == known.isna().to_numpy()).all()
    levels = pd.read_csv(tmp_path / "out" / "levels.csv")
    assert levels["mc"].dropna().astype(int).tolist() == opened.levels["mc"].dropna().tolist()
    assert set(levels["prediction_set"].dropna()) <= {"[0]", "[1]", "[2]", "[0,1]", "[0,2]"}
    assert (tmp_path / "out" / "dictionary.md").is_file()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2+3", "@SUM(A1)", "\tx", "＝1", '=HYPERLINK("x")'])
def test_no_text_of_a_header_becomes_a_formula(text: str, tmp_path: Path) -> None:
    rows = make_rows(2)
    rows["studies"][0]["scanner_model"] = text
    publish(tmp_path / "cohort", as_tables(rows), RUN)
    export(tmp_path / "cohort", tmp_path / "out", format="csv")
    with (tmp_path / "out" / "studies.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["scanner_model"] == f"'{text}"
    export(tmp_path / "cohort", tmp_path / "omop", format="omop")
    assert f"'{text}" in pd.read_csv(tmp_path / "omop" / "image_keys.csv")["scanner_model"].tolist()


def test_omop_rows_lead_back_to_the_levels_and_no_concept_or_date_is_made_up(cohort: Path, tmp_path: Path) -> None:
    lines = export(cohort, tmp_path / "out", format="omop")
    table = {path.stem: pd.read_csv(path) for path in (tmp_path / "out").glob("*.csv")}
    measured, feature, image = table["measurement"], table["image_feature"], table["image_occurrence"]
    graded = modic.open(cohort).graded(visits="all")
    assert len(measured) == 4 * len(graded) == len(feature)
    for name, frame in table.items():
        concepts = frame[[column for column in frame if column.endswith("concept_id")]]
        assert concepts.fillna(0).isin([0, MEASUREMENT_TABLE]).all(axis=None), name
        assert not [column for column in frame if "date" in column and frame[column].notna().any()]
    assert (feature["image_feature_event_field_concept_id"] == MEASUREMENT_TABLE).all()
    assert feature.groupby("image_finding_id").size().eq(4).all(), "four features of one level are one finding"
    assert set(measured["measurement_source_value"]) == set(MEASURED) == set(table["concepts"]["source_value"])
    joined = (
        measured.merge(feature, left_on="measurement_id", right_on="image_feature_event_id")
        .merge(image, on="image_occurrence_id")
        .merge(table["persons"], left_on="person_id", right_on="person_id")
    )
    joined["level"] = joined["alg_system"].str.extract(r"level (\S+)$")
    grades = joined[joined["measurement_source_value"] == "modic.mc"]
    both = grades.merge(
        graded.astype({"level": "string"}), left_on=["image_study_uid", "patient_key", "level"],
        right_on=["study_key", "patient_key", "level"],
    )  # fmt: skip
    assert len(both) == len(graded)
    assert (both["value_as_number"].fillna(-1) == both["mc"].astype("Float64").fillna(-1)).all()
    assert ((both["value_source_value"] == "abstained") == both["abstained"]).all() and both["abstained"].any()
    assert "no concept is made up" in lines[-1]


CDM = """
CREATE TABLE person (person_id INTEGER PRIMARY KEY);
CREATE TABLE procedure_occurrence (procedure_occurrence_id INTEGER PRIMARY KEY);
CREATE TABLE concept (concept_id INTEGER PRIMARY KEY);
CREATE TABLE measurement (
    measurement_id INTEGER PRIMARY KEY, person_id INTEGER NOT NULL REFERENCES person,
    measurement_concept_id INTEGER NOT NULL REFERENCES concept, measurement_date DATE NOT NULL,
    measurement_datetime TIMESTAMP, measurement_time VARCHAR(10),
    measurement_type_concept_id INTEGER NOT NULL REFERENCES concept, operator_concept_id INTEGER,
    value_as_number NUMERIC(18, 9), value_as_concept_id INTEGER, unit_concept_id INTEGER, range_low NUMERIC,
    range_high NUMERIC, provider_id INTEGER, visit_occurrence_id INTEGER, visit_detail_id INTEGER,
    measurement_source_value VARCHAR(50) CHECK (length(measurement_source_value) <= 50),
    measurement_source_concept_id INTEGER, unit_source_value VARCHAR(50), unit_source_concept_id INTEGER,
    value_source_value VARCHAR(50) CHECK (length(value_source_value) <= 50), measurement_event_id INTEGER,
    meas_event_field_concept_id INTEGER
);
CREATE TABLE image_occurrence (
    image_occurrence_id INTEGER PRIMARY KEY, person_id INTEGER NOT NULL REFERENCES person,
    procedure_occurrence_id INTEGER NOT NULL REFERENCES procedure_occurrence, visit_occurrence_id INTEGER,
    anatomic_site_concept_id INTEGER, wadors_uri VARCHAR, local_path VARCHAR, image_occurrence_date DATE NOT NULL,
    image_study_uid VARCHAR NOT NULL, image_series_uid VARCHAR NOT NULL,
    modality_concept_id INTEGER NOT NULL REFERENCES concept
);
CREATE TABLE image_feature (
    image_feature_id INTEGER PRIMARY KEY, person_id INTEGER NOT NULL REFERENCES person,
    image_occurrence_id INTEGER NOT NULL REFERENCES image_occurrence,
    image_feature_event_field_concept_id INTEGER REFERENCES concept, image_feature_event_id INTEGER,
    image_feature_concept_id INTEGER NOT NULL REFERENCES concept,
    image_feature_type_concept_id INTEGER NOT NULL REFERENCES concept, image_finding_concept_id INTEGER,
    image_finding_id INTEGER, anatomic_site_concept_id INTEGER, alg_system VARCHAR, alg_datetime TIMESTAMP
);
INSERT INTO concept VALUES (0), (1147330);
INSERT INTO person SELECT 700 + range FROM range(1, 21);
INSERT INTO procedure_occurrence VALUES (9);
INSERT INTO measurement (measurement_id, person_id, measurement_concept_id, measurement_date,
    measurement_type_concept_id) VALUES (5000, 701, 0, '2001-01-01', 0);
"""
"""Types, required columns and keys of OMOP CDM 5.4 and MI-CDM, of the tables that load.sql writes and their targets."""


def load(folder: Path) -> duckdb.DuckDBPyConnection:
    """What psql does with load.sql, in DuckDB."""
    connection = duckdb.connect()
    connection.execute(CDM)
    lines = (folder / "load.sql").read_text(encoding="utf-8").splitlines()
    script = [line + ";" if line.startswith("\\copy") else line for line in lines if not line.startswith("--")]
    for statement in "\n".join(script).replace("\\copy", "COPY").replace("FROM '", f"FROM '{folder}/").split(";"):
        if statement.strip():
            connection.execute(statement)
    return connection


def fill_in(path: Path, **values: Any) -> None:
    pd.read_csv(path, dtype=object).assign(**values).to_csv(path, index=False)


def test_omop_loads_into_tables_of_the_specification_once_a_site_has_filled_in_what_modic_does_not_know(
    cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(cohort, out, format="omop")
    with pytest.raises(duckdb.ConstraintException, match="NOT NULL"):
        load(out)
    fill_in(out / "persons.csv", cdm_person_id=lambda frame: 700 + frame["person_id"].astype(int))
    with pytest.raises(duckdb.ConstraintException, match="NOT NULL"):
        load(out)
    fill_in(out / "image_keys.csv", cdm_date=lambda frame: frame["study_year"] + "-06-01")
    fill_in(out / "image_keys.csv", cdm_procedure_occurrence_id=9)
    loaded = load(out).sql(
        "SELECT image_study_uid AS study_key, regexp_extract(alg_system, 'level (.+)$', 1) AS level,"
        " value_as_number::DOUBLE AS p, year(measurement_date) AS year FROM measurement"
        " JOIN image_feature ON image_feature_event_id = measurement_id"
        " JOIN image_occurrence ON image_occurrence.image_occurrence_id = image_feature.image_occurrence_id"
        " AND image_occurrence.person_id = measurement.person_id AND measurement_date = image_occurrence_date"
        " WHERE measurement_source_value = 'modic.p_mc2' AND measurement_id > 5000"
    ).df()  # fmt: skip
    graded = modic.open(cohort).graded(visits="all").astype({"level": "string"})
    both = graded.merge(loaded, on=["study_key", "level"])
    assert len(both) == len(loaded) == len(graded)
    assert np.allclose(both["p"], both["p_mc2"].astype(float)) and (both["year"] == both["study_year"]).all()


def test_where_it_must_not_be_written_it_is_not(cohort: Path, tmp_path: Path) -> None:
    for place in (cohort, cohort / "current" / "x", cohort / "runs" / "sr", cohort.parent):
        with pytest.raises(UsageError, match="outside the cohort"):
            export(cohort, place, format="csv")
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="is not empty"):
        export(cohort, tmp_path, format="csv")
    with pytest.raises(UsageError, match="no way back"):
        export(cohort, tmp_path / "sr", format="sr")


def test_the_command_says_what_it_wrote(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(cohort), "--format", "csv", "--out", str(tmp_path / "out")]) == 0
    assert "levels.csv: 120 rows" in capsys.readouterr().out


def grade_where_it_lies(pair: Any, *, config: Any, **_: Any) -> StudyResult:
    """Six boxes on two slices, in millimetres of the volume; one abstention."""
    volumes = load_volumes(pair, config)
    assert not isinstance(volumes, Rejected)
    t2 = volumes["t2"].native
    results = []
    for i, name in enumerate(LEVELS):
        box, index = (20.25 + i, 30.5 + 9 * i, 60.0 + i, 37.0 + 9 * i), 3 + i % 2
        corners = t2.to_mm(np.array([[box[0], box[1], index], [box[2], box[3], index]]))
        p = ((0.7, 0.1, 0.2), (0.2, 0.6, 0.2), (0.1, 0.3, 0.6))[i % 3]
        grade = Grade(name, p, (0, 2) if i == 0 else (i % 3,), None if i == 0 else i % 3, i == 0, (p,) * 5)
        disc = LevelBox(name, box, index, 0.9)
        results.append(LevelResult(name, "graded", None, disc, box, index, tuple(corners[0]), tuple(corners[1]), grade))
    return StudyResult(tuple(results), "ok", 0.97)


@pytest.fixture(scope="module")
def from_an_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sr")
    write_archive(root / "archive", patients=2, seed=1, matrix=64, broken=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "load_models", lambda *_: weights.Models(MODEL, MODEL))
        patch.setattr(worker, "grade_study", grade_where_it_lies)
        plain_run(root / "archive", root / "cohort")
    return root / "cohort"


def test_a_study_key_of_another_form_is_no_file_of_an_sr(from_an_archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    cohort = tmp_path / "cohort"
    shutil.copytree(from_an_archive, cohort, symlinks=True)
    for name in ("studies", "series", "levels"):
        path = published(cohort) / f"{name}.parquet"
        keys = pq.read_table(path, partitioning=None)
        evil = pa.array([f"../{key}" for key in keys["study_key"].to_pylist()])
        pq.write_table(keys.set_column(keys.column_names.index("study_key"), "study_key", evil), path)
    with pytest.raises(UsageError, match="is no name that modic gives"):
        export(cohort, tmp_path / "out", format="sr")
    assert not list(tmp_path.glob("*.dcm"))


def test_sr_read_back_has_the_boxes_grades_and_slices_of_the_tables(from_an_archive: Path, tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    lines = export(from_an_archive, tmp_path / "out", format="sr")
    assert lines == [f"{tmp_path / 'out'}: 2 reports. They name patients and original UIDs: keep them like the archive"]
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    opened = modic.open(from_an_archive)
    links = pd.read_parquet(from_an_archive / "private" / "links.parquet").set_index("series_key")
    for study in opened.studies.to_dict("records"):
        report = highdicom.sr.srread(tmp_path / "out" / f"{study['study_key']}.dcm")
        link = links.loc[study["t2_series_key"]]
        assert report.PatientID == link["PatientID"] and report.StudyInstanceUID == link["StudyInstanceUID"]
        groups = report.content.get_planar_roi_measurement_groups()
        rows = opened.levels[opened.levels["study_key"] == study["study_key"]].to_dict("records")
        assert [group.tracking_identifier for group in groups] == [row["level"] for row in rows] == list(LEVELS)
        for group, row in zip(groups, rows, strict=True):
            outline = group.roi.value - 0.5
            assert outline.min(axis=0) == pytest.approx([row["t2_x0"], row["t2_y0"]])
            assert outline.max(axis=0) == pytest.approx([row["t2_x1"], row["t2_y1"]])
            image = dcmread(link["files"][row["t2_slice"]], stop_before_pixels=True)
            assert group.roi.ContentSequence[0].referenced_sop_instance_uid == image.SOPInstanceUID
            grade_code = group.get_qualitative_evaluations()[0].value.value
            assert grade_code == ("ABSTAINED" if pd.isna(row["mc"]) else f"MC{row['mc']}")
            assert group.finding_sites[0].value.meaning == f"Level of {row['level']} intervertebral disc"
            values = {measurement.name.value: float(measurement.value) for measurement in group.get_measurements()}
            assert values == pytest.approx({f"P_MC{k}": row[f"p_mc{k}"] for k in range(3)}, abs=1e-6)


def test_a_file_that_is_not_the_graded_slice_gets_no_report(from_an_archive: Path, tmp_path: Path) -> None:
    from modic.export import sr

    opened = modic.open(from_an_archive)
    study = opened.studies.iloc[0]
    rows = opened.levels[opened.levels["study_key"] == study["study_key"]].to_dict("records")
    links = pd.read_parquet(from_an_archive / "private" / "links.parquet").set_index("series_key")
    files = list(links.loc[study["t2_series_key"], "files"])
    about = {"study_key": study["study_key"], "code_version": "0.1.0", "levels": rows}
    assert sr.make_report(about, files)[0] is not None
    assert sr.make_report(about, files[::-1]) == (None, "a T2 file is not the slice that was graded")
    assert sr.make_report(about, files[:2])[0] is None
    assert sr.make_report(about, [str(tmp_path / "gone.dcm")] * 9) == (None, "a T2 file is gone or cannot be read")
