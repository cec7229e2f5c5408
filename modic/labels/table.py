"""The table of labels, `--labels FILE.csv`: one row for each disc, with its Modic type, its box, or both.

| column                  | meaning                                                                             |
|-------------------------|-------------------------------------------------------------------------------------|
| `patient_id`, `study_uid` | the patient or the study; at least one of the two                                 |
| `level`                 | T12/L1 … L5/S1 (`T12-L1`, `L5S1`, `L4/5` are read too)                              |
| `mc`                    | Modic type 0, 1, 2; the classifier leaves out discs with blank or 3                 |
| `x0`, `y0`, `x1`, `y1`  | box on T2, pixels, origin at the centre of the first pixel; all four or none        |
| `slice`                 | T2 slice of the box, counted from 0 from the patient's right; blank: the middle one |

Other columns are ignored. UTF-8 (or UTF-16 with its mark), separated by commas, semicolons or tabs.
"""

import codecs
import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

from modic.errors import UsageError
from modic.grades import TYPES
from modic.labels.level_names import disc_rank, shown
from modic.labels.tally import Tally
from modic.records import LEVELS
from modic.text import counted, delimiter_of

WHO = ("patient_id", "study_uid")
BOX = ("x0", "y0", "x1", "y1")
BLANK = frozenset({"", "na", "nan", "none", "null"})
"""Values that mean that there is none."""
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SPREADSHEET = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of .xlsx and .ods, and of .xls."""
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels, origin at the centre of the first pixel."""
Row = dict[str, str]
"""Column → text."""


@dataclass(frozen=True, slots=True)
class Label:
    """One row of the table."""

    line: int  # of the file
    patient: str  # "" if the row names only a study
    study: str  # StudyInstanceUID, or ""
    level: int  # index in LEVELS
    mc: int | None  # Modic type 0-3, None if blank
    box: Box | None  # in T2 pixels
    slice_index: int | None  # None if blank

    @property
    def where(self) -> str:
        """The row's line for a tally: `line 4`."""
        return f"line {self.line}"


@dataclass(frozen=True, slots=True)
class Labels:
    """A table of labels, checked without the images."""

    path: Path
    columns: frozenset[str]
    rows: tuple[Label, ...]
    other_levels: tuple[str, ...]  # lines of discs that are not graded, such as T11/T12

    def graded(self, tally: Tally) -> list[Label]:
        """The rows of type 0 to 2; `tally` counts the others. Raises UsageError if the file has no column `mc`."""
        if "mc" not in self.columns:
            raise UsageError(f"{self.path} has no column mc (0, 1, 2 or blank), which the classifier learns from")
        self._count_other(tally)
        for label in self.rows:
            if label.mc not in TYPES:
                tally.skip("labels blank or of type 3", label.where)
        return [label for label in self.rows if label.mc in TYPES]

    def boxed(self, tally: Tally) -> list[Label]:
        """The rows with a box; `tally` counts the others. Raises UsageError if the file has no columns for boxes."""
        if not self.columns.issuperset(BOX):
            raise UsageError(f"{self.path} has no columns x0, y0, x1, y1 (T2 pixels), which the detector learns from")
        self._count_other(tally)
        for label in self.rows:
            if label.box is None:
                tally.skip("labels without a box", label.where)
        return [label for label in self.rows if label.box is not None]

    def _count_other(self, tally: Tally) -> None:
        if self.other_levels:
            tally.skip("labels of discs outside T12/L1 to L5/S1", *self.other_levels)


def read_labels(path: Path) -> Labels:
    """Read and check a table of labels. Raises UsageError naming the file, the line and the cure."""
    rows, columns = csv_rows(path, WHO)
    labels, other = [], []
    for line, row in rows:
        rank = level_rank(row, f"{path} line {line}")
        if 0 <= rank < len(LEVELS):
            labels.append(_label(row, rank, line, f"{path} line {line}"))
        else:
            other.append(f"line {line}")
    if not labels:
        raise UsageError(f"{path} holds no label; give rows with patient_id, level and mc")
    refuse_twice(path, labels, lambda label: (label.patient, label.study))
    return Labels(path, columns, tuple(labels), tuple(other))


def level_rank(row: Row, where: str) -> int:
    """The rank of a row's level (`disc_rank`). Raises UsageError, beginning with `where`, if it names no disc."""
    rank = disc_rank(row["level"])
    if rank is None:
        raise UsageError(f"{where}: level {shown(row['level'])!r} is none; give one of {', '.join(LEVELS)}")
    return rank


def refuse_twice(path: Path, labels: Iterable[Label], key: Callable[[Label], Hashable]) -> None:
    """Raise UsageError if two labels with the same key (a patient or a study) are of one level."""
    first: dict[Hashable, Label] = {}
    for label in labels:
        earlier = first.setdefault((key(label), label.level), label)
        if earlier is not label:
            what = f"{path} lines {earlier.line} and {label.line} are both {LEVELS[label.level]} of one patient"
            raise UsageError(f"{what}; keep one, or tell studies apart by study_uid")


def by_patient(path: Path, rows: list[Label]) -> dict[str, list[Label]]:
    """Patient → labels, for images that are named by patient.

    Raises UsageError if a row names no patient, or if the rows of one patient name several studies.
    """
    of_patient: dict[str, list[Label]] = defaultdict(list)
    for label in rows:
        if not label.patient:
            raise UsageError(f"{path} line {label.line}: patient_id is blank; files are found by it")
        of_patient[label.patient].append(label)
    refuse_twice(path, rows, lambda label: label.patient)
    for labels in of_patient.values():
        other = next((label for label in labels if label.study != labels[0].study), None)
        if other is not None:
            lines = f"lines {labels[0].line} and {other.line}"
            raise UsageError(f"{path} {lines} name two studies of a patient; files named by patient hold only one")
    return dict(of_patient)


def csv_rows(path: Path, who: tuple[str, ...]) -> tuple[list[tuple[int, Row]], frozenset[str]]:
    """The rows of a CSV file as (line, column → text), and its columns, in lower case.

    Raises UsageError if the file cannot be read, has no column `level`, or none of the columns `who`.
    """
    names, lines = csv_lines(path, table_text(path))
    names = [name.lower() for name in names]
    _check_columns(path, names, who)
    return [(line, _row(path, line, names, values)) for line, values in lines], frozenset(names)


def csv_lines(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The columns of a CSV file, and its lines that are not blank, each with its number and a text for
    each column (blank if it is too short).

    `,`, `;` or tab separate values (`modic.text.delimiter_of`). `text`: of `table_text`. Raises UsageError for what is
    no CSV, and for a line with more values than columns, as a decimal comma makes it.
    """
    reader = csv.reader(io.StringIO(text), delimiter=delimiter_of(text), skipinitialspace=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, values) for values in reader if any(map(str.strip, values))]
    except csv.Error as error:
        raise UsageError(f"{path} line {reader.line_num} is not CSV: {error}") from error
    return names, [(line, _of_columns(path, line, names, values)) for line, values in rows]


def table_text(path: Path) -> str:
    """The text of a CSV file, its lines ended by `\\n`: UTF-8, or UTF-16 with its mark, Excel's "Unicode Text".

    Raises UsageError.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    wide = content.startswith(UTF_16)
    unmarked = not wide and 4 * content.count(b"\0") > len(content)  # UTF-16 without its mark
    if content.startswith(SPREADSHEET) or unmarked:
        raise UsageError(f"{path} is no text; save the sheet as CSV UTF-8")
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8; save it as CSV UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _of_columns(path: Path, line: int, names: list[str], values: list[str]) -> list[str]:
    """One text for each column. Raises UsageError if there are too many."""
    if len(values) > len(names) and any(value.strip() for value in values[len(names) :]):
        raise UsageError(
            f"{path} line {line} has {counted(len(values), 'value')} for {counted(len(names), 'column')};"
            " quote or remove some"
        )
    return [*map(str.strip, values), *[""] * len(names)][: len(names)]


def _check_columns(path: Path, names: list[str], who: tuple[str, ...]) -> None:
    """Raise UsageError if a column is missing or there twice."""
    if "level" not in names or not set(who) & set(names):
        example = "`modic train classifier --help` shows an example"
        raise UsageError(f"{path} needs the columns {' or '.join(who)}, level and mc; {example}")
    if twice := {name for name in names if name and names.count(name) > 1}:
        raise UsageError(f"{path} has two columns {shown(min(twice))!r}; keep one")
    some = set(BOX) & set(names)
    if some and len(some) < len(BOX):
        raise UsageError(f"{path} has {', '.join(sorted(some))} of the box columns; give x0, y0, x1 and y1")


def _row(path: Path, line: int, names: list[str], values: list[str]) -> Row:
    """Column → text. Raises UsageError for a text that cannot be printed."""
    row = dict(zip(names, values, strict=True))
    if odd := next((name for name, text in row.items() if not text.isprintable()), None):
        raise UsageError(f"{path} line {line}: column {shown(odd)} holds a character that cannot be printed; remove it")
    return row


def _label(row: Row, level: int, line: int, where: str) -> Label:
    patient, study = row.get("patient_id", ""), row.get("study_uid", "")
    if not patient and not study:
        raise UsageError(f"{where}: neither patient_id nor study_uid is given")
    mc = modic_type(row, where)
    slice_index = _whole(row.get("slice", ""), f"{where}: slice", "a slice counted from 0, or blank")
    return Label(line, patient, study, level, mc, _box(row, where), slice_index)


def modic_type(row: Row, where: str) -> int | None:
    """The Modic type of a row, 0 to 3, None if blank. Raises UsageError as `level_rank`."""
    mc = _whole(row.get("mc", ""), f"{where}: mc", "0, 1, 2, 3 or blank")
    if mc is not None and not 0 <= mc <= 3:
        raise UsageError(f"{where}: mc is {mc}; give 0, 1, 2, 3 or blank")
    return mc


def _box(row: Row, where: str) -> Box | None:
    """The box of a row, None if blank. Raises UsageError as `level_rank`."""
    texts = [row.get(name, "") for name in BOX]
    given = [text.lower() not in BLANK for text in texts]
    if not any(given):
        return None
    if not all(given):
        raise UsageError(f"{where}: give all of x0, y0, x1, y1, or none")
    x0, y0, x1, y1 = (_number(text, f"{where}: {name}", "pixels") for name, text in zip(BOX, texts, strict=True))
    if x1 <= x0 or y1 <= y0:
        raise UsageError(f"{where}: the box has no size; give x0 < x1 and y0 < y1")
    return x0, y0, x1, y1


def _whole(text: str, where: str, wanted: str) -> int | None:
    """A whole number, None if blank; `2.0` is one, since pandas writes columns with gaps so. Raises UsageError."""
    if text.lower() in BLANK:
        return None
    value = _number(text, where, wanted)
    if value != round(value):
        raise UsageError(f"{where} is {shown(text)!r}; give {wanted}")
    return round(value)


def _number(text: str, where: str, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where} is {shown(text)!r}; give {wanted}")
    return value
