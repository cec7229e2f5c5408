"""Readings of a cohort, with what was kept of the discs that were read, and a sample of all others."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modic.adapt.update import Discs
from modic.cohort import Cohort, open_cohort
from modic.errors import UsageError
from modic.grades import CLASSES, GRADES
from modic.grading.marrow import MarrowMeasurements, from_numbers
from modic.grading.measured import Measured
from modic.reader_study.readings import Reading, Readings, read_readings
from modic.reader_study.weights import Disc
from modic.records import LevelFeatures
from modic.run.ledger import read_ledger
from modic.tables.features import newest_features
from modic.tables.query import published
from modic.tables.strata import GROUPS, STUDY_COLUMNS

FEWEST_DISCS, FEWEST_PATIENTS, FEWEST_OF_TWO = 20, 10, 5
SAMPLED = 3000  # studies of the cohort that drift and shares are told from
Kept = dict[str, dict[str, LevelFeatures]]


@dataclass(frozen=True, eq=False)
class Group:
    """Discs with what one must know of each, in the order of `discs`."""

    discs: Discs
    levels: np.ndarray  # names
    scanners: np.ndarray
    fields: np.ndarray  # modic.tables.strata.field_name
    years: np.ndarray  # as text
    marrow: tuple[MarrowMeasurements | None, ...]

    def __len__(self) -> int:
        return len(self.discs)

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """What the cohort is compared by, as `modic.tables.strata.GROUPS` names it."""
        return dict(zip(GROUPS, (self.scanners, self.fields, self.years), strict=True))

    def some(self, rows: np.ndarray) -> "Group":
        """Those of a mask or of indices."""
        index = np.arange(len(self))[rows]
        return Group(
            self.discs.some(index), self.levels[index], self.scanners[index], self.fields[index], self.years[index],
            tuple(self.marrow[i] for i in index),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class SiteData:
    """`read`: a row for each type that a disc was given; `cohort`: a sample of all graded discs, labels 0 without
    meaning; `readings`: how many count, of `readers`."""

    read: Group
    cohort: Group
    readings: int
    readers: tuple[str, ...]
    left_out: dict[str, int]  # why → readings


def site_data(root: Path, files: list[Path], *, classifier_id: str, measured: Measured | None) -> SiteData:
    """Read and check everything. Raises UsageError in one line that says what is missing and the cure."""
    cohort, readings = open_cohort(root), read_readings(root, files)
    rows = [reading for reading in readings.rows if reading.truth is not None and reading.reference]
    given = given_types(rows)
    _suffice(given, {reading.model["patient_key"] for reading in rows})
    studies = _studies(root)
    graded = [key for key, row in studies.items() if row["status"] == "graded"]
    wanted = {reading.study_key for reading in rows}
    sampled = set(random.Random(0).sample(sorted(graded), min(SAMPLED, len(graded))))
    kept: Kept = dict(kept_levels(cohort, wanted | sampled, classifier_id))
    discs = {reading.disc for reading in rows}
    missing = sum(level not in kept.get(key, {}) for key, level in discs)
    if missing:
        raise UsageError(
            f"{root} keeps no features of {missing} of {len(discs)} discs that were read, or those of"
            f" another classifier than {classifier_id}: grade the archive with `features = true` in [run], into a new"
            " cohort if nothing else changed, or name the classifier that graded it with --classifier"
        )
    made = _Maker(studies, kept, measured)
    others = [Given(key, level) for key in sorted(sampled) for level in kept.get(key, {})]
    readers = tuple(sorted({reading.reader for reading in rows}))
    return SiteData(made.group(given), made.group(others), len(rows), readers, _left_out(readings))


@dataclass(frozen=True, slots=True)
class Given:
    """A type that readers gave a disc. `share` of its readers who did, 0-1; `weight`: discs that it stands for."""

    study_key: str
    level: str
    label: int = 0
    share: float = 1.0
    weight: float = 1.0


def given_types(rows: list[Reading]) -> list[Given]:
    """Of the readings that count: a disc once, its readers with equal shares, those who agree as one row."""
    of: dict[Disc, list[Reading]] = {}
    for reading in rows:
        of.setdefault(reading.disc, []).append(reading)
    found = []
    for disc, readings in of.items():
        weight = sum(max(reading.weight, 1.0) for reading in readings) / len(readings)
        types = Counter(reading.truth for reading in readings if reading.truth is not None)
        shares = {label: n / len(readings) for label, n in sorted(types.items())}
        found += [Given(*disc, label, share, weight * share) for label, share in shares.items()]
    return found


def _suffice(given: list[Given], patients: set[str]) -> None:
    """Raise UsageError if so many discs can change nothing."""
    discs = len({(one.study_key, one.level) for one in given})
    if discs < FEWEST_DISCS or len(patients) < FEWEST_PATIENTS:
        raise UsageError(
            f"{discs} discs of {len(patients)} patients were read; adapting needs {FEWEST_DISCS} discs of"
            f" {FEWEST_PATIENTS} patients at least, and 200 to promise something: modic review COHORT --sample 200"
        )
    types = [sum(one.share for one in given if one.label == k) for k in range(CLASSES)]
    if sum(n >= FEWEST_OF_TWO for n in types) < 2:
        counts = ", ".join(f"{grade} {n:g}" for grade, n in zip(GRADES, types, strict=True))
        raise UsageError(
            f"adapting needs {FEWEST_OF_TWO} discs or more of each of two types; read were {counts}: draw rare grades"
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
    columns = ["status", *STUDY_COLUMNS]
    table = pq.read_table(published(root) / "studies.parquet", partitioning=None, columns=columns)
    return {row["study_key"]: row for row in table.to_pylist()}


def kept_levels(
    cohort: Cohort, study_keys: set[str], classifier_id: str
) -> Iterator[tuple[str, dict[str, LevelFeatures]]]:
    """The newest kept features of each of these studies that this classifier's network made."""
    ledger = read_ledger(cohort).select(["study_key", "run_id", "classifier_id"])
    rows = zip(*(ledger[name].to_pylist() for name in ledger.column_names), strict=True)
    of = {(key, run) for key, run, classifier in rows if classifier == classifier_id and key in study_keys}

    def damaged(path: Path, error: Exception) -> None:
        raise UsageError(f"{path} cannot be read: {error}; delete it and grade again") from error

    return newest_features(cohort, study_keys, damaged=damaged, of=of)


class _Maker:
    """Joins keys of discs with what is known of them."""

    def __init__(self, studies: dict[str, dict[str, Any]], kept: Kept, measured: Measured | None) -> None:
        self._studies, self._kept, self._measured = studies, kept, measured

    def group(self, given: list[Given]) -> Group:
        kept = [self._kept[one.study_key][one.level] for one in given]
        studies = [self._studies[one.study_key] for one in given]
        logits = np.array([one.logits for one in kept], float).reshape(len(kept), -1)
        if self._measured is not None and kept:
            nothing = np.full(len(self._measured.names), np.nan)
            logits = logits + self._measured.logits(
                np.stack([one.marrow if len(one.marrow) else nothing for one in kept])
            )
        features = np.stack([one.features for one in kept]) if kept else np.zeros((0, 0), np.float16)
        patients = np.array([row["patient_key"] for row in studies])
        labels = np.array([one.label for one in given], int)
        weights, shares = (np.array([getattr(one, name) for one in given], float) for name in ("weight", "share"))
        scanners, fields, years = (np.array([name(row) for row in studies]) for name in GROUPS.values())
        return Group(
            Discs(logits, features, labels, patients, weights, shares),
            np.array([one.level for one in given]),
            scanners,
            fields,
            years,
            tuple(
                from_numbers(one.level, of.endplates) if len(of.endplates) else None
                for one, of in zip(given, kept, strict=True)
            ),
        )
