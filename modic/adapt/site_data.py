"""Readings of a cohort, with what was kept of the discs that were read, and a sample of all others."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modic.adapt.update import Discs
from modic.cohort import Cohort, open_cohort
from modic.errors import UsageError
from modic.grading.marrow import MarrowMeasurements, from_numbers
from modic.grading.measured import Measured
from modic.reader_study.readings import Readings, read_readings
from modic.records import LevelFeatures
from modic.run.ledger import read_ledger
from modic.tables.features import files_of, read_features
from modic.tables.query import published

FEWEST_DISCS, FEWEST_PATIENTS, FEWEST_OF_TWO = 20, 10, 5
SAMPLED = 3000  # studies of the cohort that drift and shares are told from
FIELDS_T = ((0.0, 0.9, "under 0.9 T"), (0.9, 2.0, "0.9–2 T"), (2.0, 99.0, "over 2 T"))
Kept = dict[str, dict[str, LevelFeatures]]


@dataclass(frozen=True, eq=False)
class Group:
    """Discs with what one must know of each, in the order of `discs`."""

    discs: Discs
    levels: np.ndarray  # names
    scanners: np.ndarray
    fields: np.ndarray  # names of FIELDS_T
    years: np.ndarray  # int, 0: unknown
    marrow: tuple[MarrowMeasurements | None, ...]

    def __len__(self) -> int:
        return len(self.discs)

    def some(self, rows: np.ndarray) -> "Group":
        """Those of a mask or of indices."""
        index = np.arange(len(self))[rows]
        return Group(
            self.discs.some(index), self.levels[index], self.scanners[index], self.fields[index], self.years[index],
            tuple(self.marrow[i] for i in index),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class SiteData:
    """`read`: one row a reading; `cohort`: a sample of all graded discs, labels 0 without meaning."""

    read: Group
    cohort: Group
    readers: tuple[str, ...]
    left_out: dict[str, int]  # why → readings


def site_data(root: Path, files: list[Path], *, classifier_id: str, measured: Measured | None) -> SiteData:
    """Read and check everything. Raises UsageError in one line that says what is missing and the cure."""
    cohort, readings = open_cohort(root), read_readings(root, files)
    rows = [reading for reading in readings.rows if reading.truth is not None and reading.reference]
    _suffice([(reading.model["patient_key"], reading.truth) for reading in rows])
    studies = _studies(root)
    graded = [key for key, row in studies.items() if row["status"] == "graded"]
    wanted = {reading.study_key for reading in rows}
    sampled = set(random.Random(0).sample(sorted(graded), min(SAMPLED, len(graded))))
    kept: Kept = dict(kept_levels(cohort, wanted | sampled, classifier_id))
    have = [reading for reading in rows if reading.level in kept.get(reading.study_key, {})]
    if len(have) < len(rows):
        raise UsageError(
            f"{root} keeps no features of {len(rows) - len(have)} of {len(rows)} discs that were read, or those of"
            f" another classifier than {classifier_id}: grade the archive with `features = true` in [run], into a new"
            " cohort if nothing else changed, or name the classifier that graded it with --classifier"
        )
    readers = Counter((reading.study_key, reading.level) for reading in rows)
    made = _Maker(studies, kept, measured)
    read = made.group(
        [(one.study_key, one.level) for one in rows],
        labels=[one.truth or 0 for one in rows],
        weights=[max(one.weight, 1.0) / readers[one.study_key, one.level] for one in rows],
    )
    others = [(key, level) for key in sorted(sampled) for level in kept.get(key, {})]
    everybody = made.group(others, labels=[0] * len(others), weights=[1.0] * len(others))
    return SiteData(read, everybody, tuple(sorted({one.reader for one in rows})), _left_out(readings))


def _suffice(rows: list[tuple[str, int | None]]) -> None:
    """Raise UsageError if so many readings can change nothing."""
    patients, types = len({patient for patient, _ in rows}), Counter(label for _, label in rows)
    if len(rows) < FEWEST_DISCS or patients < FEWEST_PATIENTS:
        raise UsageError(
            f"{len(rows)} discs of {patients} patients were read; adapting needs {FEWEST_DISCS} discs of"
            f" {FEWEST_PATIENTS} patients at least, and 200 to promise something: modic review COHORT --sample 200"
        )
    if sum(n >= FEWEST_OF_TWO for n in types.values()) < 2:
        counts = ", ".join(f"MC{k} {types[k]}" for k in range(3))
        raise UsageError(
            f"adapting needs {FEWEST_OF_TWO} readings of two types at least, and these are {counts}: draw rare grades"
            " more often, modic review COHORT --by grade"
        )


def _left_out(readings: Readings) -> dict[str, int]:
    return {
        "no grade of 0-2": sum(one.truth is None for one in readings.rows),
        "read again, or overruled by an arbiter": sum(not one.reference for one in readings.rows),
        "disc not graded by the model": readings.not_graded,
        "level outside T12/L1 to L5/S1": readings.other_levels,
        "model's grade in sight (counted)": sum(one.truth is not None and not one.blind for one in readings.rows),
    }


def _studies(root: Path) -> dict[str, dict[str, Any]]:
    columns = ["study_key", "patient_key", "status", "manufacturer", "scanner_model", "field_strength_t", "study_year"]
    table = pq.read_table(published(root) / "studies.parquet", partitioning=None, columns=columns)
    return {row["study_key"]: row for row in table.to_pylist()}


def kept_levels(
    cohort: Cohort, study_keys: set[str], classifier_id: str
) -> Iterator[tuple[str, dict[str, LevelFeatures]]]:
    """The newest kept features of each of these studies that this classifier's network made."""
    ledger = read_ledger(cohort).select(["study_key", "run_id", "classifier_id"])
    rows = zip(*(ledger[name].to_pylist() for name in ledger.column_names), strict=True)
    of = {(key, run) for key, run, classifier in rows if classifier == classifier_id and key in study_keys}
    missing = set(study_keys)
    for run in reversed(cohort.runs()):
        wanted = {key for key in missing if (key, run.name) in of}
        for path in files_of(cohort.features(run.name)) if wanted else ():
            try:
                for key, levels in read_features(path, wanted):
                    missing.discard(key)
                    yield key, levels
            except (pa.ArrowException, OSError) as error:
                raise UsageError(f"{path} cannot be read: {error}; delete it and grade again") from error


class _Maker:
    """Joins keys of discs with what is known of them."""

    def __init__(self, studies: dict[str, dict[str, Any]], kept: Kept, measured: Measured | None) -> None:
        self._studies, self._kept, self._measured = studies, kept, measured

    def group(self, keys: list[tuple[str, str]], *, labels: list[int], weights: list[float]) -> Group:
        kept = [self._kept[study][level] for study, level in keys]
        studies = [self._studies[study] for study, _ in keys]
        logits = np.array([one.logits for one in kept], float).reshape(len(kept), -1)
        if self._measured is not None and kept:
            nothing = np.full(len(self._measured.names), np.nan)
            logits = logits + self._measured.logits(
                np.stack([one.marrow if len(one.marrow) else nothing for one in kept])
            )
        features = np.stack([one.features for one in kept]) if kept else np.zeros((0, 0), np.float16)
        patients = np.array([row["patient_key"] for row in studies])
        discs = Discs(logits, features, np.array(labels, int), patients, np.array(weights, float))
        return Group(
            discs,
            np.array([level for _, level in keys]),
            np.array([_scanner(row) for row in studies]),
            np.array([field_name(row["field_strength_t"]) for row in studies]),
            np.array([row["study_year"] or 0 for row in studies], int),
            tuple(
                from_numbers(level, one.endplates) if len(one.endplates) else None
                for (_, level), one in zip(keys, kept, strict=True)
            ),
        )


def _scanner(row: dict[str, Any]) -> str:
    strength = row["field_strength_t"]
    parts = (row["manufacturer"], row["scanner_model"], None if strength is None else f"{strength:g} T")
    return " ".join(filter(None, parts)) or "unknown"


def field_name(strength: float | None) -> str:
    """The stratum of a field strength in tesla."""
    if strength is None:
        return "unknown field"
    return next((name for low, high, name in FIELDS_T if low <= strength < high), "unknown field")
