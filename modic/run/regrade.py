"""Studies of which only the classifier's calibration or `[grading]` is new are graded again without their images.

Calibration is all in the card that follows the network: temperature, thresholds, marrow, a site's correction. What it
starts from was kept (modic/tables/features.py). A row of the ledger holds the fingerprint without both in its column
`encoding`.

| the last row with the study's `encoding`    | what becomes of the study                                        |
|---------------------------------------------|------------------------------------------------------------------|
| none                                        | goes to a worker                                                 |
| excluded                                    | the same row: no head was asked                                  |
| graded, and its run has kept its features   | graded from them, by the functions that grade images             |
| graded, without them; failed                | goes to a worker                                                 |

The new rows are finished shards of this run; the rows that they replace stay in theirs.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from modic.cohort import Cohort
from modic.files import make_folder, write_json
from modic.grading.agreement import checked
from modic.grading.classify import Calibration, calibration_of, grade_output
from modic.grading.endplate_types import endplate_columns
from modic.grading.marrow import from_numbers
from modic.grading.network_output import joined
from modic.models.card import contrasts, read_card
from modic.records import STIR_COLUMNS, LevelFeatures
from modic.run import ledger
from modic.run.prepare import Run
from modic.run.shards import Due, Shard, note_shard
from modic.tables.features import files_of, read_features, studies_in

LOG = logging.getLogger(__name__)
STUDIES = 2000  # in a finished shard
REGRADE = "regrade"
"""The stage of such a row in the ledger's `seconds`."""
Row = dict[str, Any]


def regrade(run: Run, work: Sequence[Due], rows: pa.Table) -> tuple[int, list[Due]]:
    """Write finished shards of what needs no image; returns how many there are, and the work that is left.

    `rows`: what modic.run.ledger.read_ledger returns.
    """
    by_file = _by_file(run, work, rows)
    if not by_file:
        return 0, list(work)
    written, done = 0, set[str]()
    _note_pictures(run, by_file, rows)
    for number, group in enumerate(_groups(_new_rows(run, by_file, rows))):
        shard = note_shard(run.cohort, run.run_id, Shard(f"{number:05d}", len(group)))
        ledger.write_output(run.cohort.shard(run.run_id, shard.id), group)
        written, done = number + 1, done | {row["study_key"] for row in group}
    return written, [item for item in work if item.study_key not in done]


def count_without_images(run: Run, work: Sequence[Due], rows: pa.Table) -> int:
    """How many studies `regrade` would grade, at most: features that turn out to be damaged are found then."""
    return sum(map(len, _by_file(run, work, rows).values()))


def _by_file(run: Run, work: Sequence[Due], rows: pa.Table) -> dict[Path | None, dict[str, tuple[Due, int]]]:
    """File of features (None: an excluded study needs none) → key of each of its studies → it, and its row."""
    files = _Files(run.cohort)
    by_file: dict[Path | None, dict[str, tuple[Due, int]]] = defaultdict(dict)
    for item, indices in _known(work, rows):
        if (place := _place(item, indices, rows, files)) is not None:
            path, index = place
            by_file[path][item.study_key] = item, index
    return by_file


def _note_pictures(run: Run, by_file: Mapping[Path | None, Mapping[str, tuple[Due, int]]], rows: pa.Table) -> None:
    """Note which run drew the pictures of each study (modic.cohort.Cohort.pictures)."""
    drawn = {}
    for key, (_, index) in (item for path, studies in by_file.items() if path for item in studies.items()):
        pictures = run.cohort.pictures(rows["run_id"][index].as_py(), key)
        if pictures.is_dir():
            drawn[key] = pictures.parent.parent.name
    if drawn:
        path = run.cohort.drawn_by(run.run_id)
        make_folder(path.parent)
        write_json(path, drawn)


def _known(work: Sequence[Due], rows: pa.Table) -> list[tuple[Due, list[int]]]:
    """Studies with the rows of its `encoding`, the last one first."""
    wanted = {(one.study_key, name) for one in work for name in (one.encoding, one.encoding_with_others) if name}
    of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, key in enumerate(zip(rows["study_key"].to_pylist(), rows["encoding"].to_pylist(), strict=True)):
        if key in wanted:
            of[key].append(index)
    found = []
    for item in work:
        names = filter(None, (item.encoding, item.encoding_with_others))
        indices = sorted((i for name in names for i in of[item.study_key, name]), reverse=True)
        found += [(item, indices)] if indices else []
    return found


class _Files:
    """Where each run keeps the features of each study; a file that cannot be read keeps none."""

    def __init__(self, cohort: Cohort) -> None:
        self._cohort = cohort
        self._of: dict[str, dict[str, Path]] = {}

    def of(self, run_id: str, study_key: str) -> Path | None:
        if run_id not in self._of:
            paths = files_of(self._cohort.features(run_id))
            self._of[run_id] = {key: path for path in paths for key in _study_keys(path)}
        return self._of[run_id].get(study_key)


def _study_keys(path: Path) -> set[str]:
    try:
        return studies_in(path)
    except (pa.ArrowException, OSError):
        LOG.warning("kept features in %s cannot be read; their studies are graded from images", path.name)
        return set()


def _place(item: Due, indices: list[int], rows: pa.Table, files: _Files) -> tuple[Path | None, int] | None:
    """The row that a study starts from, and the file of its features (None if it was excluded)."""
    for index in indices:
        status = rows["status"][index].as_py()
        if status == "excluded":
            return None, index
        path = files.of(rows["run_id"][index].as_py(), item.study_key) if status == "graded" else None
        if path is not None:
            return path, index
    return None


def _new_rows(run: Run, by_file: Mapping[Path | None, Mapping[str, tuple[Due, int]]], rows: pa.Table) -> Iterator[Row]:
    card, _ = read_card(run.config.classifier, "classifier")
    calibration, reads_stir = calibration_of(card, run.config.grading.alpha), "stir" in contrasts(card)
    for path, studies in by_file.items():
        old = dict(zip(studies, _rows(rows, [index for _, index in studies.values()]), strict=True))
        if path is None:
            yield from (_of_now(run, studies[key][0], row, row["levels"], 0.0) for key, row in old.items())
            continue
        try:
            for key, kept in read_features(path, set(studies)):
                began = time.perf_counter()
                levels = regraded(old[key]["levels"], kept, calibration, reads_stir=reads_stir)
                if levels is not None:
                    yield _of_now(run, studies[key][0], old[key], levels, time.perf_counter() - began)
        except (pa.ArrowException, OSError):
            LOG.warning("kept features in %s cannot be read; their studies are graded from images", path.name)


def _rows(rows: pa.Table, indices: list[int]) -> list[Row]:
    found: list[Row] = rows.take(pa.array(indices, pa.int64())).drop_columns(["run_id"]).to_pylist()
    return found


def regraded(
    levels: list[Row], kept: Mapping[str, LevelFeatures], calibration: Calibration, *, reads_stir: bool = False
) -> list[Row] | None:
    """The levels of a study's row with the grades of another calibration; None if the features of one are missing."""
    graded = {row["level"] for row in levels if row["status"] == "graded"}
    order = [name for name in kept if name in graded]  # the order in which they were graded first
    if not order or len(order) < len(graded):
        return None
    marrow = {name: from_numbers(name, kept[name].endplates) for name in order if len(kept[name].endplates)}
    features = {name: kept[name].marrow for name in order if len(kept[name].marrow)}
    output = joined([kept[name] for name in order])
    rows, new = {row["level"]: row for row in levels}, {}
    for grade in grade_output(order, output, calibration=calibration, features=features):
        ratios = [rows[grade.level][name] for name in STIR_COLUMNS] if reads_stir else None
        final = checked(grade, marrow.get(grade.level), ratios)
        new[grade.level] = ledger.grade_columns(final) | endplate_columns(final.mc, marrow.get(grade.level))
    return [row | new.get(row["level"], {}) for row in levels]


def _of_now(run: Run, item: Due, row: Row, levels: list[Row], seconds: float) -> Row:
    alone = row["encoding"] == item.encoding
    return row | {
        "fingerprint": item.fingerprint if alone else item.with_others,
        "cause": item.cause or None,
        "seconds": [(REGRADE, seconds)],
        "classifier_id": row["classifier_id"] and run.classifier_id,
        "grading_version": run.grader.version,
        "grader_id": run.grader.id,
        "configuration_hash": run.grader.configuration,
        "models_hash": run.grader.models,
        "levels": levels,
    }


def _groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) == STUDIES:
            yield group
            group = []
    if group:
        yield group
