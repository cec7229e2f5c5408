"""The chain of a study and of a shard, with the networks replaced; the stages themselves have their own tests."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dicoms import study, write
from fake_worker import MODEL, level
from modic import pipeline
from modic.archive.crawl import crawl
from modic.cohort import Cohort, create_cohort
from modic.config import Config, IdentifyOptions, PairOptions, RunOptions
from modic.errors import DeviceLost, ModicError, Reason, Rejected
from modic.files import write_table
from modic.models import weights
from modic.phantom.archive import write_archive
from modic.records import (
    LEVELS,
    Grade,
    LevelBox,
    LevelSet,
    Pair,
    Region,
    SeriesWarning,
    StudyResult,
    WarningKind,
)
from modic.run import isolate, ledger, shards, worker
from modic.run.shards import Grader, Job, Shard, Work
from modic.series.identify import identify
from modic.series.pair import pair

MODELS = weights.Models(MODEL, MODEL)  # type: ignore[arg-type]
GRADER = Grader(version=1, configuration="c0ffee123456", models="m0de15", id="0123456789ab")
SHARD = Shard("00000", 1)


def pairs_of(archive: Path) -> list[Pair]:
    """What the front end makes of an archive."""
    series = identify(crawl(archive, index=None).headers, options=IdentifyOptions())
    found = pair(series, options=PairOptions())
    return [one for one in found if isinstance(one, Pair)]


@pytest.fixture
def one_pair(tmp_path: Path) -> Pair:
    write(study(rows=64, columns=48, spacing=(2.0, 2.0)), tmp_path / "archive")
    return pairs_of(tmp_path / "archive")[0]


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    (tmp_path / "archive").mkdir(exist_ok=True)
    return create_cohort(tmp_path / "cohort", archive=tmp_path / "archive")


@pytest.fixture
def job(cohort: Cohort) -> Job:
    return Job(cohort, "run", "cpu", 5.0, GRADER)


def write_shard(job: Job, work: list[Work], config: Config) -> Shard:
    return shards.write_input(job, Shard("00000", len(work)), work, config)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that finds L4/L5, L5/S1 and a far too small L1/L2; a classifier that is sure of MC1."""
    boxes = tuple(
        LevelBox(name, box, 5, 0.9)
        for name, box in [("L1/L2", (20, 5, 22, 6)), ("L4/L5", (10, 30, 40, 40)), ("L5/S1", (10, 45, 40, 55))]
    )
    preprocessing = {"normalization": "standardize", "region_scale": 1.5, "region_size": 8, "slices": 5}
    monkeypatch.setitem(MODEL.card, "preprocessing", preprocessing)
    monkeypatch.setattr(pipeline, "find_levels", lambda t2, **_: LevelSet(boxes, "uncertain", 0.5))
    monkeypatch.setattr(pipeline, "encode_regions", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "grade_regions", lambda regions, **_: [sure(one) for one in regions])


def sure(region: Region) -> Grade:
    return Grade(region.level, (0.1, 0.8, 0.1), (1,), 1, False, ((0.1, 0.8, 0.1),) * 5)


@pytest.mark.usefixtures("networks")
def test_a_graded_study_has_six_levels_in_order_each_with_its_status(one_pair: Pair) -> None:
    result = pipeline.grade_study(one_pair, models=MODELS, config=Config())
    assert [one.level for one in result.levels] == list(LEVELS)
    assert [one.status for one in result.levels] == [
        "not_found",
        "unreadable",
        "not_found",
        "not_found",
        "graded",
        "graded",
    ]
    graded = result.levels[-1]
    assert graded.grade is not None and graded.grade.mc == 1
    assert graded.t1_box == pytest.approx((10, 45, 40, 55))
    assert graded.corner0_mm is not None and graded.corner0_mm[2] > graded.corner1_mm[2]  # type: ignore[index]
    assert list(result.seconds) == ["load", "levels", "regions", "normalize", "grade"]
    assert result.rejected is None and result.numbering == "uncertain"


@pytest.mark.usefixtures("networks")
def test_what_was_accepted_with_a_warning_is_said_of_its_contrast(one_pair: Pair) -> None:
    t2 = replace(one_pair.t2, warnings=(SeriesWarning(WarningKind.SLICE_SPACING_VARIES, "3.0%"),))
    warned = replace(one_pair, contrasts={**one_pair.contrasts, "t2": t2})
    result = pipeline.grade_study(warned, models=MODELS, config=Config())
    assert result.warnings == ("T2: slice spacing varies by 3.0%",)


@pytest.mark.usefixtures("networks")
def test_pictures_that_fail_leave_the_grades_and_a_warning(one_pair: Pair, tmp_path: Path) -> None:
    result = pipeline.grade_study(one_pair, models=MODELS, config=Config(), pictures=tmp_path / "s_1")
    without = pipeline.grade_study(one_pair, models=MODELS, config=Config())
    assert result.levels == without.levels and "pictures" not in without.seconds
    (warning,) = set(result.warnings) - set(without.warnings)
    assert warning.startswith("no pictures: AttributeError")  # these models have no network to explain
    assert not (tmp_path / "s_1").exists()


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_draws_its_studies_where_that_is_wanted(
    one_pair: Pair, job: Job, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    folders = []

    def draws(*_: Any, pictures: Path | None, **__: Any) -> StudyResult:
        folders.append(pictures)
        return StudyResult(tuple(map(level, LEVELS)), "ok", 0.9)

    monkeypatch.setattr(worker, "load_models", lambda *_: MODELS)
    monkeypatch.setattr(worker, "grade_study", draws)
    config = replace(Config(), run=RunOptions(pictures=wanted))
    write_shard(job, [Work("s_1", "print", one_pair)], config)
    worker.grade_shard(job, SHARD)
    assert folders == [job.cohort.root / "runs" / "run" / "cases" / "s_1" if wanted else None]
    assert config.grading_hash() == Config().grading_hash()


@pytest.mark.usefixtures("networks")
def test_a_file_that_vanished_since_the_crawl_fails_the_study_by_name(one_pair: Pair) -> None:
    Path(one_pair.t2.images[3].path).unlink()
    result = pipeline.grade_study(one_pair, models=MODELS, config=Config())
    assert result.rejected is not None
    assert result.rejected.reason is Reason.STUDY_FILES_CHANGED
    assert result.rejected.detail.startswith("T2")
    assert result.levels == ()


def test_no_level_found_excludes_the_study(one_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "find_levels", lambda t2, **_: LevelSet((), "uncertain", 0.0))
    result = pipeline.grade_study(one_pair, models=MODELS, config=Config())
    assert result.rejected == Rejected(Reason.STUDY_NO_LEVELS)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("Doe^John"), Reason.STUDY_INTERNAL_ERROR), (MemoryError("Doe^John"), Reason.STUDY_OUT_OF_MEMORY)],
)
def test_a_bug_is_a_failed_row_that_tells_no_value(
    one_pair: Pair, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: Reason
) -> None:
    def raising(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(pipeline, "find_levels", raising)
    result = worker.grade_or_fail(one_pair, models=MODELS, config=Config())
    assert result.rejected is not None and result.rejected.reason is reason
    assert type(error).__name__ in result.rejected.detail and "pipeline.py:" in result.rejected.detail
    assert "Doe" not in result.rejected.detail


def test_what_a_worker_reads_is_what_the_run_wrote(one_pair: Pair, job: Job) -> None:
    config = replace(Config(), identify=IdentifyOptions(min_slices=7))
    work = [Work("s_1", "print", one_pair)]
    assert write_shard(job, work, config) == SHARD
    assert shards.read_input(job, SHARD) == (work, config)


def test_a_shard_is_written_once_and_holds_nothing_identifying(
    one_pair: Pair, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "load_models", lambda *_: MODELS)
    monkeypatch.setattr(worker, "grade_study", lambda *_, **__: StudyResult(tuple(map(level, LEVELS)), "ok", 0.9))
    write_shard(job, [Work("s_1", "print", one_pair)], Config())
    path = Path(worker.grade_shard(job, SHARD))
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(worker, "grade_study", None)  # would raise
    assert worker.grade_shard(job, SHARD) == str(path)
    assert path.stat().st_mtime_ns == before
    row = pq.read_table(path, partitioning=None).to_pylist()[0]
    assert (row["status"], row["study_key"], len(row["levels"])) == ("graded", "s_1", 6)
    text = json.dumps(row, default=str)
    assert all(secret not in text for secret in (one_pair.patient_id, one_pair.study_uid, one_pair.t1.images[0].path))


def split(job: Job, one_pair: Pair, shard: Shard, at: int | None, trouble: Reason) -> list[tuple[Shard, list[str]]]:
    """Cut up a shard at study `at`; its parts and their studies."""
    work = [Work(f"s_{index}", f"print {index}", one_pair) for index in range(shard.studies)]
    shards.write_input(job, shard, work, Config())
    if at is not None:
        shards.note_position(job, shard, at)
    parts = isolate.isolate(job, shard, trouble)
    return [(part, [one.study_key for one in shards.read_input(job, part)[0]]) for part in parts]


def failures(job: Job) -> list[tuple[str, str]]:
    table = ledger.read_ledger(job.cohort)
    return list(zip(table["study_key"].to_pylist(), table["reason"].to_pylist(), strict=True))


def test_the_study_that_killed_a_worker_is_tried_alone_and_then_named(job: Job, one_pair: Pair) -> None:
    died = Reason.STUDY_WORKER_DIED
    (alone, culprit), (others, rest) = split(job, one_pair, Shard("00000", 4), 2, died)
    assert (culprit, rest) == (["s_2"], ["s_0", "s_1", "s_3"])
    assert (alone.isolated, others.isolated, others.studies) == (True, False, 3)
    assert alone.planned == others.planned == "00000" and alone.id != others.id
    assert failures(job) == []
    assert split(job, one_pair, alone, 0, died) == []
    assert failures(job) == [("s_0", "study.worker_died")]


def test_the_study_over_the_time_limit_is_named_at_once(job: Job, one_pair: Pair) -> None:
    ((_, rest),) = split(job, one_pair, Shard("00000", 3), 0, Reason.STUDY_TIME_LIMIT)
    assert rest == ["s_1", "s_2"]
    assert failures(job) == [("s_0", "study.time_limit")]


def test_a_shard_that_only_waited_on_a_worker_that_died_is_given_to_another(job: Job, one_pair: Pair) -> None:
    shard = Shard("00000", 2)
    for _ in range(5):
        assert split(job, one_pair, shard, None, Reason.STUDY_WORKER_DIED) == [(shard, ["s_0", "s_1"])]


def test_workers_that_die_before_any_study_end_the_run(job: Job, one_pair: Pair) -> None:
    shard = Shard("00000", 2, isolated=True)
    for attempt in (2, 3):
        ((shard, studies),) = split(job, one_pair, shard, shards.LOADING, Reason.STUDY_WORKER_DIED)
        assert (shard.attempt, shard.isolated, studies) == (attempt, True, ["s_0", "s_1"])
    with pytest.raises(ModicError, match="memory"):
        split(job, one_pair, shard, shards.LOADING, Reason.STUDY_WORKER_DIED)
    assert failures(job) == []


def test_only_the_last_word_on_a_study_counts_and_transient_failures_are_tried_again(job: Job, one_pair: Pair) -> None:
    work = [Work("s_1", "print", one_pair), Work("s_2", "print", one_pair)]
    died = StudyResult(rejected=Rejected(Reason.STUDY_WORKER_DIED))
    broken = StudyResult(rejected=Rejected(Reason.STUDY_PIXELS_UNREADABLE))
    ledger.write_output(
        job.cohort.shard("20260101", "00000"), [ledger.row(work[0], died, GRADER), ledger.row(work[1], broken, GRADER)]
    )
    assert ledger.finished(ledger.read_ledger(job.cohort)) == {("s_2", "print")}
    ledger.write_output(job.cohort.shard("20260102", "00000"), [ledger.row(work[0], StudyResult(), GRADER)])
    finished = ledger.read_ledger(job.cohort)
    assert ledger.finished(finished) == {("s_1", "print"), ("s_2", "print")}
    assert finished["run_id"].to_pylist()[ledger.latest(finished)["s_1", "print"]] == "20260102"


class OutOfMemoryOnce:
    """A network for which a GPU's memory does not suffice the first time that it is called (a classifier: encodes)."""

    def __init__(self, net: Any) -> None:
        self.net, self.calls = net, 0

    def __call__(self, images: Any) -> Any:
        self._run_out()
        return self.net(images)

    def encode(self, x: Any) -> Any:
        self._run_out()
        return self.net.encode(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def _run_out(self) -> None:
        self.calls += 1
        if self.calls == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB for Doe^John")


def test_a_study_for_which_the_gpu_has_no_memory_fails_alone(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in the detector, once in the classifier of the shipped weights; the third study is graded."""
    write_archive(tmp_path / "archive", patients=4, seed=3, broken=False)
    work = [Work(f"s_{index}", "print", one) for index, one in enumerate(pairs_of(tmp_path / "archive")[:3])]
    shipped = weights.load_models("detector", "classifier", "cpu")
    models = [replace(one, net=OutOfMemoryOnce(one.net)) for one in (shipped.detector, shipped.classifier)]
    monkeypatch.setattr(worker, "load_models", lambda *_: weights.Models(*models))
    write_shard(job, work, replace(Config(), run=RunOptions(pictures=False)))
    worker.grade_shard(job, SHARD)
    rows = ledger.read_ledger(job.cohort).to_pylist()
    assert [row["reason"] for row in rows] == ["study.out_of_memory"] * 2 + [None]
    assert [row["detail"].split(":")[0] for row in rows[:2]] == [
        "OutOfMemoryError in detect.py",
        "OutOfMemoryError in classify.py",
    ]
    assert [one["status"] for one in rows[2]["levels"]].count("graded") >= 5


@pytest.mark.parametrize("studies", [1, 3])
def test_a_worker_that_loses_its_gpu_says_so_and_writes_the_culprit_only_alone(
    one_pair: Pair, job: Job, monkeypatch: pytest.MonkeyPatch, studies: int
) -> None:
    def lose(*_: Any, **__: Any) -> StudyResult:
        lost.append(True)
        raise RuntimeError("CUDA error: device-side assert triggered")

    lost: list[bool] = []
    monkeypatch.setattr(worker, "load_models", lambda *_: MODELS)
    monkeypatch.setattr(worker, "grade_study", lose)
    monkeypatch.setattr(weights.Models, "usable", lambda _: not lost)
    work = [Work(f"s_{index}", "print", one_pair) for index in range(studies)]
    write_shard(job, work, Config())
    with pytest.raises(DeviceLost, match="study s_0"):
        worker.grade_shard(job, SHARD)
    assert len(lost) == 1
    assert ledger.read_ledger(job.cohort)["reason"].to_pylist() == ["study.internal_error"] * (studies == 1)


def test_shards_of_a_version_that_knew_fewer_columns_are_still_read(job: Job, one_pair: Pair) -> None:
    done = ledger.row(Work("s_1", "print", one_pair), StudyResult(tuple(map(level, LEVELS)), "ok", 0.9), GRADER)
    now = pa.Table.from_pylist([done], schema=ledger.SCHEMA)
    kept = [field for field in ledger.LEVEL_FIELDS if field.name != "slice_disagreement"]
    older = pa.schema([*list(ledger.SCHEMA)[:-1], ("levels", pa.list_(pa.struct(kept)))])
    path = job.cohort.shard("20260101", "00000")
    path.parent.mkdir(parents=True)
    write_table(pa.Table.from_pylist([done], schema=older), path)
    ledger.write_output(job.cohort.shard("20260102", "00000"), now.to_pylist())
    before, after = ledger.read_ledger(job.cohort)["levels"].to_pylist()
    assert {one.pop("slice_disagreement") for one in before} == {None}
    assert all(one.pop("slice_disagreement") == pytest.approx(0.3) for one in after)
    assert before == after
