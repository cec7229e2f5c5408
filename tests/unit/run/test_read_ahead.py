"""What is read while a study is graded, and that whatever goes wrong there is left to the study itself."""

import gzip
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO
from zipfile import ZipFile

import pytest

from modic.archive.sources import Opener
from modic.records import ImageReference
from modic.run import read_ahead
from modic.run.read_ahead import Images


class Disk(Opener):
    """Says when a file was first opened, and how often each was."""

    def __init__(self, waited_for: list[str]) -> None:
        super().__init__()
        object.__setattr__(self, "seen", {name: threading.Event() for name in waited_for})
        object.__setattr__(self, "opened", Counter())

    def open(self, path: str, member: str | None) -> BinaryIO:
        self.opened[Path(path).name] += 1
        self.seen[Path(path).name].set()
        return super().open(path, member)


def study(*paths: Path, **changed: Any) -> Any:
    """A pair of one series with these images, as the crawl saw them but for what `changed` says."""
    states = [path.stat() for path in paths]
    images = [
        ImageReference(**{
            "path": str(path), "member": None, "frame": 0, "sop_uid": "", "size": state.st_size,
            "mtime_ns": state.st_mtime_ns, **changed,
        })
        for path, state in zip(paths, states, strict=True)
    ]  # fmt: skip
    return SimpleNamespace(series=(SimpleNamespace(images=images),))


def content(images: Images, path: Path) -> bytes:
    with images.open(str(path), None) as file:
        return file.read()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """One for each of five studies."""
    for name in "abcde":
        (tmp_path / name).write_bytes(name.encode())
    return sorted(tmp_path.iterdir())


def test_the_next_studies_are_read_while_one_is_graded_and_no_more_than_these(files: list[Path]) -> None:
    disk = Disk([*"abcde"])
    with read_ahead.read_ahead([study(path) for path in files], disk) as ahead:
        next(ahead)
        assert disk.seen["b"].wait(60) and disk.seen["c"].wait(60)
        assert not {"a", "d", "e"} & disk.opened.keys()
        second = next(ahead)
        assert content(second, files[1]) == b"b" and disk.opened["b"] == 1
        assert second.state(str(files[1]), None) == (1, files[1].stat().st_mtime_ns)
        assert [content(images, path) for images, path in zip(ahead, files[2:], strict=True)] == [b"c", b"d", b"e"]
    assert disk.opened == Counter("bcde")


def test_an_image_that_changed_is_opened_by_its_study_which_sees_the_change(files: list[Path]) -> None:
    disk, (first, second, *_) = Disk([*"abcde"]), files
    with read_ahead.read_ahead([study(first), study(second, size=2)], disk) as ahead:
        next(ahead)
        images = next(ahead)
    assert not images.read and images.state(str(second), None)[0] == 1


def test_a_file_that_is_gone_costs_no_other_study_and_is_missed_by_its_own(files: list[Path]) -> None:
    disk = Disk([*"abcde"])
    studies = [study(path) for path in files[:4]]
    files[1].unlink()
    with read_ahead.read_ahead(studies, disk) as ahead:
        _, second, third, fourth = ahead
    with pytest.raises(FileNotFoundError):
        content(second, files[1])
    assert [content(third, files[2]), content(fourth, files[3])] == [b"c", b"d"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a server's library")])
def test_what_fails_ahead_is_tried_by_the_study_itself(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    disk = Disk([*"abcde"])

    def fails(*_: Any) -> bool:
        raise error

    monkeypatch.setattr(Disk, "any_thread", fails)
    with read_ahead.read_ahead([study(path) for path in files], disk) as ahead:
        assert [content(images, path) for images, path in zip(ahead, files, strict=True)] == [
            b"a",
            b"b",
            b"c",
            b"d",
            b"e",
        ]
    assert set(disk.opened.values()) == {1}


def test_memory_is_bounded_also_by_what_is_packed(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    packed = files[0].with_name("zeros.gz")
    packed.write_bytes(gzip.compress(bytes(5000)))
    monkeypatch.setattr(read_ahead, "MOST_BYTES", 2 * packed.stat().st_size)
    files[3].write_bytes(bytes(200))
    disk = Disk(["zeros.gz", *"abcde"])
    with read_ahead.read_ahead([study(files[0]), study(files[1], packed), study(files[2], files[3])], disk) as ahead:
        next(ahead)
        unpacked, large = ahead
    assert {Path(path).name for path, _ in unpacked.read} == {"b"} and content(unpacked, packed) == bytes(5000)
    assert not large.read and disk.opened == Counter({"b": 1, "zeros.gz": 2})


def test_what_lies_in_a_container_is_not_opened_in_another_thread(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "packed.zip", "w") as file:
        file.writestr("image", b"content")
    place = str(tmp_path / "packed.zip")
    opener = Opener()
    assert opener.any_thread(place, None) and not opener.any_thread(place, "image")
    size, mtime_ns = opener.state(place, "image")
    packed = study(tmp_path / "packed.zip", member="image", size=size, mtime_ns=mtime_ns)
    with read_ahead.read_ahead([packed, packed], opener) as ahead:
        *_, images = ahead
    with images.open(place, "image") as opened:
        assert opened.read() == b"content" and not images.read
