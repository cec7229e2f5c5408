"""Images of a DICOMweb server are graded as those of a folder, and asked for no more often than needed."""

import json
import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset

import dicoms
from dicomweb_server import BASIC, PASSWORD, USER, Server, serve
from modic.archive import dicomweb, dicomweb_metadata, http_session
from modic.archive.cache import Cache
from modic.archive.crawl import Crawl, crawl
from modic.archive.source import Source
from modic.archive.sources import Opener, check_archive, short_name, source_of
from modic.config import ArchiveOptions, IdentifyOptions, PairOptions
from modic.errors import Reason, Rejected, UsageError
from modic.imaging.load import load_volume
from modic.imaging.volume import Volume
from modic.records import Pair, Series
from modic.series.identify import identify
from modic.series.pair import pair

OPTIONS = IdentifyOptions()
HERE = frozenset({"path", "member", "size", "mtime_ns", "TransferSyntaxUID"})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_session, "WAIT_S", 0.0)
    dicomweb._failed.clear()
    dicomweb._images.cache_clear()
    dicomweb_metadata.client_of.cache_clear()


def source(url: str, tmp_path: Path) -> Source:
    return source_of(url, Cache(tmp_path / "cache"))


def opener(tmp_path: Path) -> Opener:
    return Opener(ArchiveOptions(cache=str(tmp_path / "cache")))


def pairs(found: Crawl) -> list[Pair]:
    outcomes = pair(identify(found.headers, options=OPTIONS), options=PairOptions())
    assert all(isinstance(outcome, Pair) for outcome in outcomes)
    return outcomes  # type: ignore[return-value]


def same_rows(found: Crawl, images: list[Dataset], folder: Path) -> bool:
    """Whether the rows are those of the same images in a folder, but for where they lie."""
    dicoms.write(images, folder)
    rows, loose = (
        sorted(({k: v for k, v in row.items() if k not in HERE} for row in crawled.headers.to_pylist()), key=str)
        for crawled in (found, crawl(folder, index=None))
    )
    return rows == loose


PATIENTS = [image for patient in ("ann", "bob", "cid") for image in dicoms.study(patient=patient, study=patient)]


def test_a_server_is_crawled_paired_and_loaded_and_then_left_alone(tmp_path: Path) -> None:
    with serve(PATIENTS) as server:
        images = source(server.url, tmp_path)
        first = crawl(images, index=tmp_path / "index")
        assert (first.counts["files_read"], first.counts["rejected"]) == (66, {})
        assert same_rows(first, PATIENTS, tmp_path / "loose")
        assert server.asked["instance"] == 0, "pixels are not asked for before they are needed"
        asked = server.asked["metadata"]
        again = crawl(images, index=tmp_path / "index")
        assert (again.counts["files_opened"], again.counts["files_unchanged"]) == (0, 66)
        assert (server.asked["metadata"], asked) == (6, 6) and again.headers.equals(first.headers)
        volume = load_volume(pairs(first)[0].t2, options=OPTIONS, source=opener(tmp_path))
        assert isinstance(volume, Volume) and volume.voxels[:, 3, 0].tolist() == [100 * k + 3 for k in range(11)]
        assert server.asked["instance"] == 11
        load_volume(pairs(first)[0].t2, options=OPTIONS, source=opener(tmp_path))
        assert server.asked["instance"] == 11, "the cache holds them"


def test_a_changed_study_is_asked_for_again_and_what_left_is_gone(tmp_path: Path) -> None:
    with serve(PATIENTS) as server:
        images = source(server.url, tmp_path)
        crawl(images, index=tmp_path / "index")
        server.images = [*PATIENTS[:44], *dicoms.series(dicoms.stir(), name="new", patient="bob", study="bob", n=5)]
        found = crawl(images, index=tmp_path / "index")
        assert [found.counts[f"files_{what}"] for what in ("seen", "unchanged", "gone")] == [49, 44, 22]
        assert server.asked["metadata"] == 6 + 3, "of the one study"


def test_studies_whose_images_the_server_does_not_count_are_listed_each_time(tmp_path: Path) -> None:
    with serve(PATIENTS, counts_nothing=True) as server:
        images = source(server.url, tmp_path)
        crawl(images, index=tmp_path / "index")
        server.images = PATIENTS[:60]
        found = crawl(images, index=tmp_path / "index")
        assert [found.counts[f"files_{what}"] for what in ("seen", "unchanged", "gone")] == [60, 60, 6]


def test_the_query_chooses_studies_and_series(tmp_path: Path) -> None:
    old, lumbar = dicoms.series(patient="old"), dicoms.series(patient="lumbar", study="l")
    for image in old:
        image.StudyDate = "20100101"
    for image in lumbar:
        image.BodyPartExamined = "LSPINE"
    other = dicoms.series(patient="lumbar", study="l", name="knee")
    for image in other:
        image.BodyPartExamined = "KNEE"
    ct = dicoms.series(patient="lumbar", study="l", name="ct")
    for image in ct:
        image.Modality = "CT"
    with serve(old + lumbar + other + ct) as server:

        def seen(query: str) -> int:
            return int(crawl(source(server.url + query, tmp_path), index=None).counts["files_seen"])

        assert seen("") == 33, "no CT"
        assert seen("?StudyDate=20190101-20261231") == 22
        assert seen("?BodyPartExamined=LSPINE") == 11
        server.knows_no_pages = True
        assert seen("") == 33
        with pytest.raises(UsageError, match="PatientID is no attribute that images can be asked for by"):
            source(server.url + "?PatientID=1", tmp_path)


def test_credentials_come_from_the_environment_and_stay_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(PATIENTS[:22], auth=BASIC) as server:
        with pytest.raises(UsageError, match=r"answers 401: set MODIC_DICOMWEB_USER and MODIC_DICOMWEB_PASSWORD"):
            crawl(source(server.url, tmp_path), index=None)
        monkeypatch.setenv(http_session.USER, USER)
        monkeypatch.setenv(http_session.PASSWORD, PASSWORD)
        dicomweb_metadata.client_of.cache_clear()
        found = crawl(source(server.url, tmp_path), index=tmp_path / "index")
        assert isinstance(load_volume(pairs(found)[0].t1, options=OPTIONS, source=opener(tmp_path)), Volume)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in kept and USER.encode() not in kept
    assert PASSWORD not in caplog.text and dicoms.uid("ann", "ann") not in caplog.text
    monkeypatch.setenv(http_session.TOKEN, "a-token")
    dicomweb_metadata.client_of.cache_clear()
    with serve(PATIENTS[:22], auth="Bearer a-token") as server:
        assert crawl(source(server.url, tmp_path), index=None).counts["files_read"] == 22
    with pytest.raises(UsageError, match="must hold no user and password") as refused:
        check_archive(f"dicomweb+https://{USER}:{PASSWORD}@host/dicom-web")
    assert PASSWORD not in str(refused.value)


def test_addresses_are_checked_before_a_run() -> None:
    for url, said in (
        ("dicomweb+http://pacs.example/dicom-web", "unencrypted: use https"),
        ("dicomweb+https:///dicom-web", "names no host"),
        ("ftp://host/x", r"no source of images is called ftp://; known are .*dicomweb\+https"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            check_archive(url)
    for url in ("dicomweb+http://127.0.0.1:8042/dicom-web", "dicomweb+https://pacs.example/dicom-web?StudyDate=2020-"):
        assert check_archive(url) is None
    assert short_name("dicomweb+https://pacs.example/dicom-web?StudyDate=2020-") == "pacs.example/dicom-web"


def test_a_busy_server_is_asked_again_and_one_that_is_down_ends_the_run(tmp_path: Path) -> None:
    with serve(PATIENTS) as server:
        images = source(server.url, tmp_path)
        server.busy = 3
        assert crawl(images, index=tmp_path / "index").counts["files_read"] == 66
        server.down = True
        with pytest.raises(UsageError, match="dicom-web answers 503"):
            crawl(images, index=tmp_path / "index")
        server.down, server.garbage = False, True
        with pytest.raises(UsageError, match="does not answer as it should"):
            crawl(images, index=tmp_path / "index")
        server.garbage = False
        assert crawl(images, index=tmp_path / "index").counts["files_unchanged"] == 66, "the index stands"
    dicomweb_metadata.client_of.cache_clear()
    with pytest.raises(UsageError, match="does not answer as it should"):
        crawl(images, index=tmp_path / "index")


def test_a_server_that_fails_midway_ends_the_run_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [i for k in range(9) for i in dicoms.series(patient=f"{k}", study=k, n=5)]
    with serve(images) as server:
        monkeypatch.setattr(http_session, "TRIES", 0)
        answer = Server.answer
        monkeypatch.setattr(Server, "answer", lambda s, path, query: fail_after(4, s, answer, path, query))
        with pytest.raises(UsageError, match="no longer answers; the next run goes on from what it sent"):
            crawl(source(server.url, tmp_path), index=tmp_path / "index")
        monkeypatch.setattr(Server, "answer", answer)
        server.down = False
        before = server.asked["metadata"]
        found = crawl(source(server.url, tmp_path), index=tmp_path / "index")
        assert found.counts["files_read"] == 45
        assert (before, server.asked["metadata"]) == (4, 9), "what came the first time is not asked for again"


def fail_after(n: int, server: Server, answer: Any, *arguments: Any) -> Any:
    """The answer, or none once `n` series were answered."""
    server.down = server.asked["metadata"] >= n
    return None if server.down else answer(server, *arguments)


def test_one_study_that_the_server_cannot_give_costs_only_itself(tmp_path: Path) -> None:
    with serve(PATIENTS) as server:
        broken = dicoms.uid("bob", "bob")
        answer = server.answer
        server.answer = lambda path, query: None if broken in path else answer(path, query)  # type: ignore[method-assign]
        found = crawl(source(server.url, tmp_path), index=tmp_path / "index")
        assert (found.counts["files_read"], found.counts["rejected"]) == (44, {Reason.FILE_UNREADABLE: 1})
        server.answer = answer  # type: ignore[method-assign]
        found = crawl(source(server.url, tmp_path), index=tmp_path / "index")
        assert (found.counts["files_unchanged"], found.counts["files_read"]) == (44, 22)


def loaded(series: Series, tmp_path: Path) -> Volume | Rejected:
    return load_volume(series, options=OPTIONS, source=opener(tmp_path))


def test_pixels_that_do_not_come_fail_the_study_until_the_next_run(tmp_path: Path) -> None:
    with serve(PATIENTS[:22]) as server:
        (one,) = pairs(crawl(source(server.url, tmp_path), index=None))
        server.down = True
        refused = loaded(one.t1, tmp_path)
        assert isinstance(refused, Rejected) and refused.reason is Reason.STUDY_FILES_CHANGED
        server.down = False
        assert isinstance(loaded(one.t1, tmp_path), Volume)
        server.images = server.images[:11]
        shutil.rmtree(tmp_path / "cache")
        dicomweb._images.cache_clear()
        assert isinstance(loaded(one.t1, tmp_path), Volume)
        refused = loaded(one.t2, tmp_path)
        assert isinstance(refused, Rejected) and refused.reason is Reason.STUDY_FILES_CHANGED


def test_a_slow_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_session, "ANSWER_S", 0.05)
    monkeypatch.setattr(http_session, "TRIES", 1)
    with serve(PATIENTS, slow_s=0.3) as server:
        began = time.monotonic()
        with pytest.raises(UsageError, match="does not answer as it should"):
            crawl(source(server.url, tmp_path), index=None)
        assert time.monotonic() - began < 5


def test_no_proxy_is_asked_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serve(PATIENTS[:22]) as server:
        assert crawl(source(server.url, tmp_path), index=None).counts["files_read"] == 22


def test_metadata_that_is_no_image_is_refused(tmp_path: Path) -> None:
    images = dicoms.series(n=6)
    images[1].Rows = 65535
    images[2].SOPClassUID, images[2].Modality = "1.2.3", "MR"
    del images[3].BitsAllocated
    images[4].ImagePositionPatient = None
    with serve(images) as server:
        found = crawl(source(server.url, tmp_path), index=None)
    assert found.counts["rejected"] == {Reason.FILE_ABSURD_SIZE: 1, Reason.FILE_NO_PIXELS: 1}


ORTHANC = shutil.which("Orthanc")
PLUGIN = next((path for path in Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so*")), None)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[str]:
    """The address of an Orthanc that asks for a password, with PATIENTS in it."""
    if not (ORTHANC and PLUGIN):
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (apt-get install orthanc orthanc-dicomweb)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "StorageDirectory": str(tmp_path / "storage"), "IndexDirectory": str(tmp_path / "storage"),
        "HttpPort": port, "RemoteAccessAllowed": False, "DicomServerEnabled": False, "Plugins": [str(PLUGIN)],
        "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD}, "DicomWeb": {"Enable": True},
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(options))
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([str(ORTHANC), str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    try:
        with requests.Session() as session:
            session.auth, session.trust_env = (USER, PASSWORD), False
            _wait_for(session, f"http://127.0.0.1:{port}/system", process)
            for path in dicoms.write(PATIENTS, tmp_path / "sent"):
                session.post(f"http://127.0.0.1:{port}/instances", path.read_bytes(), timeout=10).raise_for_status()
        yield f"dicomweb+http://127.0.0.1:{port}/dicom-web"
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(session: requests.Session, url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        try:
            session.get(url, timeout=5).raise_for_status()
            return
        except requests.ConnectionError:
            assert process.poll() is None, "Orthanc ended"
            time.sleep(0.1)
    raise AssertionError("Orthanc does not answer")


def test_a_real_orthanc(orthanc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="answers 401"):
        crawl(source(orthanc, tmp_path), index=None)
    monkeypatch.setitem(os.environ, http_session.USER, USER)
    monkeypatch.setitem(os.environ, http_session.PASSWORD, PASSWORD)
    dicomweb_metadata.client_of.cache_clear()
    found = crawl(source(orthanc, tmp_path), index=tmp_path / "index")
    assert found.counts["files_read"] == 66 and same_rows(found, PATIENTS, tmp_path / "loose")
    assert all(isinstance(loaded(one.t2, tmp_path), Volume) for one in pairs(found))
    again = crawl(source(orthanc, tmp_path), index=tmp_path / "index")
    assert (again.counts["files_opened"], again.counts["files_unchanged"]) == (0, 66)
    assert crawl(source(f"{orthanc}?StudyDate=20200101-20201231", tmp_path), index=None).counts["files_seen"] == 66
    with pytest.raises(UsageError, match="no DICOM file"):
        crawl(source(f"{orthanc}?StudyDate=20210101-20261231", tmp_path), index=None)
