"""Files that say little: what the file meta information says counts where the data set is silent (RSNA 2024)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage, MRImageStorage

import dicoms
from adversaries import pattern, spine
from bare_files import bare
from modic.archive.crawl import crawl
from modic.config import IdentifyOptions
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.run.publish import all_refused
from modic.series.identify import identify, is_unclear
from plain_run import plain_run

OPTIONS = IdentifyOptions()


def write(slices: list[FileDataset], folder: Path) -> Path:
    folder.mkdir()
    for number, slice_ in enumerate(slices):
        slice_.save_as(folder / f"{number}", enforce_file_format=False)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_their_pixels_are_read_and_their_contrast_is_asked_of_the_pixels(tmp_path: Path) -> None:
    found = crawl(write(bare(spine(n=6)), tmp_path / "archive"), index=None)
    assert found.counts["rejected"] == {}
    (series,) = identify(found.headers, options=OPTIONS)
    assert (series.plane, series.n_slices, is_unclear(series)) == ("sagittal", 6, True)
    volume = load_volume(_accepted(series), options=OPTIONS)
    assert isinstance(volume, Volume)
    assert (np.stack([pattern(index) for index in range(6)]) == volume.voxels).all()


def _accepted(series: Any) -> Any:

    return replace(series, rejected=None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "change, rejected",
    [
        ({}, {}),
        ({"MediaStorageSOPClassUID": MRImageStorage}, {}),
        ({"MediaStorageSOPClassUID": CTImageStorage}, {"file.not_mr": 1}),
        ({"SOPInstanceUID": None}, {}),
        ({"SOPInstanceUID": None, "MediaStorageSOPInstanceUID": None}, {"file.missing_uid": 1}),
        ({"SOPClassUID": CTImageStorage}, {"file.not_mr": 1}),  # the data set goes before
    ],
)
def test_the_data_set_goes_before_the_file_meta_information(
    change: dict[str, Any], rejected: dict[str, int], tmp_path: Path
) -> None:
    (slice_,) = bare(spine(n=1))
    for keyword, value in change.items():
        target = slice_.file_meta if keyword.startswith("Media") else slice_
        if value is None:
            del target[keyword]
        else:
            setattr(target, keyword, value)
    write([*dicoms.series(n=1, name="plain"), slice_], tmp_path / "archive")
    found = crawl(tmp_path / "archive", index=None)
    assert found.counts["rejected"] == rejected
    if not rejected:
        assert None not in found.headers["SOPInstanceUID"].to_pylist()


def test_a_run_whose_every_image_was_refused_says_so(tmp_path: Path) -> None:
    slices = dicoms.series(n=3)
    for slice_ in slices:
        slice_.Modality, slice_.SOPClassUID = "CT", CTImageStorage
    write(slices, tmp_path / "archive")
    (tmp_path / "archive" / "note").write_text("no image")
    summary = plain_run(tmp_path / "archive", tmp_path / "cohort")
    assert summary.as_dict()["attention"] == (
        "every DICOM file of the archive was refused (file.not_mr 3), so there is nothing to grade:"
        f" `modic files {tmp_path / 'cohort'} --rejected` names them"
    )
    assert "file.not_mr 3" in summary.line()


def test_one_accepted_image_is_enough() -> None:
    assert all_refused(Path(), {"files_read": 0, "files_unchanged": 1, "rejected": {"file.not_mr": 3}}) == ""
