"""What only the other series and files show: echoes of a map, files with UIDs of their own, unreadable neighbours."""

import os
from pathlib import Path
from typing import Any

import pytest

import dicoms
from adversaries import changed
from modic.archive.crawl import crawl
from modic.config import IdentifyOptions, PairOptions
from modic.errors import Reason, UsageError
from modic.records import Excluded, Pair, Series
from modic.series.company import with_unreadable_files
from modic.series.identify import identify
from modic.series.pair import pair

OPTIONS = IdentifyOptions()


def written(slices: list[Any], folder: Path) -> list[Series]:
    dicoms.write(slices, folder)
    return identify(crawl(folder, index=None).headers, options=OPTIONS)


def echoes(times: list[float], **more: Any) -> list[Any]:
    return [one for te in times for one in dicoms.series(dicoms.t2(EchoTime=te, **more), name=f"echo {te}")]


@pytest.mark.parametrize("one_series", [True, False])
def test_the_echoes_of_a_t2_map_as_the_only_t2_are_said(one_series: bool, tmp_path: Path) -> None:
    slices = echoes([13, 26, 40, 53, 66, 80, 93, 106, 119])
    if one_series:
        changed(slices, SeriesInstanceUID="1.2.3")
    (found,) = pair(written(dicoms.series(dicoms.t1(), name="t1") + slices, tmp_path), options=PairOptions())
    assert isinstance(found, Pair)
    assert found.t2.echo_time_ms == 106  # nearest to a usual T2
    assert "one of 9 echoes of one acquisition" in map(str, found.t2.warnings)


def test_a_proton_density_and_a_t2_of_one_acquisition_are_usual(tmp_path: Path) -> None:
    (found,) = pair(written(dicoms.series(dicoms.t1(), name="t1") + echoes([20, 100]), tmp_path), options=PairOptions())
    assert isinstance(found, Pair)
    assert found.t2.warnings == ()


def test_a_series_uid_for_every_file_is_named_with_the_cure(tmp_path: Path) -> None:
    slices = dicoms.study()
    for index, slice_ in enumerate(slices):
        slice_.SeriesInstanceUID = f"1.2.3.{index}"
    found = written(slices, tmp_path)
    assert {stack.rejected.reason for stack in found if stack.rejected} == {Reason.SERIES_TOO_FEW_SLICES}
    assert {str(stack.warnings[0]).split(":")[0] for stack in found} == {"one of 11 series of one image each"}
    (study,) = pair(found, options=PairOptions())
    assert isinstance(study, Excluded)
    assert "series of one image each 22" in study.rejected.detail


def test_a_study_uid_for_every_series_is_named_with_the_cure(tmp_path: Path) -> None:
    slices = changed(dicoms.study(), slice(11, None), StudyInstanceUID="1.2.3")
    found = pair(written(slices, tmp_path), options=PairOptions())
    assert {one.rule: one.rejected.detail.split("; ")[1][:52] for one in found if isinstance(one, Excluded)} == {
        "P3": "another study of the patient and day has a T1",
        "P4": "another study of the patient and day has a T2",
    }


def test_studies_of_two_days_are_two_studies(tmp_path: Path) -> None:
    slices = changed(dicoms.study(), slice(11, None), StudyInstanceUID="1.2.3", StudyDate="20210102")
    found = pair(written(slices, tmp_path), options=PairOptions())
    assert all("another study" not in one.rejected.detail for one in found if isinstance(one, Excluded))


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_end_slices_that_this_user_may_not_read(tmp_path: Path) -> None:
    paths = dicoms.write(dicoms.series(), tmp_path)
    for path in paths[:2]:
        path.chmod(0)
    _assert_said(tmp_path)


def test_end_slices_that_are_cut_off(tmp_path: Path) -> None:
    paths = dicoms.write(dicoms.series(), tmp_path)
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:-100])
    _assert_said(tmp_path)


def _assert_said(folder: Path) -> None:
    crawled = crawl(folder, index=None)
    (stack,) = with_unreadable_files(identify(crawled.headers, options=OPTIONS), crawled.rejected)
    assert stack.n_slices == 9
    assert [str(warning) for warning in stack.warnings] == ["2 files beside its images cannot be read"]


@pytest.mark.parametrize(
    "content, kind, cure",
    [
        (b"PK\x03\x04", "zip", "let the names of zip files end in .zip"),
        (b"\x1f\x8b\x08", "gzip", "let the names of gzip files end in .gz or .tar.gz"),
        (b"\0" * 257 + b"ustar", "tar", "let the names of tar files end in .tar"),
        (b"7z\xbc\xaf", "7z", "unpack them into folders"),
    ],
)
def test_an_archive_of_packed_files_is_named(content: bytes, kind: str, cure: str, tmp_path: Path) -> None:
    (tmp_path / "study").write_bytes(content + bytes(500))
    with pytest.raises(UsageError, match=f"holds no DICOM file .1 file seen; 1 {kind} among .*{cure}"):
        crawl(tmp_path, index=None)


def test_an_archive_of_notes_has_nothing_to_unpack(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("no image")
    with pytest.raises(UsageError, match=r"holds no DICOM file \(1 file seen\)"):
        crawl(tmp_path, index=None)
