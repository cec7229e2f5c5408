"""Every file of an archive is accounted for once, and opened only if it must be."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless

import dicoms
from modic.archive import headers
from modic.archive.crawl import COLUMNS, Crawl, crawl
from modic.archive.fast_headers import ReadAt, Unusual, fast_elements
from modic.archive.header_values import BINARY, REALS, TEXT, convert_ascii
from modic.archive.headers import SLOW_MIB, TAGS, read_rows
from modic.archive.sources import check_archive
from modic.config import IdentifyOptions
from modic.errors import Reason, UsageError
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.series.identify import identify


def reconciles(found: Crawl) -> bool:
    counts = found.counts
    return counts["files_seen"] == counts["files_read"] + counts["files_unchanged"] + sum(counts["rejected"].values())


def reasons(found: Crawl) -> dict[str, str]:
    return {Path(row["path"]).name: row["reason"] for row in found.rejected.to_pylist()}


def read_at(file: BinaryIO) -> ReadAt:
    return partial(os.pread, file.fileno())


def nested(depth: int) -> Sequence:
    item = Dataset()
    item.TextValue = "bottom"
    for _ in range(depth):
        outer = Dataset()
        outer.ContentSequence = Sequence([item])
        item = outer
    return Sequence([item])


def one(**changes: object) -> FileDataset:
    slice_ = dicoms.series(n=1)[0]
    for keyword, value in changes.items():
        if value is None:
            delattr(slice_, keyword)
        else:
            setattr(slice_, keyword, value)
    return slice_


REFUSED = {
    Reason.FILE_NOT_MR: {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
    Reason.FILE_MISSING_UID: {"SeriesInstanceUID": None},
    Reason.FILE_NO_PIXELS: {"PixelData": None},
    Reason.FILE_ABSURD_SIZE: {"Rows": 65535, "Columns": 65535},
    Reason.FILE_TRUNCATED: {"PixelData": b"\0" * 100},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_by_name(reason: Reason, tmp_path: Path) -> None:
    dicoms.write([one(**REFUSED[reason])], tmp_path)
    found = crawl(tmp_path, index=None)
    assert found.counts["rejected"] == {reason: 1}
    assert len(found.headers) == 0


def test_odd_files_are_counted(tmp_path: Path) -> None:
    dicoms.write(dicoms.series(n=2), tmp_path / "a")
    whole = (tmp_path / "a" / "00000").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-10])
    (tmp_path / "head").write_bytes(whole[:300])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "note.txt").write_text("not an image")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"name-\xff")).write_bytes(whole)
    found = crawl(tmp_path, index=None)
    assert reconciles(found)
    assert found.counts["files_seen"] == 9
    assert found.counts["files_read"] == 3
    assert reasons(found)["cut"] == "file.truncated"
    assert reasons(found)["empty"] == reasons(found)["note.txt"] == "file.not_dicom"
    assert reasons(found)["broken"] == reasons(found)["pipe"] == "file.unreadable"


def test_nesting_that_exhausts_the_stack_is_one_refused_file(tmp_path: Path) -> None:
    dicoms.write(dicoms.series(n=1), tmp_path)
    start, item = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    bomb = (tmp_path / "00000").read_bytes()[:132] + (start + item) * 20_000
    (tmp_path / "bomb").write_bytes(bomb)
    found = crawl(tmp_path, index=None)
    assert reasons(found) == {"bomb": "file.unreadable"}


def _bomb(whole: bytes, syntax: bytes) -> bytes:
    """The file, deflated, with a private element of 3 GiB of zeros before its pixels: 3 MB."""
    meta_end = 144 + struct.unpack_from("<I", whole, 140)[0]
    pixels = whole.rindex(b"\xe0\x7f\x10\x00OW")
    deflater, zeros = zlib.compressobj(9, wbits=-15), bytes(2**24)
    start = deflater.compress(whole[meta_end:pixels] + b"\xe1\x7f\x10\x10UN\0\0\0\0\0\xc0")
    start += deflater.flush(zlib.Z_FULL_FLUSH)
    again = deflater.compress(zeros) + deflater.flush(zlib.Z_FULL_FLUSH)
    return _called(whole[:meta_end], syntax) + start + again * 192 + deflater.flush()


def _called(meta: bytes, syntax: bytes) -> bytes:
    """File meta information with another TransferSyntaxUID, of any length."""
    at = meta.index(b"\x02\x00\x10\x00UI") + 6
    (length,) = struct.unpack_from("<H", meta, at)
    changed = meta[:at] + struct.pack("<H", len(syntax)) + syntax + meta[at + 2 + length :]
    return changed[:140] + struct.pack("<I", len(changed) - 144) + changed[144:]


def _claiming(whole: bytes, element: bytes) -> bytes:
    """The file with an element that claims nearly 4 GiB where SeriesDescription would be."""
    at = whole.index(b"\x08\x00\x90\x10" if b"\x08\x00\x90\x10" in whole else b"\x10\x00\x20\x00")
    return whole[:at] + element + b"\xf0\xff\xff\xff" + whole[at:]


def _late(whole: bytes) -> bytes:
    """The file with its TransferSyntaxUID behind a MediaStorageSOPInstanceUID of 40 kB."""
    at = whole.index(b"\x02\x00\x10\x00UI")
    return whole[:at] + b"\x02\x00\x03\x00UI" + struct.pack("<H", 40_000) + b"1" * 40_000 + whole[at:]


MEASURED = """
import json, resource, sys
from pathlib import Path
from modic.archive.crawl import crawl
found = crawl(Path(sys.argv[1]), index=None)
reasons = {Path(row["path"]).name: row["reason"] for row in found.rejected.to_pylist()}
kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"reasons": reasons, "counts": found.counts, "mib": kib / 1024}))
"""


def _measured(archive: Path) -> Any:
    """A crawl in a process of its own, which has 60 s."""
    done = subprocess.run([sys.executable, "-c", MEASURED, archive], check=True, capture_output=True, timeout=60)
    return json.loads(done.stdout)


def test_files_that_claim_gigabytes_cost_little_time_and_memory(tmp_path: Path) -> None:
    """As in the corpora of orthanc and fuzzers: bombs, absurd lengths, script; each is accounted for."""
    (path,) = dicoms.write([one(SeriesDescription="<script>alert(1)</script>")], tmp_path / "plain")
    whole, deflated = path.read_bytes(), b"1.2.840.10008.1.2.1.99"
    archive = tmp_path / "archive"
    archive.mkdir()
    files = {
        "bomb": _bomb(whole, deflated),
        "late bomb": _late(_bomb(whole, deflated)),
        "absurd private element": _claiming(whole, b"\x09\x00\x01\x10UN\0\0"),
        "absurd sequence": _claiming(whole, b"\x08\x00\x40\x11SQ\0\0"),
        "absurd wanted element": _claiming(whole, b"\x08\x00\x3e\x10UT\0\0"),
        "absurd pixels": whole[: whole.rindex(b"OW\0\0") + 4] + b"\xf0\xff\xff\xff",
    }
    for name, content in files.items():
        (archive / name).write_bytes(content)
    (archive / "script").write_bytes(whole)
    found, plain = _measured(archive), _measured(path.parent)
    assert found["counts"]["files_seen"] == len(files) + 1 == found["counts"]["files_read"] + len(found["reasons"])
    assert found["reasons"] == {
        "bomb": "file.unreadable",
        "late bomb": "file.unreadable",
        "absurd private element": "file.missing_uid",  # all that follows is inside it
        "absurd sequence": "file.missing_uid",
        "absurd wanted element": "file.unreadable",
        "absurd pixels": "file.truncated",
    }
    assert found["mib"] < plain["mib"] + SLOW_MIB + 100


def test_a_file_without_preamble_is_read(tmp_path: Path) -> None:
    (path,) = dicoms.write(dicoms.series(n=1), tmp_path)
    path.write_bytes(path.read_bytes()[132:])
    found = crawl(tmp_path, index=None)
    assert found.counts["files_read"] == 1


def test_an_unchanged_archive_is_not_opened_again(tmp_path: Path) -> None:
    archive, index = tmp_path / "archive", tmp_path / "index.parquet"
    paths = dicoms.write(dicoms.series(n=5), archive)
    (archive / "junk").write_text("junk")
    first = crawl(archive, index=index)
    second = crawl(archive, index=index)
    assert (first.counts["files_read"], first.counts["files_opened"]) == (5, 6)
    assert (second.counts["files_read"], second.counts["files_unchanged"], second.counts["files_opened"]) == (0, 5, 0)
    assert reconciles(second)
    assert second.headers.equals(first.headers)
    assert second.rejected.equals(first.rejected)

    paths[0].unlink()
    dicoms.set_pixels(changed := dicoms.series(n=5)[1], np.zeros((4, 4), np.uint16))
    changed.save_as(paths[1], enforce_file_format=True)
    third = crawl(archive, index=index)
    assert (third.counts["files_seen"], third.counts["files_read"], third.counts["files_gone"]) == (5, 1, 1)
    assert (
        dict(zip(third.headers["path"].to_pylist(), third.headers["Rows"].to_pylist(), strict=True))[str(paths[1])] == 4
    )


def test_several_processes_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicoms.write(dicoms.series(n=59), tmp_path)
    (tmp_path / "junk").write_text("junk")
    monkeypatch.setattr("modic.archive.crawl.BATCH", 3)
    alone = crawl(tmp_path, index=None, processes=2)  # so few are read in this process
    monkeypatch.setattr("modic.archive.known_files.GROUP", 15)
    for name, value in (("MIN_FOR_PROCESSES", 0), ("MAX_WAITING", 4)):
        monkeypatch.setattr(f"modic.archive.crawl.{name}", value)
    seen: list[int] = []
    together = crawl(tmp_path, index=None, processes=2, on_progress=seen.append)
    assert together.headers.equals(alone.headers) and together.rejected.equals(alone.rejected)
    assert (together.counts, seen) == (alone.counts, [*range(3, 61, 3)])


@pytest.mark.parametrize("dies", ["while reading", "before", "at its start"])
def test_a_process_that_dies_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str) -> None:
    dicoms.write(dicoms.series(n=9), tmp_path)
    expected = crawl(tmp_path, index=None)
    monkeypatch.setattr("modic.archive.crawl.BATCH", 2)
    monkeypatch.setattr("modic.archive.crawl.MIN_FOR_PROCESSES", 0)
    monkeypatch.setattr("modic.archive.crawl.ProcessPoolExecutor", KINDS[dies])
    assert crawl(tmp_path, index=None, processes=2).headers.equals(expected.headers)


class Dying(ProcessPoolExecutor):
    """Its processes die of their work."""

    def submit(self, *_: Any, **__: Any) -> Future:
        return super().submit(os.abort)


class Dead(Dying):
    """Its processes have died before they are given any."""

    def submit(self, *_: Any, **__: Any) -> Future:
        with suppress(BrokenProcessPool):
            super().submit().result()
        return super().submit()


class Unstarted(ProcessPoolExecutor):
    """Its processes cannot be started."""

    def submit(self, *_: Any, **__: Any) -> Future:
        raise OSError("AF_UNIX path too long")


KINDS = {"while reading": Dying, "before": Dead, "at its start": Unstarted}


def test_a_broken_index_is_made_anew(tmp_path: Path) -> None:
    dicoms.write(dicoms.series(n=2), tmp_path / "archive")
    index = tmp_path / "index.parquet"
    index.write_bytes(b"PAR1 no")
    assert crawl(tmp_path / "archive", index=index).counts["files_read"] == 2
    assert crawl(tmp_path / "archive", index=index).counts["files_unchanged"] == 2


def test_an_index_that_is_merged_piece_by_piece_is_that_of_a_fresh_crawl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New files between known ones, changed, gone and refused ones, with row groups of 4 rows."""
    archive, index = tmp_path / "archive", tmp_path / "index.parquet"
    for name in ("b", "d", "f"):
        dicoms.write(dicoms.series(n=7, name=name, study=name), archive / name)
    (archive / "b" / "note").write_text("x")
    for module in ("header_index", "known_files"):
        monkeypatch.setattr(f"modic.archive.{module}.GROUP", 4)
    crawl(archive, index=index)
    assert pq.ParquetFile(index).num_row_groups == 6
    for name in ("a", "c", "g"):
        dicoms.write(dicoms.series(n=3, name=name, study=name), archive / name)
    (archive / "c" / "note").write_text("y")
    shutil.rmtree(archive / "d")
    gone, changed = sorted((archive / "f").iterdir())[2:4]
    gone.unlink()
    changed.write_bytes(b"no DICOM any more")
    found, fresh = crawl(archive, index=index), crawl(archive, index=tmp_path / "fresh.parquet")
    assert (found.counts["files_read"], found.counts["files_gone"]) == (9, 8)
    assert found.images.to_pylist() == fresh.images.to_pylist() and found.rejected.equals(fresh.rejected)
    merged, whole = pq.read_table(index), pq.read_table(tmp_path / "fresh.parquet")
    assert merged.schema.equals(whole.schema) and merged.to_pylist() == whole.to_pylist()


def test_an_index_damaged_where_it_is_not_compared_is_made_anew(tmp_path: Path) -> None:
    archive, index = tmp_path / "archive", tmp_path / "index.parquet"
    dicoms.write(dicoms.series(n=3), archive / "a")
    crawl(archive, index=index)
    group = pq.ParquetFile(index).metadata.row_group(0)
    names = [group.column(k).path_in_schema for k in range(group.num_columns)]
    page = group.column(names.index("RepetitionTime"))
    content = bytearray(index.read_bytes())
    start = page.dictionary_page_offset or page.data_page_offset
    content[start : start + page.total_compressed_size] = b"\xff" * page.total_compressed_size
    index.write_bytes(content)
    assert crawl(archive, index=index).counts["files_unchanged"] == 3  # not asked yet
    dicoms.write(dicoms.series(n=2, name="b"), archive / "b")
    assert crawl(archive, index=index).counts["files_read"] == 5
    assert crawl(archive, index=index).headers["RepetitionTime"].to_pylist() == [3500.0] * 5


def test_the_message_about_an_unusable_archive_names_the_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "readme").write_text("x")
    for name, message in (("missing", "does not exist"), ("file", "not a folder"), ("folder", "no DICOM")):
        with pytest.raises(UsageError, match=message):
            crawl(tmp_path / name, index=None)


def test_an_archive_below_a_folder_that_may_not_be_entered_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", forbidden)
    with pytest.raises(UsageError, match=r"archive /closed/lumbar cannot be reached: Permission denied; ask"):
        check_archive("/closed/lumbar")


def test_links_lead_nowhere_twice(tmp_path: Path) -> None:
    dicoms.write(dicoms.series(n=2), tmp_path / "elsewhere")
    archive = tmp_path / "archive"
    dicoms.write(dicoms.series(n=1, name="inside"), archive / "real")
    (archive / "again").symlink_to(archive / "real")
    (archive / "out").symlink_to(tmp_path / "elsewhere")
    (archive / "out2").symlink_to(tmp_path / "elsewhere")
    (archive / "up").symlink_to(tmp_path)
    assert crawl(archive, index=None).counts["files_seen"] == 3


def test_links_that_only_lead_to_each_other_are_unreadable(tmp_path: Path) -> None:
    dicoms.write(dicoms.series(n=1), tmp_path)
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    (tmp_path / "self").symlink_to("self")
    assert reasons(crawl(tmp_path, index=None)) == dict.fromkeys(("one", "other", "self"), "file.unreadable")


def test_socket_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicoms.write(dicoms.series(n=1), tmp_path)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert reasons(crawl(tmp_path, index=None)) == {"socket": "file.unreadable"}


def test_a_truncated_compressed_file_is_found(tmp_path: Path) -> None:
    slice_ = dicoms.series(n=1, rows=64, columns=64)[0]
    slice_.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    (path,) = dicoms.write([slice_], tmp_path)
    assert crawl(tmp_path, index=None).counts["rejected"] == {}
    path.write_bytes(path.read_bytes()[:-30])
    assert crawl(tmp_path, index=None).counts["rejected"] == {Reason.FILE_TRUNCATED: 1}


def test_text_in_other_character_sets(tmp_path: Path) -> None:
    slices = dicoms.series(n=3)
    for slice_, (charset, text) in zip(
        slices, [("ISO_IR 192", "ügen"), ("ISO_IR 144", "Спина"), (["", "ISO 2022 IR 87"], "腰椎")], strict=True
    ):
        slice_.SpecificCharacterSet, slice_.SeriesDescription = charset, text
    paths = dicoms.write(slices, tmp_path)
    paths[0].write_bytes(paths[0].read_bytes().replace(b"ISO_IR 192", b"ISO_IR 999"))
    found = crawl(tmp_path, index=None).headers["SeriesDescription"].to_pylist()
    assert found[1:] == ["Спина", "腰椎"]
    assert found[0]


@pytest.mark.parametrize("folder", ["dicom-corpus", "hitachi-lspine"])
def test_the_real_corpora_are_accounted_for(folder: str, shared_data: Path) -> None:
    found = crawl(shared_data / folder, index=None)
    assert reconciles(found)
    assert found.counts["files_seen"] == sum(path.is_file() for path in (shared_data / folder).rglob("*"))
    assert found.headers["path"].to_pylist() == sorted(found.headers["path"].to_pylist())


def test_frames_of_an_enhanced_image_have_their_own_rows(shared_data: Path) -> None:
    found = crawl(shared_data / "dicom-corpus" / "dcm_qa_enh", index=None).headers.to_pylist()
    philips = [row for row in found if row["Manufacturer"].startswith("Philips")]
    assert [row["frame"] for row in philips] == list(range(64))
    assert all(len(row["ImagePositionPatient"]) == 3 and row["PixelSpacing"] == [4.0, 4.0] for row in philips)
    assert len({tuple(row["ImagePositionPatient"]) for row in philips}) == 32


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", ["dicom-corpus", "hitachi-lspine"])
def test_the_short_reader_agrees_with_pydicom(folder: str, shared_data: Path) -> None:
    quick = 0
    for path in sorted(path for path in (shared_data / folder).rglob("*") if path.is_file()):
        with path.open("rb") as file:
            try:
                syntax, raw, pixels_at = fast_elements(read_at(file), TAGS)
            except Exception:  # noqa: BLE001  (modic.archive.headers gives these to pydicom)
                continue
        quick += 1
        whole = pydicom.dcmread(path)
        assert syntax == whole.file_meta.TransferSyntaxUID
        assert (pixels_at is not None) == any(f"{kind}PixelData" in whole for kind in ("", "Float", "DoubleFloat"))
        for tag, (vr, value) in raw.items():
            if value.isascii() or vr in BINARY:  # other text is read by pydicom
                assert convert_ascii(TAGS[tag], vr, value) == _by_pydicom(whole, TAGS[tag]), (path.name, TAGS[tag])
        assert {TAGS[tag] for tag in raw} == {keyword for keyword in TAGS.values() if keyword in whole}
    assert quick > 60


@pytest.mark.filterwarnings("ignore")
def test_an_implicit_file_gives_the_row_of_the_explicit_one_without_pydicom(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of real files with sequences and private elements, and of one with a nested sequence of undefined length."""
    (made,) = dicoms.write(dicoms.series(n=1), tmp_path)
    inner, outer = Dataset(), Dataset()
    inner.SeriesInstanceUID, inner.Rows, outer.ReferencedImageSequence = "1.2.3", 7, Sequence([inner])
    dataset = pydicom.dcmread(made)
    dataset.RequestAttributesSequence = Sequence([outer, outer])
    dataset["RequestAttributesSequence"].is_undefined_length = True
    outer["ReferencedImageSequence"].is_undefined_length = True
    dataset.add_new((0x0009, 0x0010), "LO", "PRIVATE")
    dataset.add_new((0x0009, 0x1001), "OB", bytes(40_000))
    dataset.save_as(made)
    paths = [made, *sorted(path for path in (shared_data / "hitachi-lspine").rglob("*") if path.is_file())[::7]]
    expected = [rows_of(path) for path in paths]
    monkeypatch.setattr(headers, "_pydicom_elements", lambda *_: pytest.fail("read by pydicom"))
    for path, (row,) in zip(paths, expected, strict=True):
        implicit = pydicom.dcmread(path)
        implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        implicit.save_as(tmp_path / "implicit", implicit_vr=True, little_endian=True)
        assert rows_of(tmp_path / "implicit") == [{**row, "TransferSyntaxUID": ImplicitVRLittleEndian}]


@pytest.mark.filterwarnings("ignore")
def test_an_explicit_file_that_says_it_is_implicit_is_left_to_pydicom(tmp_path: Path) -> None:
    (path,) = dicoms.write(dicoms.series(n=1), tmp_path)
    explicit = pydicom.dcmread(path)
    explicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, explicit.file_meta, enforce_standard=False)
        body = DicomBytesIO()
        body.is_little_endian, body.is_implicit_VR = True, False
        write_dataset(body, Dataset(explicit))
        file.write(body.getvalue())
    with path.open("rb") as file, pytest.raises(Unusual):
        fast_elements(read_at(file), TAGS)
    assert [row["SeriesInstanceUID"] for row in rows_of(path)] == [explicit.SeriesInstanceUID]


def _by_pydicom(whole: Dataset, keyword: str) -> object:
    if whole[keyword].is_empty:
        return None
    values = list(whole[keyword].value) if whole[keyword].VM > 1 else [whole[keyword].value]
    if COLUMNS[keyword] is TEXT:
        return "\\".join(str(one).strip() for one in values) or None
    numbers = [float(one) for one in values]
    return numbers if COLUMNS[keyword] is REALS else numbers[0]


def test_the_short_reader_leaves_the_unusual_to_pydicom(tmp_path: Path) -> None:
    (path,) = dicoms.write(dicoms.series(n=1), tmp_path)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0", 1))
    with path.open("rb") as file, pytest.raises(Unusual):
        fast_elements(read_at(file), TAGS)


def test_sequences_before_the_values_are_skipped(tmp_path: Path) -> None:
    slice_ = dicoms.series(n=1)[0]
    inner = Dataset()
    inner.SeriesInstanceUID, inner.Rows = "1.2.3", 7
    slice_.ReferencedImageSequence = Sequence([inner])
    slice_["ReferencedImageSequence"].is_undefined_length = True
    slice_.add_new((0x0009, 0x0010), "LO", "PRIVATE")
    slice_.add_new((0x0009, 0x1001), "OB", bytes(40_000))
    (path,) = dicoms.write([slice_], tmp_path)
    with path.open("rb") as file:
        _, raw, pixels_at = fast_elements(read_at(file), TAGS)
    with path.open("rb") as file:
        (row,) = read_rows(file)
    assert pixels_at
    assert raw
    assert (row["Rows"], row["SeriesInstanceUID"]) == (16, slice_.SeriesInstanceUID)


def rows_of(path: Path) -> Any:
    with path.open("rb", buffering=0) as file:
        return read_rows(file)


def late(path: Path, *elements: tuple[int, int, bytes, bytes]) -> None:
    """Append explicit elements to a file, behind its PixelData."""
    with path.open("ab") as file:
        for group, element, vr, value in elements:
            file.write(struct.pack("<HH2sH", group, element, vr, len(value)) + value)


@pytest.mark.parametrize("compressed", [False, True])
def test_elements_behind_the_pixels_are_read_where_they_are_missing_before(tmp_path: Path, compressed: bool) -> None:
    slice_ = one(SeriesInstanceUID=None, Rows=64, Columns=64, ImagePositionPatient=None)
    slice_.PixelData = bytes(2 * 64 * 64)
    if compressed:
        slice_.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    (path,) = dicoms.write([slice_], tmp_path)
    assert rows_of(path) == Reason.FILE_MISSING_UID
    late(
        path,
        (0x0020, 0x000E, b"UI", b"1.2.3\0"),
        (0x0020, 0x0032, b"DS", b"1\\2\\3 "),
        (0x0028, 0x0010, b"US", b"\x07\0"),
    )
    (row,) = rows_of(path)
    assert (row["SeriesInstanceUID"], row["ImagePositionPatient"], row["Rows"]) == ("1.2.3", [1.0, 2.0, 3.0], 64)


@pytest.mark.parametrize("rubbish", [b"\0" * 40, b"\xff" * 4000, b"<html>" * 20, b"\x20\0\x0e\0UI\xff\xff1.2"])
def test_rubbish_behind_the_pixels_changes_nothing(tmp_path: Path, rubbish: bytes) -> None:
    (path,) = dicoms.write([one(SeriesInstanceUID=None)], tmp_path)
    path.write_bytes(path.read_bytes() + rubbish)
    assert rows_of(path) == Reason.FILE_MISSING_UID


@pytest.mark.parametrize("vr", [b"OB", b"UN", b"SH", b"LO", b"US", b"AT", b"OW"])
def test_a_number_is_read_whatever_vr_the_file_calls_it(tmp_path: Path, vr: bytes) -> None:
    (path,) = dicoms.write([one(Rows=0x31, Columns=2, PixelData=bytes(4 * 0x31))], tmp_path)  # as text: 1
    whole, short = path.read_bytes(), b"\x28\0\x10\0US\x02\0\x31\0"
    assert whole.count(short) == 1
    long = vr in (b"OB", b"UN", b"OW")
    called = b"\x28\0\x10\0" + vr + (b"\0\0\x02\0\0\0" if long else b"\x02\0") + b"\x31\0"
    path.write_bytes(whole.replace(short, called))
    (row,) = rows_of(path)
    assert row["Rows"] == 0x31


@pytest.mark.parametrize("syntax", [b" 1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1 "])
def test_a_blank_around_the_transfer_syntax_is_none_of_it(tmp_path: Path, syntax: bytes) -> None:
    (path,) = dicoms.write([one()], tmp_path)
    whole = path.read_bytes()
    assert whole.count(b"1.2.840.10008.1.2.1\0") == 1
    path.write_bytes(whole.replace(b"1.2.840.10008.1.2.1\0", syntax))
    (row,) = rows_of(path)
    assert row["TransferSyntaxUID"] == "1.2.840.10008.1.2.1"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("vr", [b"\0\0", b"??", b"  ", b"lo", b"--"])
@pytest.mark.parametrize(
    "key", [b"\x19\x00\x01\x10LO", b"\x10\x00\x00\x40LT", b"\x18\x00\x50\x00DS", b"\x18\x00\x80\x00DS"]
)
def test_an_odd_vr_hides_nothing(vr: bytes, key: bytes, tmp_path: Path) -> None:
    """Of a private element, of one that nobody asks for, and of two that we do (pydicom#1067)."""
    slices = dicoms.series(n=6)
    for slice_ in slices:
        slice_.add_new((0x0019, 0x0010), "LO", "PRIVATE")
        slice_.add_new((0x0019, 0x1001), "LO", "ABCD")
        slice_.PatientComments = "ABCD"
    for path in dicoms.write(slices, tmp_path):
        content = path.read_bytes()
        assert content.count(key) == 1
        path.write_bytes(content.replace(key, key[:4] + vr))
    found = crawl(tmp_path, index=None)
    assert found.counts["rejected"] == {}
    assert {(row["RepetitionTime"], row["SliceThickness"]) for row in found.headers.to_pylist()} == {(3500.0, 4.0)}
    (series,) = identify(found.headers, options=IdentifyOptions())
    volume = load_volume(series, options=IdentifyOptions())
    assert isinstance(volume, Volume)
    assert volume.voxels[:, 0, 0].tolist() == [0, 100, 200, 300, 400, 500]
