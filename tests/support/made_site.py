"""A made-up site: a graded cohort with kept features whose true types are known, and readings of some of its discs."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from made_cohort import RUN, as_tables, key, run, series, study
from modic.cohort import create_cohort
from modic.errors import Reason
from modic.grading.classify import calibration_of, grade_output
from modic.grading.network_output import joined
from modic.models.card import model_id, read_card
from modic.records import LEVELS, Grade, LevelBox, LevelFeatures, LevelResult, Rejected, StudyResult
from modic.run.ledger import level_row, row, write_output
from modic.run.shards import Grader, Work
from modic.tables.features import write_features
from modic.tables.store import publish

WIDTH = 24
GRADED = LEVELS[1:]
TYPES = (0.6, 0.15, 0.25)
TEMPERATURE = 0.7117  # of the shipped classifier


@dataclass(frozen=True, eq=False)
class MadeSite:
    """`truth`: (study_key, level) → type."""

    root: Path
    truth: dict[tuple[str, str], int]

    def read(self, path: Path, discs: int, *, seed: int = 0, **more: Any) -> Path:
        """Write readings of so many discs at random, all levels of a study alike likely; returns `path`."""
        keys = sorted(self.truth)
        chosen = np.random.default_rng(seed).choice(len(keys), discs, replace=False)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["study_key", "level", "mc", "reader", *more])
            writer.writerows([*keys[i], self.truth[keys[i]], "R1", *more.values()] for i in chosen)
        return path


def made_features(rng: np.random.Generator, truth: int, shift: np.ndarray, informative: float = 0.0) -> LevelFeatures:
    """Logits, calibrated but for `shift`; `informative`: what the features tell of the type beyond them."""
    logits = rng.normal(size=3) + np.eye(3)[truth] / TEMPERATURE + shift
    features = rng.normal(size=WIDTH)
    features[:3] += informative * np.eye(3)[truth]
    slices = logits + rng.normal(scale=0.2, size=(5, 3))
    nothing = np.array([])
    return LevelFeatures(
        logits.astype(np.float32), slices.astype(np.float32), features.astype(np.float16), nothing, nothing
    )


def made_site(
    root: Path, *, studies: int = 100, shift: tuple[float, float, float] = (0, 0, 0), informative: float = 0.0,
    seed: int = 0,
) -> MadeSite:  # fmt: skip
    """Publish the cohort at `root` as a run with the shipped classifier would, one patient every two studies."""
    rng, (card, _) = np.random.default_rng(seed), read_card("classifier", "classifier")
    cohort = create_cohort(root, archive=root.parent / "no archive")
    truth, ledger_rows, kept, level_rows = {}, [], [], []
    models = {"normalization": "standardize", "detector_id": "0" * 12, "classifier_id": model_id(card), "device": "cpu"}
    for number in range(studies):
        study_key = key("s", number)
        labels = rng.choice(3, len(GRADED), p=TYPES)
        types = dict(zip(GRADED, labels.tolist(), strict=True))
        of = {level: made_features(rng, k, np.array(shift), informative) for level, k in types.items()}
        truth |= {(study_key, level): k for level, k in types.items()}
        grades = grade_output(list(GRADED), joined(list(of.values())), calibration=calibration_of(card))
        results = (LevelResult(LEVELS[0], "not_found", Rejected(Reason.LEVEL_NOT_DETECTED)), *map(result, grades))
        kept.append((study_key, of))
        work: Any = Work(study_key, f"f{number}", pair=None, encoding=f"e{number}")  # type: ignore[arg-type]
        ledger_rows.append(row(work, StudyResult(results, "ok", 0.97), Grader(2, "c", "m", "0123456789ab"), **models))
        about = {"study_key": study_key, "patient_key": key("p", number // 2), "run_id": RUN, "grading_version": 2,
                 "grader_id": "0123456789ab", **models}  # fmt: skip
        level_rows += [level_row(one) | {k: v for k, v in about.items() if k != "device"} for one in results]
    write_features(cohort.features(RUN, "00000"), kept)
    write_output(cohort.shard(RUN, "00000"), ledger_rows)
    rows = [study(number) for number in range(studies)]
    tables = {"studies": rows, "series": [one for n in range(studies) for one in series(n)], "levels": level_rows,
              "runs": [run(rows)]}  # fmt: skip
    publish(root, as_tables(tables), RUN)
    return MadeSite(root, truth)


def result(grade: Grade) -> LevelResult:
    box = LevelBox(grade.level, (1.0, 2.0, 5.0, 6.0), 5, 0.9)
    return LevelResult(grade.level, "graded", None, box, box.box, 5, (0.0, 1.0, 0.0), (0.0, 5.0, -9.0), grade)
