"""Images in containers are graded where they lie, as loose ones are; a bad container costs only itself."""

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import dicoms
from made_studies import pairs_of
from modic.archive import container_members, containers
from modic.archive.cache import Cache
from modic.archive.containers import Containers, full_name, place_of
from modic.archive.crawl import Crawl, crawl
from modic.archive.folder import FolderSource
from modic.archive.sources import Opener
from modic.config import ArchiveOptions, IdentifyOptions
from modic.errors import CURES, Reason, UsageError
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.records import Series
from modic.series.company import with_unreadable_files
from modic.series.identify import identify
from modic.text import counted
from packed import KINDS, named, tarred, zipped

OPTIONS = IdentifyOptions()
SLICES = named(dicoms.study(), "scan")  # 11 of T1, 11 of T2


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


def reasons(found: Crawl) -> dict[str, str]:
    rows = found.rejected.to_pylist()
    return {full_name(Path(row["path"]).name, row["member"]): row["reason"] for row in rows}


def reconciles(found: Crawl) -> bool:
    counts = found.counts
    seen = counts["files_read"] + counts["files_unchanged"] + sum(counts["rejected"].values())
    return counts["files_seen"] == seen == len(found.headers) + len(found.rejected)


def voxels(series: Series) -> np.ndarray:
    volume = load_volume(series, options=OPTIONS, source=Opener(ArchiveOptions()))
    assert isinstance(volume, Volume)
    return volume.voxels


@pytest.mark.parametrize("kind", KINDS)
def test_images_in_a_container_are_read_as_loose_ones_and_once(kind: str, archive: Path, tmp_path: Path) -> None:
    KINDS[kind](SLICES, archive)
    before = {path: path.stat() for path in archive.rglob("*")}
    dicoms.write(dicoms.study(), tmp_path / "loose")
    (loose,), (packed,) = pairs_of(tmp_path / "loose"), pairs_of(archive)
    assert packed.t1.positions_mm == loose.t1.positions_mm
    assert [image.sop_uid for image in packed.t2.images] == [image.sop_uid for image in loose.t2.images]
    with ProcessPoolExecutor(1) as worker:  # which knows nothing but the series
        assert np.array_equal(worker.submit(voxels, packed.t2).result(), voxels(loose.t2))
    first = crawl(archive, index=tmp_path / "index")
    again = crawl(archive, index=tmp_path / "index")
    assert reconciles(first) and reconciles(again)
    assert (first.counts["files_read"], first.counts["rejected"]) == (22, {})
    assert [again.counts[f"files_{what}"] for what in ("seen", "opened", "unchanged", "gone")] == [22, 0, 22, 0]
    assert again.headers.equals(first.headers)
    after = {path: path.stat() for path in archive.rglob("*")}
    assert [(s.st_mtime_ns, s.st_size) for s in after.values()] == [(s.st_mtime_ns, s.st_size) for s in before.values()]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gz each"])
def test_an_unchanged_container_costs_one_stat(
    kind: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    KINDS[kind](SLICES, archive)
    first = crawl(archive, index=tmp_path / "index")

    def opened(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(FolderSource, "open", opened)
    assert crawl(archive, index=tmp_path / "index").headers.equals(first.headers)


@pytest.mark.parametrize("kind", ["zip stored", "zip deflated", "tar", "tar.gz", "zip in zip"])
def test_of_a_changed_container_only_what_is_new_is_read(kind: str, archive: Path, tmp_path: Path) -> None:
    """Whoever packs the same files again, or adds some, has no study graded again."""
    KINDS[kind](SLICES, archive)
    (path,) = archive.iterdir()
    first = crawl(archive, index=tmp_path / "index")
    os.utime(path, ns=(1, 1))
    touched = crawl(archive, index=tmp_path / "index")
    assert [touched.counts[f"files_{what}"] for what in ("opened", "unchanged", "gone")] == [1, 22, 0]
    states = [[series.image_state for series in identify(found.headers, options=OPTIONS)] for found in (first, touched)]
    assert states[0] == states[1]
    changed = {name: content for name, content in SLICES.items() if name != "scan/004"}
    changed |= {"scan/new": SLICES["scan/004"], "scan/005": SLICES["scan/005"] + bytes(2)}
    KINDS[kind](changed, archive)
    last = crawl(archive, index=tmp_path / "index")
    assert reconciles(last)
    counts = [last.counts[f"files_{what}"] for what in ("seen", "opened", "unchanged", "gone")]
    assert counts == [22, 3, 20, 1], "opened: the container, the new and the changed file"
    members = {name.rpartition("!/")[2] for name in last.headers["member"].to_pylist()}
    assert members == set(changed)
    assert crawl(archive, index=tmp_path / "index").counts["files_opened"] == 0


def test_a_container_that_is_gone_takes_its_members_along(archive: Path, tmp_path: Path) -> None:
    (archive / "a.zip").write_bytes(zipped(SLICES))
    (archive / "b.tar").write_bytes(tarred(named(dicoms.study(patient="b"))))
    crawl(archive, index=tmp_path / "index")
    (archive / "a.zip").unlink()
    found = crawl(archive, index=tmp_path / "index")
    assert [found.counts[f"files_{what}"] for what in ("seen", "unchanged", "gone")] == [22, 22, 22]
    assert len(pq.read_table(tmp_path / "index")) == 23, "and the tar"


def test_an_index_that_took_a_zip_for_no_image(archive: Path, tmp_path: Path) -> None:
    """Versions before this one opened none."""
    (archive / "a.zip").write_bytes(zipped(SLICES))
    dicoms.write(dicoms.series(n=1), archive)
    crawl(archive, index=tmp_path / "index")
    table = pq.read_table(tmp_path / "index")
    rows = [row for row in table.to_pylist() if row["member"] is None]
    rows = [{**row, "reason": row["reason"] and "file.not_dicom"} for row in rows]
    pq.write_table(table.from_pylist(rows, schema=table.schema), tmp_path / "index")
    assert crawl(archive, index=tmp_path / "index").counts["files_seen"] == 23
    assert crawl(archive, index=tmp_path / "index").counts["files_opened"] == 0


def test_other_processes_read_members(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (archive / "a.zip").write_bytes(zipped(SLICES))
    (archive / "b.tar.gz").write_bytes(tarred(named(dicoms.study(patient="b")), "w:gz"))
    alone = crawl(archive, index=None)
    monkeypatch.setattr("modic.archive.crawl.MIN_FOR_PROCESSES", 0)
    monkeypatch.setattr("modic.archive.crawl.BATCH", 7)
    assert crawl(archive, index=None, processes=2).headers.equals(alone.headers)


def encrypted(files: dict[str, bytes]) -> bytes:
    """A zip whose flags say that its members are encrypted."""
    content = bytearray(zipped(files))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + at] |= 1
    return bytes(content)


def with_method(files: dict[str, bytes], method: int) -> bytes:
    """A zip whose members say that they are packed by this method."""
    content = bytearray(zipped(files, zipfile.ZIP_STORED))
    start = -1
    while (start := content.find(b"PK\x01\x02", start + 1)) >= 0:
        content[start + 10] = method
    return bytes(content)


OTHER = named(dicoms.series(patient="other", n=3))
WHOLE_TAR = tarred(OTHER)
DAMAGED = {
    "a.zip": zipped(OTHER)[:-200],
    "empty.zip": b"",
    "cut.zip": zipped(OTHER)[:50],
    "no directory.zip": zipped(OTHER)[:30] + bytes(1000),
    "a.tar": WHOLE_TAR[:2000],
    "b.tar": b"no tar at all" * 100,
    "a.tar.gz": tarred(OTHER, "w:gz")[:-300],
    "b.tgz": b"\x1f\x8b\x08" + bytes(100),
    "text.tar.gz": gzip.compress(b"a text, and no tar"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_container_names_itself_and_costs_nothing_else(name: str, archive: Path, tmp_path: Path) -> None:
    (archive / name).write_bytes(DAMAGED[name])
    (archive / "whole.zip").write_bytes(zipped(SLICES))
    found = crawl(archive, index=tmp_path / "index")
    assert reconciles(found) and found.counts["files_read"] >= 22
    assert reasons(found)[name] == Reason.FILE_CONTAINER_DAMAGED
    again = crawl(archive, index=tmp_path / "index")
    assert again.counts["files_opened"] == 0 and again.counts["rejected"] == found.counts["rejected"]
    with pytest.raises(UsageError, match=r"file.container_damaged: damaged or cut off: copy it again|no DICOM"):
        (archive / "whole.zip").unlink()
        (archive / name).write_bytes(DAMAGED[name][:1000] if name == "a.tar" else DAMAGED[name])
        crawl(archive, index=tmp_path / "index")


def test_what_is_whole_in_a_tar_that_was_cut_off_is_read_with_a_warning(archive: Path) -> None:
    files = named(dicoms.series(n=8))
    whole = tarred(files)
    ends = [whole.index(b"s/%03d" % number) for number in range(8)]
    for cut, n_whole, others in ((ends[6] + 600, 6, {"s/006"}), (ends[7], 7, set()), (ends[6] + 100, 6, set())):
        (archive / "a.tar").write_bytes(whole[:cut])
        found = crawl(archive, index=None)
        assert found.counts["files_read"] == n_whole
        expected = {"a.tar": Reason.FILE_CONTAINER_DAMAGED, **{f"a.tar!/{k}": "file.truncated" for k in others}}
        assert reasons(found) == expected
        (stack,) = with_unreadable_files(identify(found.headers, options=OPTIONS), found.rejected)
        assert [str(w) for w in stack.warnings] == [
            f"{counted(1 + len(others), 'file')} beside its images cannot be read"
        ]
    broken = bytearray(whole)
    broken[ends[4] + 10] ^= 1  # the head of a member, whose checksum no longer fits
    (archive / "a.tar").write_bytes(broken)
    found = crawl(archive, index=None)
    assert found.counts["files_read"] == 4 and reasons(found) == {"a.tar": Reason.FILE_CONTAINER_DAMAGED}
    (archive / "a.tar").write_bytes(whole)
    assert crawl(archive, index=None).counts["rejected"] == {}


def test_encrypted_members_and_unknown_methods_are_named(archive: Path) -> None:
    (archive / "locked.zip").write_bytes(encrypted(OTHER))
    (archive / "deflate64.zip").write_bytes(with_method(OTHER, 9))
    (archive / "bzip2.zip").write_bytes(zipped(OTHER, zipfile.ZIP_BZIP2))
    (archive / "whole.zip").write_bytes(zipped(SLICES))
    found = crawl(archive, index=None)
    assert found.counts["rejected"] == {Reason.FILE_ENCRYPTED: 3, Reason.FILE_CONTAINER_UNSUPPORTED: 6}
    assert reasons(found)["locked.zip!/s/000"] == Reason.FILE_ENCRYPTED
    assert set(CURES) >= {Reason.FILE_ENCRYPTED, Reason.FILE_CONTAINER_UNSUPPORTED}
    for name in ("deflate64.zip", "bzip2.zip", "whole.zip"):
        (archive / name).unlink()
    with pytest.raises(UsageError, match=r"file\.encrypted: encrypted: unpack it with its password"):
        crawl(archive, index=None)


def test_members_that_are_damaged_inside_are_refused_alone(archive: Path) -> None:
    content = bytearray(zipped(SLICES))
    at = content.index(b"scan/003") + 8
    content[at : at + 60] = bytes(60)
    (archive / "a.zip").write_bytes(content)
    cut = gzip.compress(SLICES["scan/000"])
    (archive / "cut.gz").write_bytes(cut[: len(cut) // 2] + bytes(8))
    (archive / "none.gz").write_bytes(b"\x1f\x8b")
    found = crawl(archive, index=None)
    assert reasons(found) == {
        "a.zip!/scan/003": "file.unreadable", "cut.gz": "file.container_damaged", "none.gz": "file.not_dicom",
    }  # fmt: skip


def test_a_member_whose_own_head_is_damaged_is_refused_alone(archive: Path) -> None:
    content = bytearray(zipped(SLICES))
    at = content.index(b"scan/003") - 30
    content[at : at + 4] = b"XXXX"
    (archive / "a.zip").write_bytes(content)
    found = crawl(archive, index=None)
    assert reconciles(found) and reasons(found) == {"a.zip!/scan/003": Reason.FILE_CONTAINER_DAMAGED}


def test_a_member_that_breaks_behind_its_header_is_found_when_its_pixels_are_read(archive: Path) -> None:
    content = bytearray(zipped(named(dicoms.series(n=6, rows=400, columns=400)), zipfile.ZIP_STORED))
    content[content.index(b"s/003") + 200_000] ^= 0xFF
    (archive / "a.zip").write_bytes(content)
    (series,) = identify(crawl(archive, index=None).headers, options=OPTIONS)
    refused = load_volume(series, options=OPTIONS)
    assert getattr(refused, "reason", None) is Reason.STUDY_PIXELS_UNREADABLE


class TestBombs:
    """Nothing is unpacked beyond the limits, and the reason says so."""

    @pytest.fixture(autouse=True)
    def limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(container_members, "SMALL", 2**20)
        monkeypatch.setattr(container_members, "MAX_MEMBERS", 30)

    @staticmethod
    def said(archive: Path, cache: Cache | None = None) -> dict[str, str]:
        (archive / "whole.zip").write_bytes(zipped(SLICES))
        found = crawl(Containers(FolderSource(archive), cache or Cache()), index=None)
        assert found.counts["files_read"] >= 22 and reconciles(found)
        return reasons(found)

    def test_a_member(self, archive: Path) -> None:
        noise = np.random.default_rng(0).bytes(2**20)
        (archive / "a.zip").write_bytes(zipped({"zeros": bytes(2**23), "noise": noise}))
        assert self.said(archive) == {"a.zip!/zeros": "file.container_over_limit", "a.zip!/noise": "file.not_dicom"}

    def test_a_whole_zip(self, archive: Path) -> None:
        (archive / "a.zip").write_bytes(zipped({f"{number}": bytes(2**20) for number in range(8)}))
        assert self.said(archive) == {"a.zip": "file.container_over_limit"}

    def test_a_tar_gz(self, archive: Path) -> None:
        (archive / "a.tar.gz").write_bytes(tarred({"zeros": bytes(2**23)}, "w:gz"))
        assert self.said(archive) == {"a.tar.gz": "file.container_over_limit"}

    def test_a_gz(self, archive: Path) -> None:
        (archive / "a.gz").write_bytes(gzip.compress(bytes(2**23)))
        assert self.said(archive) == {"a.gz": "file.container_over_limit"}

    def test_members(self, archive: Path) -> None:
        many = {f"{number}": b"x" for number in range(31)}
        (archive / "a.zip").write_bytes(zipped(many))
        (archive / "b.tar").write_bytes(tarred(many))
        said = self.said(archive)
        assert said["a.zip"] == said["b.tar"] == "file.container_over_limit"
        assert len(said) == 32, "of the tar 30 members are no images"

    def test_a_directory_that_would_fill_the_memory(self, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(container_members, "MAX_DIRECTORY", 2000)
        (archive / "a.zip").write_bytes(zipped({f"{number:050}": b"" for number in range(29)}))
        assert self.said(archive) == {"a.zip": "file.container_over_limit"}

    def test_a_list_that_would_fill_the_memory(self, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The extended header of a tar may claim any length, and tarfile reads it whole."""
        monkeypatch.setattr(containers, "LIST_MIB", 64)
        monkeypatch.setattr(container_members, "SMALL", 2**30)
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 2**28
        content = header.tobuf(tarfile.USTAR_FORMAT) + bytes(2**28) + tarred(OTHER)
        (archive / "a.tar.gz").write_bytes(gzip.compress(content, 1))
        assert self.said(archive) == {"a.tar.gz": "file.container_over_limit"}

    def test_containers_in_containers(self, archive: Path) -> None:
        (archive / "a.zip").write_bytes(zipped({"b.zip": zipped({"c.zip": zipped(OTHER), **OTHER})}))
        assert self.said(archive) == {"a.zip!/b.zip!/c.zip": "file.container_over_limit"}
        (archive / "a.zip").write_bytes(zipped({"b.zip": b"PK no zip", **OTHER}))
        assert self.said(archive) == {"a.zip!/b.zip": "file.container_damaged"}

    def test_a_tar_gz_larger_than_the_cache(self, archive: Path, tmp_path: Path) -> None:
        (archive / "a.tar.gz").write_bytes(tarred({"noise": np.random.default_rng(0).bytes(50_000)}, "w:gz"))
        assert self.said(archive, Cache(tmp_path / "cache", 40_000)) == {"a.tar.gz": "file.container_over_limit"}
        assert not list((tmp_path / "cache").glob(".*"))


def test_odd_members(archive: Path) -> None:
    """Folders and links are no files; all members of one name count; names need not be UTF-8."""
    image = SLICES["scan/000"]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as file:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            link = tarfile.TarInfo(f"k{kind!r}")
            link.type, link.linkname = kind, "../../etc/passwd"
            file.addfile(link)
        for name, member in (("twice", b"early"), ("twice", image), (os.fsdecode(b"name-\xff"), image)):
            info = tarfile.TarInfo(name)
            info.size = len(member)
            file.addfile(info, io.BytesIO(member))
    (archive / "a.tar").write_bytes(content.getvalue())
    (archive / "image.zip").write_bytes(image)
    (archive / "empty.zip").write_bytes(zipped({}))
    (archive / "empty.tar").write_bytes(tarred({}))
    found = crawl(archive, index=None)
    assert reasons(found) == {"a.tar!/(1) twice": "file.not_dicom"}
    assert found.headers["member"].to_pylist() == ["name-\uf7ff", "twice", None]
    rows = found.headers.to_pylist()
    for row in rows:
        with Opener().open(row["path"], row["member"]) as file:
            assert file.read() == image
    assert [Opener().state(row["path"], row["member"]) for row in rows] == [(r["size"], r["mtime_ns"]) for r in rows]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_images_of_one_name_are_all_read(kind: str, archive: Path, tmp_path: Path) -> None:
    """As in a container into which several folders of IM0001, IM0002, … were packed without the folders."""
    content, images = io.BytesIO(), list(SLICES.values())
    with zipfile.ZipFile(content, "w") if kind == "zip" else tarfile.open(fileobj=content, mode="w") as file:
        for image in images:
            if isinstance(file, zipfile.ZipFile):
                with pytest.warns(UserWarning) if image is not images[0] else nullcontext():
                    file.writestr("CD/IM.dcm", image)
            else:
                info = tarfile.TarInfo("CD/IM.dcm")
                info.size = len(image)
                file.addfile(info, io.BytesIO(image))
    (archive / f"a.{kind}").write_bytes(content.getvalue())
    found = crawl(archive, index=tmp_path / "index")
    assert reconciles(found) and not found.counts["rejected"]
    assert sorted(found.headers["member"].to_pylist())[:2] == ["CD/(1) IM.dcm", "CD/(10) IM.dcm"]
    assert [volume.shape for volume in map(voxels, identify(found.headers, options=OPTIONS))] == [(11, 16, 12)] * 2
    assert crawl(archive, index=tmp_path / "index").counts["files_opened"] == 0


@pytest.mark.parametrize("behind", ["zeros", "noise", "parts", "cut off", "damaged"])
def test_a_gz_file_whose_end_does_not_tell_its_length(behind: str, archive: Path) -> None:
    """Padded to whole blocks, with rubbish behind it, or made of parts as by bgzip; only what is whole is read."""
    for number, image in enumerate(list(SLICES.values())[:11]):
        packed = gzip.compress(image)
        if behind == "zeros":
            packed += bytes(512)
        elif behind == "noise":
            packed += b"noise" + bytes(3)
        elif behind == "parts":
            packed = b"".join(gzip.compress(image[at : at + 99]) for at in range(0, len(image), 99))
        elif behind == "cut off":
            packed = packed[:-20]
        else:
            packed = packed[:-8] + bytes(4) + packed[-4:] + bytes(512)
        (archive / f"{number}.gz").write_bytes(packed)
    (archive / "another").write_bytes(SLICES["scan/020"])
    found = crawl(archive, index=None)
    if behind in ("cut off", "damaged"):
        assert found.counts["rejected"] == {"file.container_damaged": 11}
    else:
        series = max(identify(found.headers, options=OPTIONS), key=lambda stack: stack.n_slices)
        assert not found.counts["rejected"] and voxels(series).shape == (11, 16, 12)


def test_members_without_a_time_have_that_of_their_tar(archive: Path, tmp_path: Path) -> None:
    """Who packs reproducibly sets all times to zero, and all images of a series have one size."""
    first, other = (named(dicoms.series(n=6, patient=patient)) for patient in ("patient-1", "patient-2"))
    (archive / "a.tar").write_bytes(tarred(first, mtime=0))
    crawl(archive, index=tmp_path / "index")
    (archive / "a.tar").write_bytes(tarred(other, mtime=0))
    os.utime(archive / "a.tar", ns=(2, 2))
    found = crawl(archive, index=tmp_path / "index")
    assert found.headers["PatientID"].to_pylist() == ["patient-2"] * 6


def test_a_single_zip_is_an_archive(archive: Path) -> None:
    (archive / "a.zip").write_bytes(zipped(SLICES))
    assert crawl(archive / "a.zip", index=None).counts["files_read"] == 22
    dicoms.write(dicoms.series(n=1), archive)
    with pytest.raises(UsageError, match=r"is not a folder, nor one of \.zip \.tar \.tar\.gz \.tgz"):
        crawl(archive / "00001", index=None)


def test_names_of_members_lead_back() -> None:
    for path, member in (
        ("/x/a.zip", "s/1"), ("/x/a.tar.gz", "b.ZIP!/s/1"), ("/x/1.dcm", None), ("/x!/1.dcm", None),
        ("/x!/a.tar", "y!/1"), ("dicomweb+https://h/p/studies/1", "2/3"),
    ):  # fmt: skip
        assert place_of(full_name(path, member)) == (path, member)


def kept(cache: Cache, *keys: str) -> Iterator[bool]:
    for key in keys:
        yield cache.read(key) is not None


def test_a_cache_stays_within_its_size_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1000)
    for number in range(4):
        cache.put(f"{number}", bytes(240))
        os.utime(cache._path(f"{number}"), ns=(number, number))
    assert cache.read("0") == bytes(240)
    cache.put("4", bytes(240))
    assert list(kept(cache, "0", "1", "2", "3", "4")) == [True, False, True, True, True]
    cache.put("large", bytes(5000))
    assert list(kept(cache, "0", "4", "large")) == [False, False, True]
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "cache").iterdir())
    with pytest.raises(ZeroDivisionError):
        cache.open("5", lambda file: file.write(bytes(1 // 0)) and None)
    assert list(kept(cache, "5")) == [False] and len(list((tmp_path / "cache").iterdir())) == 1


def test_what_the_cache_dropped_is_unpacked_again(archive: Path, tmp_path: Path) -> None:
    (archive / "a.tar.gz").write_bytes(tarred(SLICES, "w:gz"))
    options = ArchiveOptions(cache=str(tmp_path / "cache"))
    found = crawl(Containers(FolderSource(archive), Cache(tmp_path / "cache")), index=None)
    series = identify(found.headers, options=OPTIONS)
    (copy,) = (tmp_path / "cache").iterdir()
    copy.unlink()
    containers._opened.cache_clear()
    assert all(isinstance(load_volume(s, options=OPTIONS, source=Opener(options)), Volume) for s in series)
    assert copy.exists()
