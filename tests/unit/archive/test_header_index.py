"""What changed since an index was written lies in a file of news beside it, and both together are the index."""

import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dicoms
from modic.archive import header_index, known_files
from modic.archive.crawl import Crawl, crawl
from modic.archive.header_index import news_of, reading
from modic.cohort import create_cohort
from modic.errors import UsageError
from modic.run.find import file_outcomes, find

STUDIES = "abcdefghij"
SLICES = 5


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of four rows, so that a base of a few studies has many and is not small."""
    for module in (header_index, known_files):
        monkeypatch.setattr(module, "GROUP", 4)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in STUDIES:
        write(tmp_path / "archive", name)
    (tmp_path / "archive" / "b" / "note").write_text("no image")
    return tmp_path / "archive"


def write(archive: Path, name: str, n: int = SLICES, **changes: Any) -> list[Path]:
    slices = dicoms.series(n=n, name=name, study=name)
    for slice_ in slices:
        for keyword, value in changes.items():
            setattr(slice_, keyword, value)
    return dicoms.write(slices, archive / name)


def rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: (row["path"], row["member"] or "", row["frame"] or 0))


def agrees(found: Crawl, fresh: Crawl) -> None:
    """Whether a crawl with an index says what one without says."""
    assert rows(found.images) == rows(fresh.images)
    assert found.headers.select(found.images.column_names).to_pylist() == found.images.to_pylist()
    assert rows(found.headers) == fresh.headers.to_pylist()
    assert found.rejected.to_pylist() == fresh.rejected.to_pylist()
    odd = pa.chunked_array([pa.array(np.arange(len(found.images)) % 3 == 1)])
    some, expected = found.headers_of(odd).to_pylist(), rows(found.headers.filter(odd))
    assert some == expected, "headers_of is sorted by path"
    counts, expected_counts = found.counts, fresh.counts
    assert {k: counts[k] for k in ("files_seen", "rejected")} == {
        k: expected_counts[k] for k in ("files_seen", "rejected")
    }
    assert counts["files_seen"] == counts["files_read"] + counts["files_unchanged"] + sum(counts["rejected"].values())


@pytest.mark.parametrize("seed", range(4))
def test_nights_of_news_say_what_a_fresh_crawl_says(archive: Path, tmp_path: Path, seed: int) -> None:
    index, dice, kinds = tmp_path / "index.parquet", random.Random(seed), set()
    with zipfile.ZipFile(archive / "packed.zip", "w") as packed:
        for path in write(tmp_path / "packed", "z"):
            packed.write(path, path.name)
    crawl(archive, index=index)
    for night in range(12):
        base = index.read_bytes()
        for _ in range(dice.randint(0, 3)):
            files = sorted(path for path in archive.rglob("*") if path.is_file())
            what, file = dice.choice(["new", "gone", "changed", "refused", "packed"]), dice.choice(files)
            if what == "new":
                write(archive, dice.choice("klmnopq") + str(night), n=dice.randint(1, 3))
            elif what == "gone":
                file.unlink()
            elif what == "packed":
                with zipfile.ZipFile(archive / "packed.zip", "a") as packed:
                    packed.write(write(tmp_path / "packed", f"y{night}", n=1)[0], f"{night}-{dice.random()}")
            elif file.suffix != ".zip":
                file.write_bytes(b"no DICOM" if what == "refused" else file.read_bytes() + bytes(1 + night))
        found = crawl(archive, index=index)
        agrees(found, crawl(archive, index=None))
        with reading(index) as stored:
            assert len(stored.numbers) == len(stored.read(["path"]))
            kinds.add((len(stored.parts), bool(len(stored.gone)), index.read_bytes() == base))
    assert (2, True, True) in kinds, "no night wrote news alone"
    assert any(not same for _, _, same in kinds), "no night wrote the base anew"


def test_a_few_news_leave_the_base_and_many_make_it_anew(archive: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.parquet"
    crawl(archive, index=index)
    base = index.read_bytes()
    write(archive, "k")
    assert crawl(archive, index=index).counts["files_read"] == SLICES
    assert index.read_bytes() == base and pq.read_metadata(news_of(index)).num_rows == SLICES
    shutil.rmtree(archive / "a")
    assert crawl(archive, index=index).counts["files_gone"] == SLICES
    assert index.read_bytes() == base
    news = pq.read_table(news_of(index))
    assert news["gone"].drop_null().to_pylist() == [*range(SLICES)]
    assert crawl(archive, index=index).counts["files_unchanged"] == len(STUDIES) * SLICES
    shutil.rmtree(archive / "k")
    assert crawl(archive, index=index).counts["files_gone"] == SLICES, "news that leave again"
    assert pq.read_metadata(news_of(index)).num_rows == SLICES
    for name in "klm":
        write(archive, name)
    assert crawl(archive, index=index).counts["files_read"] == 3 * SLICES
    assert index.read_bytes() != base and not news_of(index).exists()
    with reading(index) as stored:
        expected = rows(stored.read(header_index.INDEX.names))
    crawl(archive, index=tmp_path / "fresh.parquet")
    assert rows(pq.read_table(tmp_path / "fresh.parquet")) == expected


def test_news_of_another_base_do_not_count(archive: Path, tmp_path: Path) -> None:
    """A kill between the new base and the removal of its news, or a base from a backup."""
    index = tmp_path / "index.parquet"
    crawl(archive, index=index)
    base = index.read_bytes()
    shutil.rmtree(archive / "a")
    write(archive, "k")
    crawl(archive, index=index)
    news = news_of(index).read_bytes()
    for name in "lmn":
        write(archive, name, RepetitionTime=2500.0)
    crawl(archive, index=index)
    news_of(index).write_bytes(news)
    found = crawl(archive, index=index)
    assert found.counts["files_unchanged"] == found.counts["files_seen"] - 1
    agrees(found, crawl(archive, index=None))
    write(archive, "o", n=2)
    agrees(crawl(archive, index=index), crawl(archive, index=None))
    index.write_bytes(base)
    found = crawl(archive, index=index)
    assert found.counts["files_read"] == 4 * SLICES + 2, "what came after the backup"
    agrees(found, crawl(archive, index=None))


@pytest.mark.parametrize("name", ["write_news", "write_base"])
def test_a_crawl_that_is_killed_while_it_writes_leaves_the_index_of_before(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    index = tmp_path / "index.parquet"
    crawl(archive, index=index)
    write(archive, "k")
    crawl(archive, index=index)
    before = index.read_bytes(), news_of(index).read_bytes()
    for new in "l" if name == "write_news" else "lmn":
        write(archive, new, n=3)

    def killed(tables: Any, *_: Any) -> None:
        next(iter(tables))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(header_index, "write_tables", killed)
        crawl(archive, index=index)
    assert (index.read_bytes(), news_of(index).read_bytes()) == before
    found = crawl(archive, index=index)
    assert found.counts["files_unchanged"] == (len(STUDIES) + 1) * SLICES
    agrees(found, crawl(archive, index=None))


def test_a_kill_between_the_new_base_and_the_end_of_its_news_costs_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index.parquet"
    crawl(archive, index=index)
    shutil.rmtree(archive / "c")
    crawl(archive, index=index)
    for name in "klm":
        write(archive, name)
    unlink = Path.unlink

    def killed(path: Path, **options: Any) -> None:
        if path == news_of(index):
            raise KeyboardInterrupt
        unlink(path, **options)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", killed)
        crawl(archive, index=index)
    assert news_of(index).exists()
    found = crawl(archive, index=index)
    assert (found.counts["files_read"], found.counts["files_gone"]) == (0, 0)
    agrees(found, crawl(archive, index=None))


NIGHTS = """
import os, random, sys
from pathlib import Path
from modic.archive import header_index, known_files
from modic.archive.crawl import crawl
header_index.GROUP = known_files.GROUP = 4
archive, index, dice = Path(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[3]))
crawl(archive, index=index)
print("begun", flush=True)
while True:
    for file in dice.sample(sorted(path for path in archive.rglob("*") if path.is_file()), dice.randint(1, 8)):
        os.utime(file, (dice.randint(1, 10**9),) * 2)
    crawl(archive, index=index)
"""


def test_an_index_whose_writer_is_killed_says_what_a_fresh_crawl_says(archive: Path, tmp_path: Path) -> None:
    index, dice = tmp_path / "index.parquet", random.Random(1)
    for seed in range(3):
        command = [sys.executable, "-c", NIGHTS, str(archive), str(index), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as nights:
            assert nights.stdout is not None and nights.stdout.readline() == b"begun\n"
            time.sleep(dice.uniform(0.1, 0.5))
            nights.kill()
        found = crawl(archive, index=index)
        assert found.counts["files_unchanged"] >= found.counts["files_seen"] - 2 * 8 - 1, "one night is lost at most"
        agrees(found, crawl(archive, index=None))


def test_damaged_news_cost_themselves_alone(archive: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.parquet"
    crawl(archive, index=index)
    write(archive, "k")
    crawl(archive, index=index)
    whole = news_of(index).read_bytes()
    for damaged in (b"PAR1 no", whole[:-20]):
        news_of(index).write_bytes(damaged)
        found = crawl(archive, index=index)
        assert (found.counts["files_read"], found.counts["files_unchanged"]) == (SLICES, len(STUDIES) * SLICES)
        agrees(found, crawl(archive, index=None))
    damage(news_of(index), "path")
    assert crawl(archive, index=index).counts["files_read"] == SLICES
    damage(news_of(index), "RepetitionTime")
    assert crawl(archive, index=index).counts["files_read"] == 0, "not asked yet"
    write(archive, "l", n=2)
    found = crawl(archive, index=index)
    assert (found.counts["files_read"], found.counts["files_unchanged"]) == (SLICES + 2, len(STUDIES) * SLICES)
    agrees(found, crawl(archive, index=None))


def damage(path: Path, column: str) -> None:
    """Overwrite a column's pages of the first row group."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    page = group.column([group.column(k).path_in_schema for k in range(group.num_columns)].index(column))
    content, start = bytearray(path.read_bytes()), page.dictionary_page_offset or page.data_page_offset
    content[start : start + page.total_compressed_size] = b"\xff" * page.total_compressed_size
    path.write_bytes(content)


def test_a_base_of_an_earlier_version_without_token_is_made_anew_with_one(archive: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.parquet"
    crawl(archive, index=index)
    table = pq.read_table(index)
    pq.write_table(table.replace_schema_metadata(header_index.VERSION), index, row_group_size=4)
    assert crawl(archive, index=index).counts["files_read"] == 0
    write(archive, "k", n=1)
    found = crawl(archive, index=index)
    assert (found.counts["files_read"], news_of(index).exists()) == (1, False)
    write(archive, "l", n=1)
    assert (crawl(archive, index=index).counts["files_read"], news_of(index).exists()) == (1, True)


def test_the_owner_finds_what_came_with_news_and_not_what_is_gone(archive: Path, tmp_path: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    crawl(archive, index=cohort.header_index)
    write(archive, "k", n=2)
    (archive / "c" / "00001").unlink()
    (archive / "b" / "note2").write_text("no image")
    crawl(archive, index=cohort.header_index)
    assert news_of(cohort.header_index).stat().st_mode & 0o077 == 0
    outcomes = file_outcomes(cohort, rejected=False)
    names = [(Path(path).relative_to(archive).as_posix(), outcome) for outcome, path, _ in outcomes]
    assert names == sorted(names) and len(names) == len(STUDIES) * SLICES + 3
    assert ("k/00001", "read") in names and ("c/00001", "read") not in names
    assert [Path(path).name for _, path, _ in file_outcomes(cohort, rejected=True)] == ["note", "note2"]
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in
                             ("study_key", "series_key", "patient_key", "PatientID", "StudyInstanceUID",
                              "SeriesInstanceUID")}), cohort.links)  # fmt: skip
    assert find(cohort, str(archive / "k" / "00000")) == [f"file      {archive / 'k' / '00000'} read"]
    with pytest.raises(UsageError, match="knows no key"):
        find(cohort, str(archive / "c" / "00001"))
