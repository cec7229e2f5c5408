"""One shard in a worker: graded once, and what happens if a study fails, memory ends or the GPU is lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from fake_worker import level
from made_cohort import key
from made_studies import MODELS, SHARD, pairs_of, write_shard
from modic import pipeline
from modic.archive.sources import Opener
from modic.config import Config, RunOptions
from modic.errors import DeviceLost, Reason
from modic.models import weights
from modic.phantom.archive import write_archive
from modic.records import LEVELS, Pair, StudyResult
from modic.run import ledger, worker
from modic.run.read_ahead import Images
from modic.run.shards import LOADING, Job, Work, position


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
    write_shard(job, [Work(key("s", 1), "print", pair=one_pair)], config)
    worker.grade_shard(job, SHARD)
    assert folders == [job.cohort.root / "runs" / job.run_id / "cases" / key("s", 1) if wanted else None]
    assert config.grading_hash() == Config().grading_hash()


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


def test_a_shard_is_written_once_and_holds_nothing_identifying(
    one_pair: Pair, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "load_models", lambda *_: MODELS)
    monkeypatch.setattr(worker, "grade_study", lambda *_, **__: StudyResult(tuple(map(level, LEVELS)), "ok", 0.9))
    write_shard(job, [Work(key("s", 1), "print", pair=one_pair)], Config())
    path = Path(worker.grade_shard(job, SHARD))
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(worker, "grade_study", None)  # would raise
    assert worker.grade_shard(job, SHARD) == str(path)
    assert path.stat().st_mtime_ns == before
    row = pq.read_table(path, partitioning=None).to_pylist()[0]
    assert (row["status"], row["study_key"], len(row["levels"])) == ("graded", key("s", 1), 6)
    text = json.dumps(row, default=str)
    assert all(secret not in text for secret in (one_pair.patient_id, one_pair.study_uid, one_pair.t1.images[0].path))


def test_a_shard_is_at_a_study_before_it_waits_for_the_studys_images(
    one_pair: Pair, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that never comes, or takes the worker with it, is so laid to the study that it belongs to."""
    at = []

    @contextmanager
    def waiting(pairs: list[Pair], _: Opener) -> Iterator[Iterator[Images]]:
        yield (at.append(position(job, shard)) or Images(Opener()) for _ in pairs)

    monkeypatch.setattr(worker, "load_models", lambda *_: MODELS)
    monkeypatch.setattr(worker, "grade_study", lambda *_, **__: StudyResult(tuple(map(level, LEVELS)), "ok", 0.9))
    monkeypatch.setattr(worker, "read_ahead", waiting)
    shard = write_shard(job, [Work(key("s", number), "print", pair=one_pair) for number in (1, 2, 3)], Config())
    worker.grade_shard(job, shard)
    assert at == [0, 1, 2]


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
    work = [Work(key("s", index), "print", pair=one) for index, one in enumerate(pairs_of(tmp_path / "archive")[:3])]
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
    work = [Work(key("s", index), "print", pair=one_pair) for index in range(studies)]
    write_shard(job, work, Config())
    with pytest.raises(DeviceLost, match="study s_0000000000000000"):
        worker.grade_shard(job, SHARD)
    assert len(lost) == 1
    assert ledger.read_ledger(job.cohort)["reason"].to_pylist() == ["study.internal_error"] * (studies == 1)


@pytest.mark.parametrize("times", [1, 2])
def test_a_study_is_tried_again_once_if_the_gpu_had_no_memory(
    one_pair: Pair, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Workers share a GPU: what one lacks may be another's for a moment."""
    tried: list[str] = []

    def grade(*_: Any, **__: Any) -> StudyResult:
        tried.append("graded")
        if tried.count("graded") <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB for Doe^John")
        return StudyResult()

    monkeypatch.setattr(worker, "grade_study", grade)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: tried.append("freed"))
    on_gpu = replace(MODELS, detector=SimpleNamespace(device="cuda"))
    result = worker.grade_or_fail(one_pair, models=on_gpu, config=Config())
    assert tried == ["graded", "freed", "graded"]
    assert (result.rejected and result.rejected.reason) == (None if times == 1 else Reason.STUDY_OUT_OF_MEMORY)


def test_networks_that_the_gpu_does_not_take_end_the_worker_and_not_the_run(
    one_pair: Pair, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(worker, "working_device", lambda _: "cuda")
    monkeypatch.setattr(worker, "load_models", full)
    write_shard(job, [Work(key("s", 0), "print", pair=one_pair)], Config())
    with pytest.raises(DeviceLost, match="does not take the networks: OutOfMemoryError"):
        worker.grade_shard(job, SHARD)
    assert position(job, SHARD) == LOADING, "so that the whole shard is tried again"
