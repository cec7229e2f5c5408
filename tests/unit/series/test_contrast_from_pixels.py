"""If no header gives the contrast, the pixels do or it stays unknown; never a T1 for a T2 or the other way round."""

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

import dicoms
from drawn_spines import BOXES, DENSITY, STIR, T1, T2, WATER, spine
from modic.archive.crawl import COLUMNS, crawl
from modic.config import Config, IdentifyOptions, RunOptions
from modic.imaging.volume import Volume
from modic.phantom.archive import write_archive
from modic.records import STIR_COLUMNS, Series
from modic.run import unclear_contrast
from modic.series.contrast import ContrastFinding, accept_from_pixels, find_contrast
from modic.series.contrast_from_pixels import contrast_of_pixels
from modic.series.identify import identify, is_unclear
from modic.tables.store import read_table
from plain_run import plain_run

PHYSICS = [
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "EchoTrainLength",
    "ScanningSequence",
    "SequenceVariant",
    "SequenceName",
    "SeriesDescription",
    "ProtocolName",
]


BESIDE = T1.copy()  # the canal of a T1: pedicles, and the fat of the foramina between them
for _, top, _, bottom in BOXES:
    BESIDE[int(top) - 5 : int(bottom) + 5, 93:108] = 180
    BESIDE[int(bottom) + 5 : int(bottom) + 15, 93:108] = 100


def shown(*slices: np.ndarray, boxes: int = 6) -> str:
    volume = Volume(np.stack(slices).astype(np.float32), np.diag([1.0, 1, 1, 1]))
    return contrast_of_pixels(volume, BOXES[:boxes], range(len(slices))).contrast


@pytest.mark.parametrize(
    "slices, contrast",
    [
        ([T1, T1, T1], "t1"),
        ([T2, T2, T2], "t2"),
        ([STIR, STIR, STIR], "stir"),
        ([T2 * 40 + 1000] * 3, "t2"),
        ([T1], "t1"),
        ([WATER] * 3, "t1_fat_suppressed"),
        ([DENSITY] * 3, "unknown"),
        ([T1, T1, T2], "unknown"),
        ([STIR, T2, T2], "unknown"),
        ([DENSITY, T1, DENSITY], "unknown"),
        ([BESIDE] * 3, "unknown"),  # bright as the fluid of a T2
        ([BESIDE, T1, T1, BESIDE], "t1"),
        ([DENSITY, T1, T1], "t1"),
        ([spine(100, 200, 20, 50)] * 3, "unknown"),  # bright fluid, and no fat in view
        ([np.zeros_like(T1)] * 3, "unknown"),
        ([T1[::-1, ::-1]] * 3, "unknown"),
        ([spine(100, 300, 200, 170)] * 3, "t2"),  # healthy discs
        ([spine(60, 200, 45, 110)] * 3, "stir"),  # fat near the coil
    ],
)
def test_canal_marrow_fat_and_discs_show_the_contrast(slices: list[np.ndarray], contrast: str) -> None:
    assert shown(*slices) == contrast


def test_few_discs_show_nothing() -> None:
    assert shown(T2, T2, boxes=4) == "t2"
    assert shown(T2, T2, boxes=3) == shown(T2, T2, boxes=0) == "unknown"


@pytest.mark.parametrize(
    "values, pixels, contrast",
    [
        ({}, "t1", "t1"),
        ({}, "t2", "t2"),
        ({}, "stir", "stir"),
        ({}, "unknown", "unknown"),
        ({"RepetitionTime": 3000.0}, "t1", "unknown"),
        ({"RepetitionTime": 600.0}, "t1", "t1"),
        ({"RepetitionTime": 600.0}, "t2", "unknown"),
        ({"EchoTime": 12.0}, "t2", "unknown"),
        ({"EchoTime": 12.0}, "t1", "t1"),
        ({"SeriesDescription": "SAG T2 TSE"}, "t1", "unknown"),
        ({"SeriesDescription": "SAG T2 FS"}, "t2", "unknown"),
        ({"SeriesDescription": "SAG T2 TSE"}, "t2", "t2"),
        ({"ContrastBolusAgent": "Gadovist"}, "t1", "t1_post_contrast"),
        ({"ScanOptions": "FS"}, "t2", "t2_fat_suppressed"),
    ],
)
def test_the_header_must_allow_what_the_pixels_show(values: dict[str, Any], pixels: Any, contrast: str) -> None:
    header = {**dict.fromkeys(COLUMNS), "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", **values}
    assert find_contrast(header).contrast == "unknown"
    assert accept_from_pixels(header, ContrastFinding(pixels, "pixels")).contrast == contrast


@pytest.mark.parametrize(
    "values", [dicoms.t2(EchoTime=50), dicoms.t1(), {"ScanningSequence": "GR"}, {"ScanningSequence": "IR"}]
)
def test_pixels_are_not_read_if_the_header_gives_the_contrast(values: dict[str, Any], tmp_path: Path) -> None:
    assert not any(map(is_unclear, series_of(dicoms.series(values, n=6), tmp_path)))


def series_of(slices: list[Any], folder: Path) -> list[Series]:
    dicoms.write(slices, folder)
    return identify(crawl(folder, index=None).headers, options=IdentifyOptions())


def test_studies_without_physics_give_the_right_pairs_by_their_pixels(tmp_path: Path) -> None:
    """The whole path with the shipped networks: a plain study, and one with a STIR. The second night opens nothing."""
    archive, cohort, config = tmp_path / "archive", tmp_path / "cohort", tmp_path / "cohort.toml"
    config.write_text("[run]\npictures = false\n")
    write_archive(archive, patients=2, seed=3, broken=False)
    expected = {(one.study_uid, one.series_uid): one.contrast for one in sagittal(archive)}
    files = [path for path in archive.rglob("*") if path.is_file()]
    for path in files:
        dataset = pydicom.dcmread(path)
        for keyword in PHYSICS:
            dataset.pop(keyword, None)
        dataset.save_as(path)
    assert {one.contrast for one in sagittal(archive)} == {"unknown", "gradient_echo"}
    plain_run(archive, cohort, config=str(config))
    links = {row["series_key"]: row for row in pq.read_table(cohort / "private" / "links.parquet").to_pylist()}
    roles = []
    for row in read_table(cohort, "series").to_pylist():
        link = links[row["series_key"]]
        if row["plane"] == "sagittal" and row["role"] not in ("gradient_echo", "unknown"):
            roles.append(row["role"])
            assert row["role"] == expected[link["StudyInstanceUID"], link["SeriesInstanceUID"]]
            assert "of marrow → " in row["role_evidence"]
    assert sorted(roles) == ["stir", "t1", "t1", "t2", "t2"]
    assert read_table(cohort, "studies")["status"].to_pylist() == ["graded"] * 2
    ratios: dict[bool, set[bool]] = {True: set(), False: set()}
    kept = {row["study_key"]: row["stir_series_key"] for row in read_table(cohort, "studies").to_pylist()}
    for row in read_table(cohort, "levels").to_pylist():
        ratios[kept[row["study_key"]] is not None] |= {row[name] is not None for name in STIR_COLUMNS}
    assert ratios[False] == {False} and True in ratios[True]
    for path in files:
        path.chmod(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unclear_contrast.PixelReader, "read", None)
        assert plain_run(archive, cohort, config=str(config)).graded_now == 0


def sagittal(archive: Path) -> list[Series]:
    """The sagittal stacks of an archive."""
    found = identify(crawl(archive, index=None).headers, options=IdentifyOptions())
    return [one for one in found if one.plane == "sagittal"]


def answer(pipe: Connection, *_: Any) -> None:
    """In place of networks: patients whose name says what happens. After a bug this process can do nothing any more."""
    lost = False
    pipe.send("ready")
    while True:
        patient = pipe.recv().patient_id
        lost = lost or patient.startswith("bug")
        if patient.startswith("kill") and not lost:
            os._exit(1)
        if patient.startswith("hang") and not lost:
            time.sleep(100)
        pipe.send("bug" if lost else ContrastFinding("t2", "pixels"))


def test_a_series_that_kills_or_hangs_stays_unsure_alone_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unclear_contrast, "serve", answer)
    patients = ("ann", "bug", "hang", "kill", "zoe")
    slices = [one for who in patients for one in dicoms.series({}, patient=who, study=who, n=6)]
    stacks = sorted(series_of(slices, tmp_path / "archive"), key=lambda one: one.patient_id)
    asked: list[str] = []
    read = unclear_contrast.PixelReader.read
    monkeypatch.setattr(
        unclear_contrast.PixelReader, "read", lambda self, one: (asked.append(one.patient_id), read(self, one))[1]
    )
    options = {
        "memory": tmp_path / "looked_at.json",
        "config": Config(run=RunOptions(study_time_limit_s=3.0)),
        "device": "cpu",
        "detector_id": "d",
    }
    found = unclear_contrast.find_unclear_contrasts(stacks, **options)
    assert [one.contrast for one in found] == ["t2", "unknown", "unknown", "unknown", "t2"]
    assert [one.rejected is None for one in found] == [True, False, False, False, True]
    assert [one.contrast_evidence.split("; ")[1].split(" →")[0] for one in found] == [
        "pixels",
        "pixels: bug",
        "pixels: time limit",
        "pixels: the process that looked at them died",
        "pixels",
    ]
    assert asked == [*patients]
    unclear_contrast.find_unclear_contrasts(stacks, **options)
    assert asked == [*patients, "bug", "hang", "kill"]
    unclear_contrast.find_unclear_contrasts(stacks[:1], **{**options, "detector_id": "other"})
    assert asked[-1] == "ann"
