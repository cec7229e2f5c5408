"""Readers' grades of a cohort's discs: `modic validate COHORT --labels FILE.csv`.

| column                                 | meaning                                                              |
|----------------------------------------|----------------------------------------------------------------------|
| `study_key`, `study_uid`, `patient_id` | which study; one of the three; a patient_id needs a single graded study |
| `level`                                | T12/L1 … L5/S1 (`L5S1`, `L4/5` are read too)                         |
| `mc`                                   | 0, 1, 2; blank or 3: no grade to compare, counted                    |
| `reader`                               | name of the reader; blank: the name of the file                      |
| `verdict`                              | a value of `Verdict` says why `mc` is blank; counted                 |
| `blind`                                | `no` if the model's grade was in sight (verdicts of the report)      |
| `sample_id`                            | of `modic review`: gives each disc its sampling weight               |
| `mc_upper`, `mc_lower`                 | type at each endplate: 0, 1, 2, 3 or `mixed` (1 and 2); may be blank  |
| `udby_upper`, `udby_lower`             | how high the change reaches: A under 25 %, B to 50 %, C over 50 %    |
| `mixed`                                | `yes` if types 1 and 2 lie side by side; `mc` is the larger          |
| `seconds`                              | time that the reading took                                           |
| `repeat`                               | `1` if the reader read the disc for the second time                  |
| `role`                                 | `arbiter` if the reading decides between those of others             |

The pages of `modic review` and the report export this form. Other columns are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from modic.cohort import Cohort
from modic.errors import UsageError
from modic.grades import CLASSES, P, UdbyExtent
from modic.labels.table import Row, csv_rows, level_rank, modic_type
from modic.reader_study.weights import Disc, Samples
from modic.records import ENDPLATE_COLUMNS, LEVELS
from modic.tables.query import dataset, published

WHO = ("study_key", "study_uid", "patient_id")
LINKED = {"study_uid": "StudyInstanceUID", "patient_id": "PatientID"}
MODEL = ("patient_key", "status", "mc", *P, "prediction_set", "abstained", "mc_upper", "mc_lower")
Value = TypeVar("Value")


class Role(StrEnum):
    """Whose reading it is; the values of the column `role`."""

    READER = "reader"
    ARBITER = "arbiter"


TYPES = {"": None, **{kind: kind for kind in ("0", "1", "2", "3")}, **dict.fromkeys(("mixed", "1/2", "1+2"), "1/2")}
"""Texts of the columns mc_upper and mc_lower → type, as in `modic.grades.EndplateType`, and 3."""
EXTENTS = {"": None, **{kind: kind for kind in map(str, UdbyExtent)}}
"""Texts of the columns udby_upper and udby_lower → extent."""
YES = frozenset({"yes", "true", "1"})
ENDPLATES = ENDPLATE_COLUMNS


class Verdict(StrEnum):
    """What a reader may say instead of a grade; the values of the column `verdict`, also in cases/viewer.js."""

    WRONG_LEVEL = "wrong level"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reader gave for one disc that the model graded; `truth` is None if it is none of the model's types."""

    study_key: str
    level: str
    reader: str
    truth: int | None
    verdict: str
    blind: bool
    sample_id: str
    weight: float  # how many graded discs of the cohort the disc stands for; 1 if it was not sampled
    unit: str  # what was drawn: level, patient, or blank if it was not sampled
    model: dict[str, Any]  # columns MODEL of `levels`
    drawn: str = ""  # random, or why it was chosen; blank if it was not sampled
    endplates: Mapping[str, str | None] = field(default_factory=dict)  # of ENDPLATES, what the file says
    mixed: bool = False
    note: str = ""
    seconds: float | None = None
    repeat: bool = False
    role: Role = Role.READER
    reference: bool = True  # counts as the truth: not read again, and not overruled by an arbiter

    @property
    def disc(self) -> Disc:
        """Its study and level."""
        return self.study_key, self.level


@dataclass(frozen=True, slots=True)
class Readings:
    """All readings of discs that the model graded, and how many others the files held."""

    rows: tuple[Reading, ...]
    not_graded: int  # readings of discs without a grade or abstention to compare with
    other_levels: int  # readings of discs outside T12/L1 to L5/S1
    left_out: tuple[str, ...] = ()  # samples without readings whose discs a later sample left out

    @property
    def by_readers(self) -> list[Reading]:
        """What each reader gave at the first reading."""
        return [reading for reading in self.rows if reading.role is Role.READER and not reading.repeat]


def read_readings(cohort_root: Path, files: list[Path]) -> Readings:
    """Read and check all files. Raises UsageError that names the file, the line and the cure."""
    cohort = _CohortDiscs(cohort_root)
    places: dict[tuple[str, str, str, bool, Role], tuple[str, Reading]] = {}
    not_graded = other = 0
    for path in files:
        rows, columns = csv_rows(path, WHO)
        if "mc" not in columns:
            raise UsageError(f"{path} has no column mc; give 0, 1, 2, or blank if the reader gave no grade")
        for line, row in rows:
            where = f"{path} line {line}"
            rank = level_rank(row, where)
            if not 0 <= rank < len(LEVELS):
                other += 1
                continue
            reading = _reading(row, LEVELS[rank], path.stem, cohort, where)
            if reading is None:
                not_graded += 1
                continue
            key = (*reading.disc, reading.reader, reading.repeat, reading.role)
            if key in places:
                raise UsageError(f"{where} and {places[key][0]} are both {key[1]} of one study by one reader; keep one")
            places[key] = where, reading
    if not any(reading.truth is not None for _, reading in places.values()):
        raise UsageError(f"{', '.join(map(str, files))}: no graded disc of this cohort has a grade by a reader")
    weighted = [_weighted(reading, cohort.samples) for _, reading in places.values()]
    return Readings(tuple(_with_reference(weighted)), not_graded, other, tuple(cohort.samples.left_out()))


def _weighted(reading: Reading, samples: Samples) -> Reading:
    """The reading with its weight among all samples of which there are readings."""
    return replace(reading, weight=samples.combined(reading.sample_id, reading.disc)) if reading.sample_id else reading


def _with_reference(readings: list[Reading]) -> list[Reading]:
    """The arbiter's reading of a disc is the reference; without one those of the readers are. Repeats never are."""
    arbiter, arbitrated = Role.ARBITER, {reading.disc for reading in readings if reading.role is Role.ARBITER}
    return [
        replace(reading, reference=reading.role is arbiter or (reading.disc not in arbitrated and not reading.repeat))
        for reading in readings
    ]  # fmt: skip


def _reading(row: Row, level: str, default: str, cohort: "_CohortDiscs", where: str) -> Reading | None:
    """The reading of one row; None if the model has no grade to compare it with. `default`: name of the reader."""
    mc = modic_type(row, where)
    study_key = cohort.study(row, where)
    model = cohort.discs.get((study_key, level))
    if model is None or model["status"] != "graded":
        return None
    sample_id, disc = row.get("sample_id", ""), (study_key, level)
    sample = cohort.samples.named(sample_id, disc, where) if sample_id else None
    blind = row.get("blind", "").lower() not in ("no", "false", "0")
    truth = mc if mc in range(CLASSES) else None
    reader = row.get("reader", "") or default
    return Reading(
        study_key, level, reader, truth, row.get("verdict", ""), blind, sample_id,
        sample.weights[disc] if sample else 1.0, sample.unit if sample else "", model,
        drawn=sample.drawn[disc] if sample else "", endplates=_endplates(row, where), note=row.get("note", ""),
        mixed=row.get("mixed", "").lower() in YES,
        seconds=_seconds(row.get("seconds", ""), where), repeat=row.get("repeat", "").lower() in YES,
        role=_one_of(row.get("role", "").lower() or Role.READER, {str(role): role for role in Role}, f"{where}: role"),
    )  # fmt: skip


def _endplates(row: Row, where: str) -> dict[str, str | None]:
    """Columns ENDPLATES of a row. Raises UsageError, beginning with `where`, for a value that is none of theirs."""
    return {
        name: _one_of(row.get(name, ""), TYPES if name.startswith("mc") else EXTENTS, f"{where}: {name}")
        for name in ENDPLATES
    }


def _one_of(text: str, values: Mapping[str, Value], where: str) -> Value:
    for known in (text, text.upper(), text.removesuffix(".0")):
        if known in values:
            return values[known]
    raise UsageError(f"{where} is {text[:40]!r}; give {', '.join(filter(None, values))} or blank")


def _seconds(text: str, where: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = -1.0
    if value is not None and not 0 <= value < float("inf"):
        raise UsageError(f"{where}: seconds is {text[:40]!r}; give a number or blank")
    return value


class _CohortDiscs:
    """Studies, discs and samples of a cohort; links and samples are read when a row first needs them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        folder = published(root)
        levels = dataset(folder, "levels").to_table(["study_key", "level", *MODEL])
        self.discs = {(row["study_key"], row["level"]): row for row in levels.to_pylist()}
        studies = pq.read_table(folder / "studies.parquet", partitioning=None, columns=["study_key", "status"])
        self._studies = dict(zip(*(studies[name].to_pylist() for name in ("study_key", "status")), strict=True))
        self._links: dict[str, dict[str, set[str]]] | None = None
        self.samples = Samples(root)

    def study(self, row: Row, where: str) -> str:
        """The key of the study that a row is about."""
        name = next((name for name in WHO if row.get(name)), None)
        if name is None:
            raise UsageError(f"{where}: none of {', '.join(WHO)} is given")
        keys = {row[name]} if name == "study_key" else self._links_by(name).get(row[name], set())
        keys = {key for key in keys if key in self._studies}
        if not keys:
            raise UsageError(f"{where}: {self._root} has no study of this {name}")
        graded = {key for key in keys if self._studies[key] == "graded"}
        if len(graded) > 1:
            raise UsageError(f"{where}: this patient_id has {len(graded)} graded studies; tell them apart by study_uid")
        return min(graded or keys)

    def _links_by(self, name: str) -> dict[str, set[str]]:
        """Values of study_uid or patient_id → study keys, from the cohort's private folder."""
        if self._links is None:
            path = Cohort(self._root).links
            try:
                table = pq.read_table(path, partitioning=None, columns=["study_key", *LINKED.values()])
            except (OSError, pa.ArrowInvalid) as error:
                raise UsageError(f"{path} cannot be read: give study_key instead of study_uid or patient_id") from error
            self._links = {identifier: {} for identifier in LINKED}
            for row in table.to_pylist():
                for identifier, column in LINKED.items():
                    self._links[identifier].setdefault(row[column], set()).add(row["study_key"])
        return self._links[name]
