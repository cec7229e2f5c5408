"""Contrast and plane come from physics and geometry. (Odd series are in tests/integration/test_adversaries.py.)"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydicom.dataset import Dataset

import dicoms
from modic.archive.crawl import COLUMNS, crawl
from modic.config import IdentifyOptions
from modic.records import Series
from modic.series.contrast import find_contrast
from modic.series.identify import identify

OPTIONS = IdentifyOptions()
CODED = Dataset()
CODED.CodeMeaning = "Gadobutrol"
Slices = list[Dataset]


def series_of(slices: Slices, folder: Path) -> list[Series]:
    dicoms.write(slices, folder / "archive")
    return identify(crawl(folder / "archive", index=None).headers, options=OPTIONS)


@pytest.mark.parametrize(
    "values, contrast",
    [
        (dicoms.t1(), "t1"),
        (dicoms.t2(), "t2"),
        (dicoms.stir(), "stir"),
        (dicoms.t1(ScanOptions="FS"), "t1_fat_suppressed"),
        (dicoms.t2(ScanOptions=["SP", "FS"]), "t2_fat_suppressed"),
        (dicoms.t2(ScanOptions=["SP", "FC"]), "t2"),
        (dicoms.t1(ContrastBolusAgent="Gadovist"), "t1_post_contrast"),
        (dicoms.t1(ContrastBolusAgent="off"), "t1"),
        (dicoms.t1(ContrastBolusAgent="off", ContrastBolusVolume=15), "t1"),
        (dicoms.t1(ContrastBolusAgent="", ContrastBolusVolume=15), "t1_post_contrast"),
        (dicoms.t1(ContrastBolusTotalDose=7.5), "t1_post_contrast"),
        (dicoms.t1(ContrastBolusAgentSequence=[CODED]), "t1_post_contrast"),
        (dicoms.t1(ContrastBolusAgentSequence=[]), "t1"),
        (dicoms.t2(EchoTime=20), "proton_density"),
        (dicoms.t2(ScanningSequence="EP", DiffusionBValue=800.0), "diffusion"),
        (dicoms.t1(ScanningSequence="GR", FlipAngle=30), "gradient_echo"),
        (dicoms.t2(ImageType=["ORIGINAL", "PRIMARY", "WATER"]), "dixon"),
        (dicoms.t2(ImageType=["DERIVED", "PRIMARY", "LOCALIZER"]), "localizer"),
        (dicoms.t2(ImageType=["DERIVED", "PRIMARY", "ADC"]), "derived"),
        (dicoms.t2(ImageType=["ORIGINAL", "PRIMARY", "T2_STAR MAP"]), "derived"),
        (dicoms.t2(ImageType=["DERIVED", "PRIMARY", "R2_MAP"]), "derived"),
        (dicoms.t1(ImageType=["DERIVED", "SECONDARY", "SUB"]), "derived"),
        (dicoms.t2(ImageType=["DERIVED", "SECONDARY", "PROJECTION IMAGE"]), "derived"),
        (dicoms.t2(ImageType=["DERIVED", "SECONDARY", "MPR"]), "t2"),
        (dicoms.t2(ImageType=["DERIVED", "SECONDARY", "OTHER"]), "t2"),
        (dicoms.t1(ScanningSequence="IR", RepetitionTime=2000, InversionTime=860), "t1"),
        (dicoms.t2(EchoTime=50), "unknown"),
        (dicoms.t2(EchoTime=50, SeriesDescription="SAG T2 TSE"), "t2"),
        (dicoms.t1(SeriesDescription="T2 SAG"), "t1"),
        (dicoms.t1(SeriesDescription="SAG T1 +C"), "unknown"),
        (dicoms.t1(SeriesDescription="t1_tse_sag KM"), "unknown"),
        (dicoms.t1(SeriesDescription="SAG T1 POST GAD"), "unknown"),
        (dicoms.t1(SeriesDescription="SAG T1 pre contrast"), "t1"),
        (dicoms.t1(SeriesDescription="t1 sag ohne KM"), "t1"),
        (dicoms.t1(SeriesDescription="T1 SAG POST-OP"), "t1"),
        (dicoms.t2(SeriesDescription="T2 SAG POST GAD"), "t2"),
        (dicoms.t2(SeriesDescription="t2_tse_fs_sag"), "unknown"),
        (dicoms.t2(SeriesDescription="SAG T2 FSAT"), "unknown"),
        (dicoms.t2(SeriesDescription="t2_tirm_sag"), "unknown"),
        (dicoms.t2(RepetitionTime=3.5, EchoTime=0.1), "unknown"),
        (dicoms.t1(RepetitionTime=0.5, EchoTime=12), "unknown"),
    ],
)
def test_the_contrast_comes_from_physics(values: dict[str, Any], contrast: str, tmp_path: Path) -> None:
    (found,) = series_of(dicoms.series(values, n=6), tmp_path)
    assert found.contrast == contrast
    assert (found.rejected is None) == (contrast in ("t1", "t2"))
    assert "T2 SAG" not in found.contrast_evidence


def test_a_blank_patient_id_links_no_studies(tmp_path: Path) -> None:
    found = series_of(dicoms.series(patient="", study=1, n=6) + dicoms.series(patient="", study=2, n=6), tmp_path)
    assert len({one.patient_id for one in found}) == 2


def test_thousands_of_orientations_in_one_series_end(tmp_path: Path) -> None:
    (row,) = crawl(_one_file(tmp_path), index=None).headers.to_pylist()
    angles = np.linspace(0, 1.5, 5000)
    turned_rows = [
        {**row, "frame": k, "ImageOrientationPatient": [-np.sin(a), np.cos(a), 0, 0, 0, -1]}
        for k, a in enumerate(angles)
    ]
    found = identify(pa.Table.from_pylist(turned_rows), options=OPTIONS)
    assert sum(one.n_slices for one in found) == 5000
    assert all(one.rejected for one in found)


def _one_file(folder: Path) -> Path:
    dicoms.write(dicoms.series(n=1), folder)
    return folder


def test_planes(tmp_path: Path) -> None:
    for orientation, plane in ((dicoms.AXIAL, "axial"), (dicoms.CORONAL, "coronal"), (dicoms.SAGITTAL, "sagittal")):
        (found,) = series_of(dicoms.series(orientation=orientation, n=6), tmp_path / plane)
        assert found.plane == plane


def test_real_header_values_of_spider(shared_data: Path) -> None:
    """Descriptions blanked: 97 % right, and no T1 for a T2 or the other way round."""
    with (shared_data / "spider" / "series.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    named = [(row["new_file_name"].split("_", 1)[1][:2], find_contrast(_spider_header(row)).contrast) for row in rows]
    right = sum(name == role for name, role in named)
    assert right / len(named) >= 0.97
    assert not {("t1", "t2"), ("t2", "t1")} & set(named)
    assert ("t2", "stir") in named  # the one inversion recovery that the file calls a T2


def _spider_header(row: dict[str, str]) -> dict[str, Any]:
    header: dict[str, Any] = {**dict.fromkeys(COLUMNS), "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}
    for keyword in ("RepetitionTime", "EchoTime", "FlipAngle", "EchoTrainLength"):
        header[keyword] = float(row[keyword]) if row[keyword] else None
    header["ScanningSequence"] = row["ScanningSequence"].strip("[]").replace("'", "").replace(", ", "\\")
    return {**header, "SequenceName": row["SequenceName"], "MRAcquisitionType": row["MRAcquisitionType"]}


def test_hitachi_study_is_identified(shared_data: Path) -> None:
    found = identify(crawl(shared_data / "hitachi-lspine", index=None).headers, options=OPTIONS)
    sagittal = {one.contrast: one.rejected is None for one in found if one.plane == "sagittal"}
    assert sagittal == {"t1": True, "t2": True, "stir": False}
    assert sum(one.n_slices for one in found) == 67
