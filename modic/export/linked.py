"""A table of clinical data by patient → the same rows by the cohort's pseudonyms, for those who hold no key.

| the row gives                    | it is linked to                                                      |
|----------------------------------|----------------------------------------------------------------------|
| `study_uid`                      | that study, unless `patient_id` or `study_date` are not its own      |
| `patient_id` and `study_date`    | the patient's study of that day, the graded one if there are several |
| `patient_id`                     | the patient; `study_key` is empty                                    |

Instead of identifiers the output has `patient_key`, `study_key` and `days_since_first_study`. Columns of other dates
become days since the patient's first study (`surgery_date` → `surgery_date_days`). A column is dropped, and named, if
its name says that it identifies, if one of its values is or holds a patient id or UID of the cohort, or if it holds
dates not all of which can be read. Patient ids that a spreadsheet made numbers of (`0011` → `11`, `11.0`) are found
again if only one patient fits. Numbers of a table with semicolons get a decimal point (`24,5` → `24.5`).
"""

import io
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from modic.archive.patient_identity import one_way
from modic.cohort import open_cohort
from modic.errors import UsageError
from modic.export.csv import FORMULA
from modic.files import write_whole
from modic.labels.table import csv_lines, table_text
from modic.tables.query import published
from modic.text import delimiter_of

WHO = ("patient_id", "study_uid", "study_date")
HEADS = {"patientid": "patient_id", "studyuid": "study_uid", "studyinstanceuid": "study_uid", "studydate": "study_date"}
"""Letters of a heading → the column that it is, however it is written (`Patient ID`, `StudyInstanceUID`)."""
IDENTIFYING = re.compile(
    r"name|birth|geburt|\bgeb\b|\bdob\b|accession|\bmrn\b|address|adresse|stra(ss|ß)e|street|phone|telefon|e ?mail|ssn"
    r"|insurance|versicher|post ?code|postal|\bplz\b|\bzip\b|initial|wohnort"
)
A_DATE = re.compile(r"(?<!\d)(?:\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2})(?!\d)")
"""What looks like a date, also one of which nobody knows whether the day or the month comes first."""
LONG = 4
"""Fewest characters of an identifier that is looked for inside longer texts."""
DECIMAL = re.compile(r"[-+]?\d+(,\d+)?")
LINKED = ["patient_key", "study_key", "days_since_first_study"]


def link(cohort: Path, clinic: Path, out: Path) -> list[str]:
    """Write `out`, a new CSV file readable by its owner only; returns lines that say what was done.

    Raises UsageError if `cohort` has no finished run or no links, if `clinic` cannot be read or has neither patient_id
    nor study_uid, or if `out` exists.
    """
    studies = _studies(cohort)
    given = _read(clinic)
    if out.exists():
        raise UsageError(f"{out} exists; give a new file")
    reasons: Counter[str] = Counter()
    known = _Known(studies)
    found = [_of_row(row, known, reasons) for row in given[[n for n in WHO if n in given]].to_dict("records")]
    kept = [i for i, keys in enumerate(found) if keys is not None]
    linked = pd.DataFrame([found[i] for i in kept], columns=LINKED).astype({"days_since_first_study": "Int32"})
    rest, said = _without_identifiers(given.iloc[kept].reset_index(drop=True), linked["patient_key"], studies)
    text = io.StringIO()
    pd.concat([linked, rest], axis=1).map(_no_formula).to_csv(text, index=False)
    try:
        write_whole(out, text.getvalue())
        out.chmod(0o600)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from error
    left_out = ", ".join(f"{reason} {n}" for reason, n in reasons.items())
    n_patient = int((linked["study_key"] == "").sum())
    alone = f", {n_patient:,} of them to a patient alone, without a study" if n_patient else ""
    return [
        f"{out}: {len(kept):,} of {len(given):,} rows{alone}" + (f"; left out: {left_out}" if left_out else ""),
        *said,
    ]


def _studies(cohort: Path) -> pd.DataFrame:
    """All studies that the cohort remembers: keys, identifiers, date, days since the first, and whether graded."""
    folder = published(cohort)
    path = open_cohort(cohort).links
    try:
        links = pq.read_table(path, partitioning=None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read; only the keeper of the cohort's private/ can link") from error
    if "study_date" not in links.column_names:
        raise UsageError(f"{path} holds no dates yet: run `modic grade` once more with this version")
    columns = ["study_key", "patient_key", "PatientID", "StudyInstanceUID", "study_date"]
    frame = links.select(columns).to_pandas().drop_duplicates()
    rows = pq.read_table(folder / "studies.parquet", columns=["study_key", "status"], partitioning=None).to_pandas()
    graded = set(rows.loc[rows["status"] == "graded", "study_key"])
    return frame.assign(
        graded=frame["study_key"].isin(graded), first=frame.groupby("patient_key")["study_date"].transform("min")
    )


def _read(path: Path) -> pd.DataFrame:
    """The table as text, its columns in lower case."""
    frame = _text(path)
    lower = [str(name).lower() for name in frame]
    names = [HEADS.get(re.sub(r"[\W_]", "", name), name) for name in lower]
    if not {"patient_id", "study_uid"} & set(names):
        raise UsageError(f"{path} has neither a column patient_id nor study_uid; it has {', '.join(names)}")
    _refuse_twice(path, names)
    if made := [name for name in LINKED if name in names]:
        raise UsageError(f"{path} has a column {made[0]}, which the linked table gets from the cohort: rename it")
    return frame.set_axis(names, axis=1)


def covariates(path: Path) -> pd.DataFrame:
    """The user's own data of a CSV file, as `link` wrote it or with other separators, in the types that pandas reads.

    Raises UsageError as `modic.labels.table.table_text` and `csv_lines`, and for a column that is there twice.
    """
    frame = _text(path)
    _refuse_twice(path, list(frame))
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)))


def _refuse_twice(path: Path, names: list[str]) -> None:
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise UsageError(f"{path} has the column {twice[0]} twice")


def _text(path: Path) -> pd.DataFrame:
    """All values of a CSV file as text; numbers of a table with semicolons with a decimal point."""
    text = table_text(path)
    names, lines = csv_lines(path, text)
    frame = pd.DataFrame([values for _, values in lines], columns=names, dtype=str)
    return frame if delimiter_of(text) == "," else frame.apply(_decimal_point)


def _decimal_point(column: pd.Series) -> pd.Series:
    """`column` with points for commas if all that it holds is numbers; identifiers have no comma."""
    texts = column.str.strip()
    numbers = texts[texts != ""].map(lambda text: bool(DECIMAL.fullmatch(text)))
    return texts.str.replace(",", ".") if len(numbers) and numbers.all() else column


class _Known:
    """The studies by each identifier; none for one that is not there."""

    def __init__(self, studies: pd.DataFrame) -> None:
        self._none = studies.iloc[:0]
        self._by_uid, self._by_patient, self._by_digits = (
            dict(iter(studies.groupby(key)))
            for key in ("StudyInstanceUID", "PatientID", studies["PatientID"].str.lstrip("0"))
        )

    def of_study(self, uid: str) -> pd.DataFrame:
        return self._by_uid.get(uid, self._none)

    def of_patient(self, patient: str) -> pd.DataFrame:
        """Those of the patient, else of all whose id is this one but for leading zeros, and for `.0` at its end."""
        if patient in self._by_patient:
            return self._by_patient[patient]
        return self._by_digits.get(re.sub(r"\.0+$", "", patient).lstrip("0"), self._none)


Keys = tuple[str, str, int | None]


def _of_row(row: dict[str, str], known: _Known, reasons: Counter[str]) -> Keys | None:
    """patient_key, study_key and days of one row; None, counted in `reasons`, if it cannot be linked."""
    uid, patient, day = (one_way(row.get(name, "")) for name in ("study_uid", "patient_id", "study_date"))
    fits, reason = _named(uid, patient, known)
    if day and not reason:
        fits, reason = _of_day(fits, day, uid)
    if reason:
        reasons[reason] += 1
        return None
    if not (uid or day):
        return (str(fits["patient_key"].iloc[0]), "", None)
    return _one(fits, reasons)


def _named(uid: str, patient: str, known: _Known) -> tuple[pd.DataFrame, str]:
    """The studies that a row names, or why there is none."""
    fits = known.of_study(uid) if uid else known.of_patient(patient)
    if fits.empty or not (uid or patient):
        return (
            fits,
            "no such study_uid" if uid else "no such patient_id" if patient else "neither patient_id nor study_uid",
        )
    if uid and patient:
        own = fits[fits["PatientID"].isin(known.of_patient(patient)["PatientID"])]
        return own, "study_uid is of another patient" if own.empty else ""
    return fits, "several patients fit without leading zeros" if fits["PatientID"].nunique() > 1 else ""


def _of_day(fits: pd.DataFrame, day: str, uid: str) -> tuple[pd.DataFrame, str]:
    """Those of `fits` on a day, or why there is none; a study without a date that its UID names may be of any."""
    when = _date(day)
    if when is None:
        return fits, "study_date is no date (2024-01-31)"
    same = fits["study_date"] == when
    own = fits[same | fits["study_date"].isna() if uid else same]
    why = "study_date is not that of study_uid" if uid else "no study of this patient on study_date"
    return own, why if own.empty else ""


def _one(fits: pd.DataFrame, reasons: Counter[str]) -> Keys | None:
    """The keys of the only study that fits, or of the only graded one."""
    graded = fits[fits["graded"]]
    fits = (fits if graded.empty else graded).drop_duplicates("study_key")
    if len(fits) != 1:
        reasons["several studies fit"] += 1
        return None
    row = fits.iloc[0]
    days = None if row["study_date"] is None else (row["study_date"] - row["first"]).days
    return str(row["patient_key"]), str(row["study_key"]), days


DATES = (r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})", r"(?P<y>\d{4})([-/.])(?P<m>\d{1,2})\2(?P<d>\d{1,2})",
         r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(\.0+)?")  # fmt: skip
TIME = r"([T\s]\s*\d{1,2}:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)?)?"


def _date(text: str) -> date | None:
    """Of `2024-01-31`, `20240131` or `31.01.2024`, also with a time of the day."""
    parts = next(filter(None, (re.fullmatch(form + TIME, text.strip()) for form in DATES)), None)
    try:
        return date(int(parts["y"]), int(parts["m"]), int(parts["d"])) if parts else None
    except ValueError:
        return None


def _without_identifiers(
    frame: pd.DataFrame, patients: pd.Series, studies: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """The columns that may leave, and lines that say which were dropped or turned into days."""
    secret = set(studies["PatientID"]) | set(studies["StudyInstanceUID"])
    secret |= {value.lstrip("0") for value in secret}
    secret -= {""}
    long = {value for value in secret if len(value) >= LONG}
    first = dict(zip(studies["patient_key"], studies["first"], strict=True))
    kept: dict[str, pd.Series] = {}
    dropped, days, unread = [name for name in WHO if name in frame], [], []
    for name in frame.columns.difference(list(WHO), sort=False):
        values = frame[name].map(one_way)
        filled = values[values != ""]
        dates = filled.map(_date)
        if IDENTIFYING.search(re.sub(r"[\W_]+", " ", name)) or set(filled) & secret or _inside(filled, long):
            dropped.append(name)
        elif len(filled) and dates.notna().all():
            since = [_days(dates.get(i), first.get(patients[i])) for i in frame.index]
            kept[f"{name}_days"] = pd.Series(since, dtype="Int32")
            days.append(name)
        elif filled.str.contains(A_DATE).any():
            unread.append(name)
        else:
            kept[name] = values
    said = [f"dropped, since they identify: {', '.join(dropped)}"]
    return pd.DataFrame(kept, index=frame.index), [
        *said, *([f"as days since the patient's first study: {', '.join(days)}"] if days else []),
        *([f"dropped, since they hold dates (write all as 2024-01-31, unknown ones empty): {', '.join(unread)}"]
          if unread else []),
    ]  # fmt: skip


def _inside(texts: pd.Series, identifiers: set[str]) -> bool:
    """Whether a word of some text is an identifier."""
    words = texts.drop_duplicates().str.findall(r"[\w.-]+").explode().dropna()
    return bool(set(words) & identifiers or set(words.str.strip(".-")) & identifiers)


def _days(day: date | None, first: date | None) -> int | None:
    return None if day is None or first is None or first != first else (day - first).days


def _no_formula(value: object) -> object:
    """Text that a spreadsheet would compute gets an apostrophe in front (modic/export/csv.py)."""
    number = isinstance(value, str) and re.fullmatch(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?", value)
    return f"'{value}" if isinstance(value, str) and not number and re.match(FORMULA, value) else value
