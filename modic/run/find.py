"""The way from a key, a patient id or a UID to the files, and back. Only the cohort's owner can go it.

`private/links.parquet` holds it for what is or was graded or excluded; the header index holds what became of each file.
"""

from collections import Counter
from contextlib import suppress
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.archive.containers import full_name, place_of
from modic.archive.header_index import CONTAINER, reading
from modic.archive.patient_identity import one_way
from modic.archive.walk import as_text
from modic.cohort import Cohort
from modic.errors import CURES, UsageError
from modic.tables.published import current_tables
from modic.tables.store import read_table
from modic.text import counted

NAMES = ("study_key", "series_key", "patient_key", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
"""Columns of the links by which a study is found; an image is also found by its SOPInstanceUID or path."""
READ = "read"
"""What became of a file that is not rejected."""
Outcome = tuple[str, str, str]
"""What became of a file, its path, and its name within a container or nothing."""
ROWS = 50_000  # of the index, at a time


def find(cohort: Cohort, name: str, *, files: bool = False) -> list[str]:
    """Lines about every study that `name` names: a key, patient id, UID of any kind, or path of a file or folder.

    `files`: list each file, instead of their folder and number. Raises UsageError if nothing has this name.
    """
    links = _links(cohort)
    found = links.filter(_any_equal(links, NAMES, one_way(name)))
    file = _at(name)
    if not len(found) and (uids := _series_of_image(cohort, (pc.field("SOPInstanceUID") == name) | file)):
        found = links.filter(pc.is_in(links["SeriesInstanceUID"], pa.array(uids, pa.string())))
    if not len(found):
        rejected = _outcomes(cohort, file)
        if not rejected:
            raise UsageError(f"{cohort.root} knows no key, patient id, UID or file {name}")
        return [f"file      {full_name(path, member or None)} {outcome}" for outcome, path, member in rejected]
    studies = {row["study_key"]: row for row in read_table(cohort.root, "studies").to_pylist()}
    series = {row["series_key"]: row for row in read_table(cohort.root, "series").to_pylist()}
    lines: list[str] = []
    for key in dict.fromkeys(found["study_key"].to_pylist()):
        of_study = found.filter(pc.equal(found["study_key"], key)).to_pylist()
        lines += _study_lines(of_study[0], studies.get(key))
        for link in of_study:
            lines += _series_lines(link, series.get(link["series_key"]), files)
    return lines


def _at(name: str) -> pc.Expression:
    """The rows of the header index of a file, or of all files below a folder; a path may start where we are."""
    path, member = place_of(name)
    places = {path}
    with suppress(OSError):  # longer than a name can be
        if path and Path(path).exists():
            places |= {as_text(str(Path(path).absolute())), as_text(str(Path(path).resolve()))}
    below = (pc.starts_with(pc.field("path"), f"{place.rstrip('/')}/") for place in places if "/" in place)
    wanted = reduce(or_, below, pc.field("path").isin(sorted(places)))
    return wanted if member is None else wanted & (pc.field("member") == member)


def _links(cohort: Cohort) -> pa.Table:
    try:
        return pq.read_table(cohort.links, partitioning=None)
    except FileNotFoundError as error:
        if current_tables(cohort.root) is not None:
            raise UsageError(f"{cohort.links} is missing; restore a backup, or the next run makes it") from error
        raise UsageError(f"no run has finished in {cohort.root} yet") from error


def _any_equal(table: pa.Table, columns: tuple[str, ...], value: str) -> pa.ChunkedArray:
    equal = pc.equal(table[columns[0]], value)
    for column in columns[1:]:
        equal = pc.or_kleene(equal, pc.equal(table[column], value))
    return pc.fill_null(equal, False)


def _series_of_image(cohort: Cohort, wanted: pc.Expression) -> list[str]:
    """UIDs of the series of the images that fit."""
    if not cohort.header_index.is_file():
        return []
    with reading(cohort.header_index) as index:
        images = index.where(["SeriesInstanceUID", "SOPInstanceUID", "path", "member"], wanted)
    return list(images["SeriesInstanceUID"].unique().drop_null().to_pylist())


def _study_lines(link: dict[str, Any], study: dict[str, Any] | None) -> list[str]:
    day = link.get("study_date")
    lines = [
        f"study     {link['study_key']} {link['StudyInstanceUID']}" + (f" of {day:%Y-%m-%d}" if day else ""),
        f"patient   {link['patient_key']} {link['PatientID']}",
    ]
    if study is None:
        return [*lines, "outcome   no row: no run was asked for it"]
    why = " ".join(filter(None, (study["reason"], f"({study['detail']})" if study["detail"] else "")))
    here = "" if study["in_archive"] is not False else ", not in the archive any more"
    return [*lines, f"outcome   {study['status']}{' ' + why if why else ''} in run {study['run_id']}{here}"]


def _series_lines(link: dict[str, Any], series: dict[str, Any] | None, files: bool) -> list[str]:
    what = f"{series['role']} {series['status']}" if series else "no row"
    why = series["reason"] or "" if series else ""
    lines = [" ".join(filter(None, (f"series    {link['series_key']} {link['SeriesInstanceUID']} {what}", why)))]
    paths = list(dict.fromkeys(link["files"] or ()))
    if files:
        return lines + [f"file      {path}" for path in paths]
    folders = Counter(path.rpartition("/")[0] or "/" for path in paths)  # not only paths of this system
    return lines + [f"folder    {folder} ({counted(n, 'file')})" for folder, n in sorted(folders.items())]


def file_outcomes(cohort: Cohort, *, rejected: bool, reason: str = "") -> list[Outcome]:
    """(outcome, path, member of a container or "") of every file that the last crawl saw, sorted by path.

    Args:
        rejected: rejected files alone.
        reason: those of one reason alone.

    Raises UsageError if no crawl has finished.
    """
    if not cohort.header_index.is_file():
        raise UsageError(f"no run has read an archive in {cohort.root} yet")
    wanted = pc.field("reason") == reason if reason else pc.is_valid(pc.field("reason")) if rejected else True
    return _outcomes(cohort, wanted)


def _outcomes(cohort: Cohort, wanted: Any) -> list[Outcome]:
    if not cohort.header_index.is_file():
        return []
    is_file = pc.is_null(pc.field("reason")) | (pc.field("reason") != CONTAINER)
    with reading(cohort.header_index) as index:
        table = index.where(["reason", "path", "member"], is_file & wanted)
    table = table.group_by(["reason", "path", "member"]).aggregate([])  # a file of many frames has many rows
    table = table.sort_by([("path", "ascending"), ("member", "ascending")])
    return [
        (row["reason"] or READ, row["path"], row["member"] or "")
        for batch in table.to_batches(ROWS) for row in batch.to_pylist()
    ]  # fmt: skip


def count_by_outcome(outcomes: list[Outcome]) -> str:
    """`7 files: file.truncated 5, read 2`, and what to do about containers that were not read."""
    names = pa.array([outcome for outcome, _, _ in outcomes], pa.string()).value_counts().to_pylist()
    counts = ", ".join(f"{row['values']} {row['counts']}" for row in sorted(names, key=lambda row: -row["counts"]))
    cures = [f"\n{reason}: {cure}" for reason, cure in CURES.items() if any(row["values"] == reason for row in names)]
    return counted(len(outcomes), "file") + (f": {counts}" if counts else "") + "".join(cures)
