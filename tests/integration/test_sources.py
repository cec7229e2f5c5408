"""A run over a container: twice, with nothing opened the second time, and nothing of it in the tables."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import dicoms
from modic.archive.folder import FolderSource
from modic.run.unread import NAME
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
    note = (cohort / "private" / NAME).read_text()
    assert note.startswith(f"{archive}/cut.zip: file.container_damaged, ") and "copy it again" in note
    public = text_of(cohort)
    assert not [word for word in (b"SECRET-NAME", b"ann.zip", b"bob.tar", b"cut.zip", b"cache") if word in public]
    assert (cohort / "private" / "cache").stat().st_mode & 0o777 == 0o700
    tables = {name: read_table(cohort, name) for name in ("studies", "series", "levels")}
    (archive / "cut.zip").unlink()
    monkeypatch.setattr(FolderSource, "open", lambda *_: pytest.fail("opened"))
    again = plain_run(archive, cohort)
    assert (again.graded_now, again.row["files_unchanged"]) == (0, 44)
    assert all(read_table(cohort, name).equals(table) for name, table in tables.items())
    assert not (cohort / "private" / NAME).exists()
