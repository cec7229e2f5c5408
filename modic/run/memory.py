"""What a cohort remembers of studies, in `private/links.parquet`, also when they have left the archive.

One row a stack: the way from keys back to the archive, and the date of its study. Rows of studies that the archive
holds are those of this run; rows of studies that are gone stay as they were. So several archives may feed one cohort,
and a patient's first date is the first of all archives, whatever order they came in.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.archive.containers import full_name
from modic.archive.patient_identity import study_date
from modic.archive.sources import scheme_of
from modic.cohort import Cohort
from modic.deidentify.pseudonyms import Pseudonyms
from modic.errors import UsageError
from modic.files import in_row_groups, write_json, write_tables
from modic.run import rows
from modic.run.found import Found
from modic.run.survey import Survey
from modic.tables.store import with_column

LINKS = pa.schema(
    [(name, pa.string()) for name in ("study_key", "series_key", "patient_key")]
    + [(name, pa.string()) for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")]
    + [("stack", pa.int32()), ("files", pa.list_(pa.string())), ("study_date", pa.date32())]
)


def archive_number(cohort: Cohort, archive: str, *, note: bool = True) -> int:
    """The number of an archive by its folder or address, 1 for the first that fed the cohort.

    A new one is noted in `private/archives.json`, without user and password, if `note`. Raises UsageError if that is
    damaged.
    """
    path = cohort.private / "archives.json"
    place = re.sub(r"//[^/@]*@", "//", archive) if scheme_of(archive) else str(Path(archive).resolve())
    try:
        known = json.loads(path.read_bytes())
    except FileNotFoundError:
        known = []
    except ValueError:
        known = None
    if not (isinstance(known, list) and all(isinstance(one, str) for one in known)):
        raise UsageError(f"{path} is damaged; restore it from a backup: a list of the archives' paths, oldest first")
    if place not in known:
        known.append(place)
        if note:
            write_json(path, known)
    return known.index(place) + 1


def with_archive(studies: pa.Table, number: int) -> pa.Table:
    """The table `studies` of this run, all of archive `number`."""
    return with_column(studies, "archive", [number] * len(studies))


COUNTED = ["study_key", "patient_key", "days_since_first_study"]


def links(survey: Survey) -> pa.Table:
    """The links of the survey's studies. They identify patients: for `private/` only."""
    parts = (_links(part, survey.keys) for part in survey.parts())
    return pa.concat_tables([LINKS.empty_table(), *parts])


def remember_links(now: pa.Table, path: Path) -> None:
    """Write the links of all studies that this cohort has ever held: `now`, and those of other studies, as they were.

    `path`: of the links that earlier runs wrote (modic.cohort.Cohort.links), which are read and written some at a time.
    """
    write_tables(in_row_groups(chain([now], _others(now, path))), LINKS, path)


def study_dates(now: pa.Table, path: Path) -> pa.Table:
    """`study_key` and `study_date` of what `remember_links` would write."""
    columns = ["study_key", "study_date"]
    return pa.concat_tables([now.select(columns), *_others(now, path, columns)])


def _links(studies: list[Found], keys: Pseudonyms) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "study_key": keys.study(series.study_uid),
                "series_key": rows.series_key(series, keys),
                "patient_key": keys.patient(series.patient_id),
                "PatientID": series.patient_id,
                "StudyInstanceUID": series.study_uid,
                "SeriesInstanceUID": series.series_uid,
                "stack": series.stack,
                "files": [full_name(image.path, image.member) for image in series.images],
                "study_date": study_date(series.header),
            }
            for study in studies for series in study.unpack()[1]
        ],
        schema=LINKS,
    )  # fmt: skip


def _others(now: pa.Table, path: Path, columns: Sequence[str] = LINKS.names) -> Iterator[pa.Table]:
    """The links of earlier runs about studies that are not in `now`, a row group at a time.

    Those of before dates were remembered have none.
    """
    if not path.is_file():
        return
    keys, schema = now["study_key"].combine_chunks(), pa.schema([LINKS.field(name) for name in columns])
    with pq.ParquetFile(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=there, use_threads=False)
            known = [table[f.name] if f.name in there else pa.nulls(len(table), f.type) for f in schema]
            again = pc.is_in(table["study_key"], keys)
            rows = pa.table(known, schema=schema)
            yield rows.filter(pc.invert(again)) if pc.any(again).as_py() else rows


def with_days(studies: pa.Table, remembered: pa.Table, published: pa.Table) -> pa.Table:
    """The table `studies` with `days_since_first_study`, from the dates of all studies that are remembered.

    Args:
        studies: of this run, with those that are gone.
        remembered: of `study_dates`.
        published: `studies` as the run before published it.

    A study that left before dates were remembered gets its date from the days that were published between it and
    another study of its patient. Without such a study its days are null.
    """
    dates = _of_each(remembered, "study_key", "study_date", "min")
    before = published.append_column("date", _looked_up(published["study_key"], dates))
    days = before[COUNTED[2]]
    known = before.append_column("zero", pc.subtract(before["date"], days)).filter(pc.is_valid(days))
    zero = _of_each(known, "patient_key", "zero", "last")
    left = known.filter(pc.is_null(known["date"]))
    counted = pc.add(_looked_up(left["patient_key"], zero), left[COUNTED[2]])
    dates = pa.concat_tables([dates, pa.table([left["study_key"], counted], schema=dates.schema)])
    found = studies.select(COUNTED[:2]).append_column("date", _looked_up(studies["study_key"], dates))
    first = _looked_up(found["patient_key"], _of_each(found, "patient_key", "date", "min"))
    return with_column(studies, COUNTED[2], pc.subtract(found["date"], first))


def _of_each(table: pa.Table, name: str, value: str, which: str) -> pa.Table:
    """Each `name` and its least (`which`: min) or last `value`, a date or a number of days; nulls do not count."""
    values = table.select([name]).append_column("value", table[value].cast(pa.int32()))
    values = values.filter(pc.is_valid(values["value"]))
    table = values.group_by(name, use_threads=False).aggregate([("value", which)])
    return table.select([name, f"value_{which}"]).rename_columns(["name", "value"])


def _looked_up(names: pa.ChunkedArray, values: pa.Table) -> pa.ChunkedArray:
    """The value of each name in a table of `_of_each`; null if it has none."""
    return values["value"].take(pc.index_in(names, values["name"].combine_chunks()))
