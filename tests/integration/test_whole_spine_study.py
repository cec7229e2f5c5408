"""A whole spine of 24 discs beside T1 and T2, through the shipped networks to the tables."""

from pathlib import Path
from typing import Any

import numpy as np

import dicoms
from modic.phantom.physics import Sequence
from modic.phantom.render import Grid, render_many
from modic.tables.query import run_checks
from modic.tables.store import read_table
from plain_run import plain_run
from whole_spines import T2_WEIGHTED, WholeSpine, whole_spine


def test_a_count_on_the_localizer_stands_in_the_tables(tmp_path: Path) -> None:
    archive, cohort, config = tmp_path / "archive", tmp_path / "cohort", tmp_path / "cohort.toml"
    config.write_text("[run]\npictures = false\n")
    write_study(whole_spine(more=1), "more", archive)
    plain_run(archive, cohort, config=str(config))
    (study,) = read_table(cohort, "studies").to_pylist()
    assert "whole spine: 24 discs from C2/C3" in study["warnings"]
    assert (study["level_numbering"], study["transitional_suspected"]) == ("uncertain", True)
    assert (study["transitional_reason"], study["numbering_basis"]) == ("count from C2 disagrees", "sacrum")
    assert study["level_numbering_probability"] < 0.9
    assert study["n_levels_graded"] == 6
    assert read_table(cohort, "series")["status"].to_pylist() == ["used"] * 3
    assert not any(run_checks(cohort).values())


def write_study(spine: WholeSpine, patient: str, folder: Path) -> None:
    """Sagittal T1 and T2 of the lumbar spine, and the localizer, in one frame of reference."""
    _, y, z = spine.patient.lumbar_centre_mm
    grid = Grid("sagittal", 224, 176, 1.25, 7, 4.4, 2.0, (float(spine.patient.lateral(z)), y, z - 10))
    t1, t2 = render_many(spine.patient, grid, [Sequence("t1", 550, 12), T2_WEIGHTED], seed=1, snr=40, coil=0.2)
    write_series(t1.voxels, grid, dicoms.t1(), "t1", patient, folder)
    write_series(t2.voxels, grid, dicoms.t2(), "t2", patient, folder)
    values = dicoms.t2(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(spine.localizer().voxels, spine.grid, values, "localizer", patient, folder)


def write_series(voxels: np.ndarray, grid: Grid, values: dict[str, Any], name: str, patient: str, folder: Path) -> None:
    slices = dicoms.series(
        values, n=grid.slices, name=name, study=patient, patient=patient, rows=grid.rows, columns=grid.columns,
        spacing=(grid.pixel_mm, grid.pixel_mm), gap=grid.spacing_mm, origin=tuple(grid.affine[:3, 3].tolist()),
    )  # fmt: skip
    for slice_, pixels in zip(slices, voxels, strict=True):
        dicoms.set_pixels(slice_, np.clip(pixels * 2, 0, 4095).astype(np.uint16))
    dicoms.write(slices, folder)
