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

The pages of `modic review` and the report export this form. Other columns are ignored.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modic.cohort import Cohort
from modic.errors import UsageError
from modic.grades import CLASSES, P
from modic.labels.table import Row, csv_rows, level_rank, modic_type
from modic.records import LEVELS
from modic.tables.query import published

WHO = ("study_key", "study_uid", "patient_id")
LINKED = {"study_uid": "StudyInstanceUID", "patient_id": "PatientID"}
MODEL = ("patient_key", "status", "mc", *P, "prediction_set", "abstained")
Disc = tuple[str, str]  # study_key, level


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


@dataclass(frozen=True, slots=True)
class Readings:
    """All readings of discs that the model graded, and how many others the files held."""

    rows: tuple[Reading, ...]
    not_graded: int  # readings of discs without a grade or abstention to compare with
    other_levels: int  # readings of discs outside T12/L1 to L5/S1


def sample_path(cohort_root: Path, sample_id: str) -> Path:
    """The file with the strata and weights of a sample of `modic review`, which readers must not see."""
    return cohort_root / "validation" / "samples" / f"{sample_id}.parquet"


def read_readings(cohort_root: Path, files: list[Path]) -> Readings:
    """Read and check all files. Raises UsageError that names the file, the line and the cure."""
    cohort = _CohortDiscs(cohort_root)
    places: dict[tuple[str, str, str], tuple[str, Reading]] = {}
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
            key = (reading.study_key, reading.level, reading.reader)
            if key in places:
                raise UsageError(f"{where} and {places[key][0]} are both {key[1]} of one study by one reader; keep one")
            places[key] = where, reading
    if not any(reading.truth is not None for _, reading in places.values()):
        raise UsageError(f"{', '.join(map(str, files))}: no graded disc of this cohort has a grade by a reader")
    return Readings(tuple(reading for _, reading in places.values()), not_graded, other)


def _reading(row: Row, level: str, default: str, cohort: "_CohortDiscs", where: str) -> Reading | None:
    """The reading of one row; None if the model has no grade to compare it with. `default`: name of the reader."""
    mc = modic_type(row, where)
    study_key = cohort.study(row, where)
    model = cohort.discs.get((study_key, level))
    if model is None or model["status"] != "graded":
        return None
    sample_id = row.get("sample_id", "")
    weight, unit = cohort.drawn(sample_id, (study_key, level), where) if sample_id else (1.0, "")
    blind = row.get("blind", "").lower() not in ("no", "false", "0")
    truth = mc if mc in range(CLASSES) else None
    reader = row.get("reader", "") or default
    return Reading(study_key, level, reader, truth, row.get("verdict", ""), blind, sample_id, weight, unit, model)


class _CohortDiscs:
    """Studies, discs and samples of a cohort; links and samples are read when a row first needs them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        folder = published(root)
        levels = pq.read_table(folder / "levels.parquet", partitioning=None, columns=["study_key", "level", *MODEL])
        self.discs = {(row["study_key"], row["level"]): row for row in levels.to_pylist()}
        studies = pq.read_table(folder / "studies.parquet", partitioning=None, columns=["study_key", "status"])
        self._studies = dict(zip(*(studies[name].to_pylist() for name in ("study_key", "status")), strict=True))
        self._links: dict[str, dict[str, set[str]]] | None = None
        self._samples: dict[str, dict[Disc, tuple[float, str]]] = {}

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

    def drawn(self, sample_id: str, disc: Disc, where: str) -> tuple[float, str]:
        """How many discs of the cohort one disc of a sample of `modic review` stands for, and what was drawn."""
        if sample_id not in self._samples:
            path = sample_path(self._root, sample_id)
            named_so = len(sample_id) < 100 and sample_id.replace("-", "").isalnum()  # else it may be another path
            if not (named_so and path.is_file()):
                raise UsageError(
                    f"{where}: {self._root} knows no sample {sample_id[:40]!r}; was it drawn from another cohort?"
                )
            rows = pq.read_table(path, partitioning=None).to_pylist()
            self._samples[sample_id] = {
                (row["study_key"], row["level"]): (row["weight"], row.get("unit") or "level") for row in rows
            }
        if disc not in self._samples[sample_id]:
            raise UsageError(f"{where}: {disc[1]} of this study is not in sample {sample_id}")
        return self._samples[sample_id][disc]
