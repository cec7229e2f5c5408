"""Runs over every kind of source: twice, with nothing opened the second time, and nothing of it in the tables."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import dicoms
from dicomweb_server import BASIC, PASSWORD, USER, serve
from modic.archive import http_session
from modic.archive.folder import FolderSource
from modic.cohort import open_cohort
from modic.errors import Reason
from modic.run.find import count_by_outcome, file_outcomes
from modic.tables.query import run_checks
from modic.tables.store import read_table
from packed import named, tarred, zipped
from plain_run import plain_run

pytestmark = pytest.mark.usefixtures("no_networks")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for patient, name, pack in (("ann", "ann.zip", zipped), ("bob", "bob.tar.gz", lambda f: tarred(f, "w:gz"))):
        (folder / name).write_bytes(pack(named(dicoms.study(patient=patient, rows=16, columns=16), "SECRET-NAME")))
    return folder


def text_of(cohort: Path) -> bytes:
    """Everything that is not private."""
    files = [path for path in cohort.rglob("*") if path.is_file() and cohort / "private" not in path.parents]
    return b"".join(path.read_bytes() for path in files if path.suffix != ".parquet") + b"".join(
        repr(read_table(cohort, name).to_pylist()).encode() for name in ("studies", "series", "levels", "runs")
    )


def test_two_runs_over_containers(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (archive / "cut.zip").write_bytes((archive / "ann.zip").read_bytes()[:-400])
    cohort = tmp_path / "cohort"
    assert plain_run(archive, cohort).graded_now == 2
    assert read_table(cohort, "studies")["status"].to_pylist() == ["graded"] * 2
    assert not [name for name, rows in run_checks(cohort).items() if rows]
    files = {
        name for names in pq.read_table(cohort / "private" / "links.parquet")["files"].to_pylist() for name in names
    }
    assert f"{archive}/ann.zip!/SECRET-NAME/000" in files and len(files) == 44
    (outcome,) = file_outcomes(open_cohort(cohort), rejected=True)
    assert outcome == (Reason.FILE_CONTAINER_DAMAGED, f"{archive}/cut.zip", "")
    said = count_by_outcome(file_outcomes(open_cohort(cohort), rejected=False))
    assert said.startswith(
        "45 files: read 44, file.container_damaged 1\nfile.container_damaged: damaged or cut off: copy"
    )
    public = text_of(cohort)
    assert not [word for word in (b"SECRET-NAME", b"ann.zip", b"bob.tar", b"cut.zip", b"cache") if word in public]
    assert (cohort / "private" / "cache").stat().st_mode & 0o777 == 0o700
    tables = {name: read_table(cohort, name) for name in ("studies", "series", "levels")}
    (archive / "cut.zip").unlink()
    monkeypatch.setattr(FolderSource, "open", lambda *_: pytest.fail("opened"))
    again = plain_run(archive, cohort)
    assert (again.graded_now, again.row["files_unchanged"]) == (0, 44)
    assert all(read_table(cohort, name).equals(table) for name, table in tables.items())


def test_two_runs_over_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with the query that chooses studies; the password is nowhere, in `private/` neither."""
    images = [i for patient in ("ann", "bob") for i in dicoms.study(patient=patient, study=patient, columns=16)]
    monkeypatch.setenv(http_session.USER, USER)
    monkeypatch.setenv(http_session.PASSWORD, PASSWORD)
    cohort = tmp_path / "cohort"
    with serve(images, auth=BASIC) as server:
        archive = f"{server.url}?StudyDate=20200101-20201231"
        assert plain_run(archive, cohort).graded_now == 2
        asked = dict(server.asked)
        assert (asked["metadata"], asked["instance"]) == (4, 44)
        tables = {name: read_table(cohort, name) for name in ("studies", "series", "levels")}
        again = plain_run(archive, cohort)
        assert (again.graded_now, again.row["files_unchanged"]) == (0, 44)
        assert all(server.asked[kind] == asked[kind] for kind in ("series", "metadata", "instance"))
    assert all(read_table(cohort, name).equals(table) for name, table in tables.items())
    assert not [name for name, rows in run_checks(cohort).items() if rows]
    public = text_of(cohort)
    uids = {str(image[keyword].value) for image in images for keyword in ("SOPInstanceUID", "StudyInstanceUID")}
    assert not [word for word in (*uids, "127.0.0.1", "dicomweb", USER) if word.encode() in public]
    everything = b"".join(path.read_bytes() for path in cohort.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in everything


TOY = """
import io, pathlib
from modic.archive.headers import read_rows
from modic.archive.source import File

class Toy:
    # The files of a folder, each backwards.

    def __init__(self, url, cache):
        self.name = url

    def files(self):
        for path in sorted(pathlib.Path(self.name.partition("://")[2]).iterdir()):
            yield File(f"toy-store://{path}", *self.state(f"toy-store://{path}", None))

    def members(self, container):
        yield container

    def read_rows(self, path, member):
        return read_rows(self.open(path, member))

    def state(self, path, member):
        status = pathlib.Path(path.partition("://")[2]).stat()
        return status.st_size, status.st_mtime_ns

    def open(self, path, member):
        return io.BytesIO(pathlib.Path(path.partition("://")[2]).read_bytes()[::-1])
"""


def test_a_source_of_somebody_else_is_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    (package / "toy-1.dist-info").mkdir(parents=True)
    (package / "toy_store.py").write_text(TOY)
    (package / "toy-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (package / "toy-1.dist-info" / "entry_points.txt").write_text("[modic.sources]\ntoy-store = toy_store:Toy\n")
    monkeypatch.syspath_prepend(str(package))
    for path in dicoms.write(dicoms.study(rows=16, columns=16), tmp_path / "archive"):
        path.write_bytes(path.read_bytes()[::-1])
    assert plain_run(f"toy-store://{tmp_path / 'archive'}", tmp_path / "cohort").graded_now == 1
    again = plain_run(f"toy-store://{tmp_path / 'archive'}", tmp_path / "cohort")
    assert (again.graded_now, again.row["files_unchanged"]) == (0, 22)
