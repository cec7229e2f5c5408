"""The stacks that readers see: read again from the archive, found in their image, placed around the disc."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from archived_cohort import COLUMNS, ROWS, archived_cohort, boxes_of, study_of
from modic.imaging.volume import Volume
from modic.reader_study.stacks import MOST_SLICES, Archive, Stack, place


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archived_cohort(tmp_path_factory.mktemp("stacks"), graded=2)


def test_every_slice_is_found_in_the_image(cohort: Path, tmp_path: Path) -> None:
    stacks = Archive(cohort, {study_of(0)}).stacks(study_of(0))
    assert stacks is not None
    for name, n in (("t1", 9), ("t2", 12)):
        stack = stacks[name]
        about = stack.write(tmp_path / f"{name}.webp")
        assert about == {"across": {9: 3, 12: 4}[n], "size": [COLUMNS, ROWS], "n": n, "spacing": [0.9, 0.9]}
        sheet = cv2.imread(str(tmp_path / f"{name}.webp"), cv2.IMREAD_GRAYSCALE)
        for index in range(n):
            top, left = index // about["across"] * ROWS, index % about["across"] * COLUMNS
            seen = sheet[top : top + ROWS, left : left + COLUMNS]
            assert np.abs(seen - 255 * stack.slices[index]).mean() < 3
        assert (sheet >= 250).mean() > 0.05 and stack.white >= np.percentile(stack.volume.voxels, 99.9)


def test_a_disc_is_placed_in_both_stacks(cohort: Path) -> None:
    stacks = Archive(cohort, {study_of(0)}).stacks(study_of(0))
    assert stacks is not None
    t1, t2 = place(stacks, {"level": "L4/L5", **boxes_of("L4/L5", {})})
    assert t1["box"] == t2["box"] == [100.0, 190.0, 145.0, 208.0]
    assert (t2["first"], t2["step"]) == (-24.0, 4.0)  # slice 6 is that of the box
    assert (t1["first"], t1["step"]) == (pytest.approx(-20.0), 4.5)  # its slice 4 is the middle, 2 mm before T2's 6
    for contrast, placed, middle in (("t1", t1, 4), ("t2", t2, 6)):
        stack = stacks[contrast]
        low, high = (stack.black + share * (stack.white - stack.black) for share in placed["window"])
        around = stack.volume.voxels[middle - 2 : middle + 3, 170:230, 90:155]
        assert low <= np.percentile(around, 1) and high >= np.percentile(around, 99)
        assert high < 1000, "the window begins as wide as the signal around the disc, not as belly fat"


def test_a_study_whose_files_changed_has_no_stacks(cohort: Path, tmp_path: Path) -> None:
    moved = shutil.move(cohort.parent / "archive" / "1" / "t1", tmp_path / "t1")
    archive = Archive(cohort, {study_of(0), study_of(1)})
    assert archive.stacks(study_of(1)) is None and archive.stacks(study_of(0)) is not None
    shutil.move(moved, cohort.parent / "archive" / "1" / "t1")
    index = cohort / "private" / "header_index.parquet"
    index.rename(tmp_path / "index")
    assert Archive(cohort, {study_of(0)}).stacks(study_of(0)) is None
    (tmp_path / "index").rename(index)


def test_of_a_thin_stack_some_slices_are_shown() -> None:
    voxels = np.arange(160, dtype=np.float32)[:, None, None] * np.ones((160, 8, 8), np.float32)
    affine = np.array([[0, 0, 0.9, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    stack = Stack.of(Volume(voxels, affine).canonical())
    assert stack.every == 4 and len(stack.slices) == 40 <= MOST_SLICES
    disc = {
        "level": "L4/L5",
        **{
            f"{c}_{e}": v
            for c in ("t1", "t2")
            for e, v in zip(("x0", "y0", "x1", "y1"), (2.0, 3.0, 5.0, 4.0), strict=True)
        },
    }
    t1, t2 = place({"t1": stack, "t2": stack}, disc | {"t1_slice": 80, "t2_slice": 80})
    assert t1["step"] == t2["step"] == pytest.approx(3.6) and t1["first"] == pytest.approx(-72.0)
