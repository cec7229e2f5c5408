"""How long a cohort takes to be graded again by a site's card, from what was kept, without an image.

    python tests/benchmarks/regrade.py [STUDIES]

Made-up features of the shipped network's width, six graded levels a study, 32 studies a shard as in a night. Timed in
one process: the ledger read, studies graded again, the ledger read once more and its rows of `levels` checked and
written. Of a whole night that leaves the crawl of an unchanged archive (tests/benchmarks/index.py) and the rows of
`series`. The last line extrapolates linearly to 100,000 studies.
"""

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modic.cohort import create_cohort
from modic.config import Config
from modic.grading.classify import calibration_of, grade_output
from modic.grading.endplate_types import endplate_columns
from modic.grading.marrow import EndplateMarrow, MarrowMeasurements
from modic.grading.marrow_features import FEATURES
from modic.grading.network_output import joined
from modic.models.card import SHIPPED, model_id, read_card
from modic.records import LEVELS, LevelBox, LevelFeatures, LevelResult, StudyResult
from modic.run import ledger, rows
from modic.run.prepare import Run
from modic.run.regrade import regrade
from modic.run.shards import Grader, Work
from modic.tables.features import write_features
from modic.tables.store import enforce

WIDTH, SHARD = 2208, 32
GRADER = Grader(2, "c", "m", "0123456789ab")


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        work, size = make(root / "cohort", studies)
        measure(root, work, size)


def level_of(rng: np.random.Generator) -> LevelFeatures:
    logits = rng.normal(size=(6, 3)).astype(np.float32)
    ratio = {"t1": float(rng.uniform(0.7, 1.4)), "t2": float(rng.uniform(0.8, 1.5))}
    side = EndplateMarrow(ratio, ratio, {}, 0.4, 5.0, float(rng.uniform()), 28.0)
    features = rng.normal(size=WIDTH).astype(np.float16)
    numbers = MarrowMeasurements("L1/L2", side, side).numbers()
    return LevelFeatures(logits[0], logits[1:], features, rng.normal(scale=0.2, size=len(FEATURES)), numbers)


def make(root: Path, studies: int) -> tuple[list[Any], int]:
    """The cohort as a night leaves it: (work of the next one, bytes of the kept features)."""
    cohort, rng = create_cohort(root, archive=root.parent / "archive"), np.random.default_rng(0)
    card, run_id, work = read_card("classifier", "classifier")[0], cohort.new_run_id(), []
    models = {"normalization": "standardize", "detector_id": "0" * 12, "classifier_id": model_id(card), "device": "cpu"}
    for start in range(0, studies, SHARD):
        kept, shard = [], []
        for number in range(start, min(start + SHARD, studies)):
            levels = {level: level_of(rng) for level in LEVELS}
            item: Any = Work(f"s_{number:016x}", f"old{number}", pair=None, encoding=f"e{number}")  # type: ignore[arg-type]
            marrow = {level: MarrowMeasurements(level, *(EndplateMarrow({}, {}),) * 2).columns() for level in LEVELS}
            grades = grade_output(list(LEVELS), joined(list(levels.values())), calibration=calibration_of(card))
            results = tuple(
                LevelResult(g.level, "graded", None, LevelBox(g.level, (1.0, 2.0, 5.0, 6.0), 5, 0.9), None, 5,
                            (0.0, 1.0, 0.0), (0.0, 5.0, -9.0), g, marrow[g.level], endplate_columns(g.mc, None))
                for g in grades
            )  # fmt: skip
            kept.append((item.study_key, levels))
            shard.append(ledger.row(item, StudyResult(results, "ok", 0.97), GRADER, **models))
            work.append(Work(item.study_key, f"new{number}", pair=None, encoding=item.encoding))  # type: ignore[arg-type]
        write_features(cohort.features(run_id, f"{start // SHARD:05d}"), kept)
        ledger.write_output(cohort.shard(run_id, f"{start // SHARD:05d}"), shard)
    return work, sum(path.stat().st_size for path in cohort.features(run_id).iterdir())


def site_card(folder: Path) -> str:
    """A card with a last layer of its own."""
    folder.mkdir()
    (folder / "classifier.safetensors").write_bytes((SHIPPED / "classifier.safetensors").read_bytes())
    card = json.loads((SHIPPED / "classifier.json").read_text())
    weights = np.random.default_rng(1).normal(scale=0.01, size=(3, WIDTH)).tolist()
    card["calibration"]["site"] = {"shift": [0.0, 0.5, -0.5], "weights": weights}
    (folder / "classifier.json").write_text(json.dumps(card))
    return str(folder)


def measure(root: Path, work: list[Any], size: int) -> None:
    from modic.cohort import open_cohort

    cohort = open_cohort(root / "cohort")
    config = Config(classifier=site_card(root / "site"))
    run = Run(root, cohort, config, "cpu", cohort.new_run_id(), datetime.now(UTC), "0" * 12, "1" * 12, GRADER)
    began, cpu = time.perf_counter(), time.process_time()
    written, left = regrade(run, work, ledger.read_ledger(cohort))
    graded = time.perf_counter() - began
    assert not left and written
    again = ledger.read_ledger(cohort)
    last = ledger.latest(again)
    ours = again.take([last[item.study_key, item.fingerprint] for item in work])
    patients = {item.study_key: item.study_key.replace("s_", "p_") for item in work}
    levels = enforce("levels", rows.level_rows(ours, patients))
    pq.write_table(levels, root / "levels.parquet")
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    n = len(work)
    print(f"{n} studies; kept: {size / 6 / n:.0f} bytes a level, {size / n * 1e5 / 1e9:.1f} GB for 100,000 studies")
    print(f"graded again in {graded:.1f} s, with the table {seconds:.1f} s ({cpu:.1f} s CPU), one process")
    print(f"extrapolated to 100,000 studies: {seconds / n * 1e5 / 60:.1f} min ({cpu / n * 1e5 / 60:.1f} min CPU)")


if __name__ == "__main__":
    main()
