"""Images may lie anywhere: another source than a folder is one class."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq
import pytest
from pydicom.dataset import Dataset

import dicoms
from adversaries import encoded
from made_studies import pairs_of
from modic.archive.crawl import crawl
from modic.archive.folder import FolderSource
from modic.archive.headers import read_rows
from modic.archive.source import File, Row
from modic.config import IdentifyOptions, PairOptions
from modic.errors import Reason, Rejected, UsageError
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.records import Pair
from modic.series.identify import identify
from modic.series.pair import pair


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Files that are members of containers and lie in memory."""

    contents: dict[tuple[str, str], bytes]
    name: str = "memory"

    def files(self) -> Iterator[File]:
        for (path, member), content in sorted(self.contents.items()):
            yield File(path, len(content), 7, None, member)

    def members(self, container: File) -> Iterator[File]:
        yield container

    def read_rows(self, path: str, member: str | None) -> list[Row] | Reason:
        return read_rows(self.open(path, member))

    def state(self, path: str, member: str | None) -> tuple[int, int]:
        with self.open(path, member) as file:
            return file.seek(0, io.SEEK_END), 7

    def open(self, path: str, member: str | None) -> BinaryIO:
        try:
            return io.BytesIO(self.contents[path, member or ""])
        except KeyError:
            raise FileNotFoundError(path) from None


def in_containers(slices: list[Dataset]) -> dict[tuple[str, str], bytes]:
    """The slices in two containers, whose members have the same names."""
    return {(f"{'ab'[k % 2]}.zip", f"{k // 2:03}"): encoded(slice_) for k, slice_ in enumerate(slices)}


def test_a_source_in_memory_is_crawled_paired_and_loaded(tmp_path: Path) -> None:
    source = MemorySource({**in_containers(dicoms.study()), ("c.zip", "note.txt"): b"no image"})
    found = crawl(source, index=None)
    assert (found.counts["files_read"], found.counts["rejected"]) == (22, {Reason.FILE_NOT_DICOM: 1})
    assert found.rejected["member"].to_pylist() == ["note.txt"]
    (made,) = pair(identify(found.headers, options=IdentifyOptions()), options=PairOptions())
    assert isinstance(made, Pair)
    assert {image.path for image in made.t2.images} == {"a.zip", "b.zip"}
    volume = load_volume(made.t2, options=IdentifyOptions(), source=source)
    assert isinstance(volume, Volume)
    assert volume.voxels[:, 3, 0].tolist() == [100 * k + 3 for k in range(11)]
    dicoms.write(dicoms.study(), tmp_path)
    plain = crawl(tmp_path, index=None).headers.drop_columns(["path", "member", "mtime_ns"])
    assert sorted(map(str, found.headers.drop_columns(["path", "member", "mtime_ns"]).to_pylist())) == sorted(
        map(str, plain.to_pylist())
    )


def test_a_member_that_is_gone_or_changed_fails_the_study() -> None:
    contents = in_containers(dicoms.series(n=6))
    (series,) = identify(crawl(MemorySource(contents), index=None).headers, options=IdentifyOptions())
    gone = {key: content for key, content in contents.items() if key != ("b.zip", "001")}
    grown = {**contents, ("b.zip", "001"): contents["b.zip", "001"] + b"\0\0"}
    for source in (MemorySource(gone), MemorySource(grown)):
        refused = load_volume(series, options=IdentifyOptions(), source=source)
        assert isinstance(refused, Rejected) and refused.reason is Reason.STUDY_FILES_CHANGED


def test_members_are_known_again_one_by_one(tmp_path: Path) -> None:
    contents, index = in_containers(dicoms.series(n=6)), tmp_path / "index.parquet"
    first = crawl(MemorySource(contents), index=index)
    again = crawl(MemorySource(contents), index=index)
    assert (again.counts["files_opened"], again.counts["files_unchanged"]) == (0, 6)
    assert again.headers.equals(first.headers)
    changed = {**contents, ("b.zip", "001"): contents["b.zip", "001"] + b"\0\0"}
    del changed["a.zip", "001"]
    third = crawl(MemorySource(changed), index=index)
    assert [third.counts[f"files_{what}"] for what in ("seen", "opened", "unchanged", "gone")] == [5, 1, 4, 1]
    members = zip(third.headers["path"].to_pylist(), third.headers["member"].to_pylist(), strict=True)
    assert list(members) == sorted(changed)


def test_an_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    """What is read from a header changed since, so every file is opened once more, and then no more."""
    archive, index = tmp_path / "archive", tmp_path / "index.parquet"
    dicoms.write(dicoms.series(n=3), archive)
    first = crawl(archive, index=index)
    now = pq.read_table(index)
    pq.write_table(now.drop_columns(["Unparsed"]).replace_schema_metadata({"modic_index": "5"}), index)
    again = crawl(archive, index=index)
    assert (again.counts["files_opened"], again.headers.equals(first.headers)) == (3, True)
    assert crawl(archive, index=index).counts["files_opened"] == 0


def test_the_state_of_images_for_fingerprints(tmp_path: Path) -> None:
    """The fingerprint of every graded study is made of these tuples; another value grades all of them again."""
    slices = dicoms.series(n=5)
    paths = dicoms.write(slices, tmp_path)
    (series,) = identify(crawl(tmp_path, index=None).headers, options=IdentifyOptions())
    uids, frames, sizes, mtimes = series.image_state
    assert uids == tuple(slice_.SOPInstanceUID for slice_ in slices)
    assert frames == (0,) * 5
    assert sizes == tuple(path.stat().st_size for path in paths)
    assert mtimes == tuple(path.stat().st_mtime_ns for path in paths)
    moved = replace(series, images=tuple(replace(image, path="elsewhere") for image in series.images))
    assert moved.image_state == series.image_state


def test_a_folder_is_a_source(tmp_path: Path) -> None:
    (path,) = dicoms.write(dicoms.series(n=1), tmp_path)
    source = FolderSource(tmp_path)
    (file,) = source.files()
    assert (file.path, file.key, file.member, file.refused) == (str(path), str(path), None, None)
    assert source.state(file.path) == (file.size, file.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    rows = source.read_rows(file.path)
    with source.open(file.path) as opened:
        assert rows == read_rows(opened) == read_rows(io.BytesIO(path.read_bytes()))
    assert isinstance(rows, list) and len(rows) == 1
    with pytest.raises(UsageError, match="does not exist"):
        FolderSource(tmp_path / "missing").files()


def test_paths_longer_than_the_system_takes_are_read_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path of 4,096 bytes or more can only be opened piece by piece."""
    dicoms.write(dicoms.study(), tmp_path / "archive" / "short")
    (plain,) = pairs_of(tmp_path / "archive")
    monkeypatch.chdir(tmp_path / "archive")
    for number in range(40):
        Path(f"{number:02}" + "x" * 200).mkdir()
        monkeypatch.chdir(f"{number:02}" + "x" * 200)
        if number == 17:  # the folder's path is short enough, those of its files are not
            Path("y" * 250).write_bytes(b"no image")
    (tmp_path / "archive" / "short").rename("long")  # by its name in the folder where we are
    Path("loop").symlink_to("../..")
    found = crawl(tmp_path / "archive", index=tmp_path / "index")
    n = len(plain.t1.images) + len(plain.t2.images)
    assert found.counts["files_read"] == n and min(map(len, found.headers["path"].to_pylist())) > 4096
    assert found.counts["rejected"] == {"file.not_dicom": 1, "file.unreadable": 1}, "the file of 17, and the link"
    (deep,) = pairs_of(tmp_path / "archive")
    assert isinstance(volume := load_volume(deep.t1, options=IdentifyOptions()), Volume)
    (tmp_path / "archive" / "again").mkdir()
    Path("long").rename(tmp_path / "archive" / "again" / "short")
    (short,) = pairs_of(tmp_path / "archive")
    same = load_volume(short.t1, options=IdentifyOptions())
    assert isinstance(same, Volume) and (volume.voxels == same.voxels).all()
    assert crawl(tmp_path / "archive", index=tmp_path / "index").counts["files_gone"] == n
