"""Which studies of an archive a run is asked for: all, or those that `--only`, `--since`, `--until` and `--limit` name.

Rows of other studies stay as earlier runs published them. Studies that no run was asked for have no rows, whether they
could be graded or not, so that shares are always shares of what was asked for.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from modic.archive.patient_identity import one_way
from modic.errors import UsageError
from modic.labels.table import table_text
from modic.text import counted, delimiter_of, plural

NAMED = 10
"""Lines without a study that a message names."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a run is asked for; the default is everything."""

    only: Mapping[str, int] = field(default_factory=dict)  # patient id, study UID or key → its line in the file
    file: str = ""  # that holds them, as the user named it
    since: date | None = None  # the first day
    until: date | None = None  # the last day
    limit: int = 0  # most studies to grade; 0: no limit

    @property
    def is_everything(self) -> bool:
        """Whether studies are left out by nothing but, perhaps, `limit`."""
        return not (self.file or self.since or self.until)

    def holds(self, names: Iterable[str], day: date | None) -> bool:
        """Whether a study is asked for. `names`: its ids, UIDs and keys; a study without a date is in no period."""
        if self.file and self.only.keys().isdisjoint(names):
            return False
        if not (self.since or self.until):
            return True
        return day is not None and (self.since or day) <= day <= (self.until or day)

    def not_found(self, names: set[str]) -> str:
        """Which lines of the file name none of `names`, without their text, which identifies; empty if each does."""
        lines = sorted(line for name, line in self.only.items() if name not in names)
        some = ", ".join(map(str, lines[:NAMED])) + (" …" if len(lines) > NAMED else "")
        if not lines:
            return ""
        n, verb = len(lines), "is" if len(lines) == 1 else "are"
        ids = counted(len(self.only), "id")
        return f"of {ids} of {self.file}, {n} {verb} in no study ({plural(n, 'line')} {some})"

    def __str__(self) -> str:
        parts = [
            f"the {counted(len(self.only), 'id')} of a file" if self.file else "",
            f"since {self.since}" if self.since else "",
            f"until {self.until}" if self.until else "",
            f"{self.limit} to grade at most" if self.limit else "",
        ]
        return ", ".join(filter(None, parts))


EVERYTHING = Selection()


def selection(only: str = "", since: str = "", until: str = "", limit: int = 0) -> Selection:
    """The selection that a user wrote. Raises UsageError for a file that cannot be read, or what is no date."""
    first, last = _day("since", since), _day("until", until)
    if first and last and first > last:
        raise UsageError(f"--since {since} is later than --until {until}")
    if limit < 0:
        raise UsageError(f"--limit must be a whole number above 0, not {limit}")
    return Selection(_ids(Path(only)) if only else {}, only, first, last, limit)


def _day(option: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text.strip()) if text else None
    except ValueError as error:
        raise UsageError(f"--{option} {text} is no date; write it like 2024-01-31") from error


HEADS = frozenset({"patientid", "patient", "id", "mrn", "studyuid", "studyinstanceuid", "studykey", "patientkey"})
"""First lines that are taken for a heading, whatever their case and however their words are joined."""


def _ids(path: Path) -> dict[str, int]:
    """The first column of a CSV file (`,`, `;` or tab), each with its line number. Raises UsageError."""
    text = table_text(path)
    rows = csv.reader(text.splitlines(), delimiter=delimiter_of(text))
    found = [(name, line) for line, row in enumerate(rows, 1) if row and (name := one_way(row[0]))]
    if found and re.sub(r"[\W_]", "", found[0][0].lower()) in HEADS:
        del found[0]
    if not found:
        raise UsageError(f"{path} holds no patient id, study UID or key in its first column")
    return dict(reversed(found))  # the first line of an id that stands there twice
