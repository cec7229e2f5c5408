"""A cohort on file systems that can do less than a Linux disk: real ones where they can be mounted, imitated ones."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modic.errors import UsageError
from modic.run.prepare import prepare
from mounts import run_on
from poor_disk import LACKS, refuse, refuse_folder_sync, refuse_new_files
from two_nights import SOUND, two_nights

pytestmark = pytest.mark.usefixtures("no_networks")


@pytest.mark.parametrize("kind", ["tmpfs", "overlay", "vfat", "exfat", "fuse"])
def test_a_cohort_on_a_real_file_system(tmp_path: Path, kind: str) -> None:
    assert run_on(kind, tmp_path, "two_nights", "nights") == SOUND | {"link": kind not in ("vfat", "exfat")}


def test_a_private_folder_that_others_could_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    answer = run_on("exfat that others can read", tmp_path, "two_nights", "nights")
    assert answer["refused"] and "others can read" in answer["said"] and "umask=077" in answer["said"]


def test_a_small_disk_that_is_full_costs_nothing_but_the_night(tmp_path: Path) -> None:
    answer = run_on("small tmpfs", tmp_path, "two_nights", "fill")
    assert len(answer["said"]) >= 3 and all("No space left on device" in line for line in answer["said"])
    assert answer["said"][0].endswith("free some space") and answer["said"][0].startswith("True")
    assert (answer["levels"], answer["left over"]) == (24, [])


@pytest.fixture(params=LACKS)
def lack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    LACKS[request.param](monkeypatch)
    yield request.param


def test_a_cohort_on_an_imitated_file_system(tmp_path: Path, lack: str) -> None:
    link = "symbolic" not in lack and "either" not in lack
    assert two_nights(tmp_path / "archive", tmp_path / "cohort") == SOUND | {"link": link}


Refusal = Callable[[pytest.MonkeyPatch], None]
REFUSED: list[tuple[Refusal, str]] = [
    (lambda patch: refuse(patch, os, "mkdir", errno.EROFS), r"make folders \(Read-only file system\); mount it"),
    (lambda patch: refuse(patch, os, "replace", errno.EPERM), r"write files, or rename them .*; its owner must run"),
    (lambda patch: refuse(patch, os, "rename", errno.EXDEV), r"rename folders .*; put the cohort on another file"),
    (lambda patch: refuse_new_files(patch, errno.ENOSPC), r"write files, .* \(No space .*\); free some space"),
]


@pytest.mark.parametrize("refusal, said", REFUSED)
def test_what_cannot_be_done_without_is_said_before_the_crawl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal, said: str
) -> None:
    two_nights(tmp_path / "archive", tmp_path / "cohort")
    before = sorted(map(str, tmp_path.rglob("*")))
    with monkeypatch.context() as patch:
        refusal(patch)
        with pytest.raises(UsageError, match=said) as refused:
            prepare(str(tmp_path / "archive"), str(tmp_path / "cohort"))
    assert "cohort" in str(refused.value) and "\n" not in str(refused.value)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_disk_that_breaks_is_not_taken_for_one_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_folder_sync(monkeypatch, errno.EIO)
    with pytest.raises(UsageError, match="Input/output error"):
        two_nights(tmp_path / "archive", tmp_path / "cohort")
