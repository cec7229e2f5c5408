"""Images in an object store, here one in memory, are read as those of a folder, packed ones too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import dicoms
from modic.archive.crawl import crawl
from modic.archive.sources import Opener, check_archive, source_of
from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected, UsageError
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.series.identify import identify
from packed import named, tarred, zipped

OPTIONS = IdentifyOptions()


@pytest.fixture
def store() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    for name, content in named(dicoms.series(n=6, patient="loose"), "loose").items():
        memory.pipe_file(f"/bucket/{name}", content)
    memory.pipe_file("/bucket/a.zip", zipped(named(dicoms.series(n=6, patient="zip"))))
    memory.pipe_file("/bucket/b.tar.gz", tarred(named(dicoms.series(n=6, patient="tar")), "w:gz"))
    memory.pipe_file("/other/note.txt", b"no image")
    yield memory
    for name in ("/bucket", "/other"):
        if memory.exists(name):
            memory.rm(name, recursive=True)


def test_a_store_is_crawled_and_loaded_and_then_only_listed(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = crawl(source_of("memory://bucket"), index=tmp_path / "index")
    assert (first.counts["files_read"], first.counts["rejected"]) == (18, {})
    volumes = [load_volume(one, options=OPTIONS, source=Opener()) for one in identify(first.headers, options=OPTIONS)]
    assert [volume.voxels[:, 3, 0].tolist() for volume in volumes if isinstance(volume, Volume)] == [
        [100 * k + 3 for k in range(6)]
    ] * 3
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "_open", lambda *_, **__: pytest.fail("opened"))
        again = crawl(source_of("memory://bucket"), index=tmp_path / "index")
    assert again.counts["files_unchanged"] == 18 and again.headers.equals(first.headers)
    store.pipe_file("/bucket/loose/001", store.cat_file("/bucket/loose/001"))
    changed = crawl(source_of("memory://bucket"), index=tmp_path / "index")
    assert [changed.counts[f"files_{what}"] for what in ("opened", "unchanged")] == [1, 17], "written later"


def test_a_file_that_is_gone_fails_its_study(store: Any) -> None:
    series = identify(crawl(source_of("memory://bucket/loose"), index=None).headers, options=OPTIONS)
    store.rm("/bucket/loose/003")
    refused = load_volume(series[0], options=OPTIONS)
    assert isinstance(refused, Rejected) and refused.reason is Reason.STUDY_FILES_CHANGED


def test_what_is_wrong_with_a_store_is_said(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="memory://other holds no DICOM file"):
        crawl(source_of("memory://other"), index=None)
    with pytest.raises(UsageError, match="must hold no key"):
        check_archive("s3://key:secret@bucket/images")
    monkeypatch.setattr(type(store), "find", lambda *_, **__: [].pop())
    with pytest.raises(UsageError, match=r"memory://bucket cannot be listed \(IndexError\)"):
        crawl(source_of("memory://bucket"), index=None)


def test_a_store_without_its_package_names_it() -> None:
    with pytest.raises(UsageError, match=r"^gs:// needs a package of its own: .*gcsfs"):
        check_archive("gs://bucket/images")
