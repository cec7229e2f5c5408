"""Whole runs: the flow in this process, Dask workers in theirs, only the networks replaced
(tests/support/fake_worker.py)."""

import json
import re
import shutil
import time
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from distributed import Client

import fake_worker
from dicoms import series as one_series
from dicoms import study, t1, write
from flows import clusters
from flows import gpus as gpus_of_machine
from modic.cohort import create_cohort, open_cohort
from modic.errors import UsageError
from modic.run import ledger, survey
from modic.tables.store import read_table

FAKE_WORKER = Path(fake_worker.__file__)
pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two studies to grade, one without a T2, one stray file."""
    folder = tmp_path / "archive"
    write(study(patient="ann"), folder / "a")
    write(study(patient="bob"), folder / "b")
    write(one_series(t1(), name="t1", patient="cid"), folder / "c")
    (folder / "notes.txt").write_text("not DICOM")
    return folder


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    """A cluster file of workers that grade without networks."""
    path = tmp_path / "cluster.yaml"
    path.write_text(
        json.dumps({"cluster_kwargs": {"n_workers": 2, "preload": ["flows.dask_worker", str(FAKE_WORKER)]}})
    )
    return str(path)


def run(archive: Path, cohort: Path, cluster: str = "", config: str = "") -> dict[str, Any]:
    """One run of the flow."""
    from flows.nightly import grade_cohort

    return grade_cohort(str(archive), str(cohort), config=config, cluster=cluster)


def statuses(cohort: Path) -> list[tuple[str, str | None]]:
    table = read_table(cohort, "studies")
    return sorted(zip(table["status"].to_pylist(), table["reason"].to_pylist(), strict=True), key=str)


def test_nights_over_an_archive_that_changes(
    tmp_path: Path, archive: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = tmp_path / "cohort"
    first = run(archive, cohort, cluster)
    assert (first["graded_now"], first["failed"]) == (2, [])
    assert statuses(cohort) == [("excluded", "study.no_sagittal_t2"), ("graded", None), ("graded", None)]
    assert len(read_table(cohort, "levels")) == 12
    tables = {name: read_table(cohort, name) for name in ("studies", "series", "levels")}

    with monkeypatch.context() as patched:
        patched.setattr("flows.clusters.connect", None)  # nothing to grade starts no worker
        second = run(archive, cohort, cluster)
    assert second["graded_now"] == 0
    assert {name: read_table(cohort, name) for name in tables} == tables, "same input, same rows"
    runs = read_table(cohort, "runs").to_pylist()
    assert [one["run_id"] for one in runs] == sorted([first["run_id"], second["run_id"]])
    assert (runs[1]["files_read"], runs[1]["files_unchanged"], runs[1]["files_rejected"]) == (0, 55, 1)

    write(study(patient="dan"), archive / "d")
    shutil.rmtree(archive / "a")
    third = run(archive, cohort, cluster)
    assert third["graded_now"] == 1
    studies = read_table(cohort, "studies").to_pylist()
    assert [one["in_archive"] for one in studies].count(False) == 1
    assert len(studies) == 4 and len(read_table(cohort, "levels")) == 18
    by_run = {one["run_id"] for one in read_table(cohort, "levels").to_pylist()}
    assert by_run == {first["run_id"], third["run_id"]}


def test_a_study_that_kills_hangs_or_breaks_costs_only_itself(tmp_path: Path, cluster: str) -> None:
    archive, cohort, config = tmp_path / "archive", tmp_path / "cohort", tmp_path / "cohort.toml"
    culprits = ("kill-4711", "hang-4712", "bug-4713", "segv-4714", "freeze-4715", "eat-4716", "lose-4717")
    for patient in ("ann", *culprits, "bob", "last"):
        write(study(patient=patient), archive / patient)
    config.write_text("[run]\nshard_size = 3\nstudy_time_limit_s = 20.0\nstudy_memory_limit_mb = 300\n")
    summary = run(archive, cohort, cluster, str(config))
    assert len(summary["failed"]) == len(culprits)
    assert statuses(cohort) == [
        ("failed", "study.internal_error"),
        ("failed", "study.internal_error"),
        ("failed", "study.out_of_memory"),
        ("failed", "study.time_limit"),
        ("failed", "study.time_limit"),
        ("failed", "study.worker_died"),
        ("failed", "study.worker_died"),
        *[("graded", None)] * 3,
    ]
    graded = ledger.read_ledger(open_cohort(cohort)).filter(pc.field("status") == "graded")["study_key"]
    assert len(graded) == len(graded.unique()) == 3, "the last shard was written before its worker died"
    assert_nothing_identifying(cohort, [*culprits, str(archive)])


def assert_nothing_identifying(cohort: Path, secrets: list[str]) -> None:
    for path in [*cohort.glob("runs/**/*"), *cohort.glob(".tables/**/*")]:
        if path.suffix == ".parquet":
            text = str(pq.read_table(path, partitioning=None).to_pylist())
        else:
            text = path.read_text() if path.is_file() else ""
        assert all(secret not in text for secret in secrets), path


def test_prefect_shows_the_run_and_no_patient(tmp_path: Path, archive: Path, cluster: str) -> None:
    summary = run(archive, tmp_path / "cohort", cluster)
    records = prefect_records(archive.name)
    names = [one["name"] for one in records["task_runs"]]
    assert set(names) == {"find-studies", "cut-shards", "shard 00000", "shard 00001", "publish", "report", "summary"}
    assert all(one["state_name"] == "Completed" for one in records["task_runs"])
    artifacts = {one["key"]: one["data"] for one in records["artifacts"]}
    assert artifacts["studies-cohort"] == 100.0
    shown = artifacts["summary-cohort"]
    assert summary["run_id"] in shown and "| graded | 2 |" in shown and "study.no_sagittal_t2" in shown
    report = tmp_path / "cohort" / "runs" / summary["run_id"] / "report.html"
    assert report.is_file() and f"({report.as_uri()})" in shown
    assert all(part in shown for part in ("studies an hour", "files a second", "| levels |", "report.html"))
    assert json.loads(artifacts["to-look-at-cohort"]) == []
    assert_studies_are_logged(records, read_table(tmp_path / "cohort", "studies").to_pylist())
    log = open_cohort(tmp_path / "cohort").log(summary["run_id"]).read_text()
    assert re.search(r" INFO 2 studies to grade: 2 new; no run has .*\n", log) and summary["line"] in log
    assert log.count("6 levels graded, 0 of them abstained") == 2
    text = json.dumps(records) + log
    found = read_table(tmp_path / "cohort", "studies")
    assert len(found) == 3
    assert all(secret not in text for secret in ("ann", "bob", "1.2.826.0.1"))


def assert_studies_are_logged(records: dict[str, list[dict[str, Any]]], studies: list[dict[str, Any]]) -> None:
    """Each graded study once, by its worker, in the log of its shard's task run."""
    name_of = {one["id"]: one["name"] for one in records["task_runs"]}
    lines = [one for one in records["logs"] if one["name"] == "modic.run.worker"]
    graded = {one["study_key"] for one in studies if one["status"] == "graded"}
    assert {line["message"].split()[3].rstrip(":") for line in lines} == graded and len(lines) == len(graded) == 2
    for line in lines:
        assert name_of[line["task_run_id"]] == line["message"].split(",")[0]
        assert "6 levels graded, 0 of them abstained" in line["message"]
    (found,) = [one for one in records["logs"] if "with a pair to grade" in one["message"]]
    assert name_of[found["task_run_id"]] == "find-studies"


def prefect_records(archive: str) -> dict[str, list[dict[str, Any]]]:
    """Everything that Prefect keeps of the last flow run over a folder of this name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.instance().drain()
    EventsWorker.drain_all(timeout=10)
    with get_client(sync_client=True) as client:
        named = FlowRunFilter(name=FlowRunFilterName(like_=f"{archive} 20"))  # others may be scheduled by other tests
        flow_run = client.read_flow_runs(flow_run_filter=named, sort=FlowRunSort.START_TIME_DESC)[0]
        of_run = {"flow_runs": {"id": {"any_": [str(flow_run.id)]}}}
        for _ in range(50):  # the server writes task runs a moment later
            task_runs = client.request("POST", "/task_runs/filter", json=of_run).json()
            if task_runs and all(one["state_type"] == "COMPLETED" for one in task_runs):
                break
            time.sleep(0.2)
        artifacts = client.request("POST", "/artifacts/filter", json=of_run).json()
        logs = client.request("POST", "/logs/filter", json=_logs_of(flow_run.id)).json()
    return {"task_runs": task_runs, "artifacts": artifacts, "logs": logs}


def _logs_of(flow_run: UUID) -> dict[str, Any]:
    return {"logs": {"flow_run_id": {"any_": [str(flow_run)]}}}


def test_a_step_that_breaks_tells_prefect_no_value(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modic.errors import ModicError

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("Doe^John in /archive/Doe")

    monkeypatch.setattr(survey, "identify", broken)
    with pytest.raises(ModicError, match=r"find_studies: ValueError in survey.py:\d+") as error:
        run(archive, tmp_path / "cohort")
    assert "Doe" not in str(error.value)
    assert "Doe^John" in (tmp_path / "cohort" / "private" / "last_error.txt").read_text()


def test_an_archive_without_dicom_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match="no DICOM"):
        run(tmp_path / "archive", tmp_path / "cohort")


def test_a_second_run_on_one_cohort_is_refused(tmp_path: Path, archive: Path) -> None:
    cohort = create_cohort(tmp_path / "cohort", archive=archive)
    with cohort.lock(), pytest.raises(UsageError, match="another run"):
        run(archive, cohort.root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_workers: 3", "unknown key `n_workers`"),
        ("cluster_kwargs: 3", "cluster_kwargs must be dict"),
        ("- a", "must hold the keys"),
        ("a: [", "is not YAML"),
        ("cluster_kwargs: {n_workers: 0}", "n_workers must be a whole number above 0, not 0"),  # waited for ever
        ("adapt_kwargs: {maximum: many}", "maximum must be a whole number above 0, not 'many'"),
        ("cluster_class: !!python/object/apply:os.system ['touch owned']", "is not YAML"),
        ("address: tcp://x:1\nadapt_kwargs: {maximum: 2}", "`address` names a running cluster"),
    ],
)
def test_a_bad_cluster_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        clusters.read_cluster(tmp_path / "c.yaml")
    assert "c.yaml" in str(error.value)


def test_a_cluster_class_that_cannot_be_imported_is_a_usage_error() -> None:
    spec = clusters.ClusterSpec(cluster_class="flows.clusters.no_such_thing")
    with pytest.raises(UsageError, match="no_such_thing"), clusters.connect(spec, shards=1):
        pass


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "builtins.print"])
def test_nothing_but_a_cluster_is_called_for_a_cluster_file(name: str) -> None:
    spec = clusters.ClusterSpec(cluster_class=name, cluster_kwargs={"args": ["touch", "owned"]})
    with pytest.raises(UsageError, match=f"{name} is no cluster"), clusters.connect(spec, shards=1):
        pass


def test_arguments_that_no_cluster_knows_are_a_usage_error() -> None:
    spec = clusters.ClusterSpec(cluster_kwargs={"n_wrokers": 2})
    with pytest.raises(UsageError, match="n_wrokers"), clusters.connect(spec, shards=1):
        pass


def test_an_address_where_nothing_answers_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clusters.SETTINGS, "distributed.comm.timeouts.connect", "1s")
    with (
        pytest.raises(UsageError, match=r"answers at tcp://127\.0\.0\.1:1$"),
        clusters.connect(clusters.ClusterSpec(address="tcp://127.0.0.1:1"), shards=1),
    ):
        pass


def test_workers_whose_nanny_has_given_up_are_started_anew() -> None:
    spec = clusters.ClusterSpec(cluster_kwargs={"n_workers": 2, "preload": ["flows.dask_worker", str(FAKE_WORKER)]})
    with clusters.connect(spec, shards=2) as client:
        assert clusters.restart_lost_workers(client) == 0
        for nanny in client.cluster.workers.values():
            client.cluster.sync(nanny.close)
        assert clusters.restart_lost_workers(client) == 2
        assert client.submit(lambda: 7).result(timeout=240) == 7
    assert clusters.restart_lost_workers(SimpleNamespace(cluster=None)) == 0


@pytest.mark.parametrize(
    ("gpus", "device", "works", "builds"),
    [
        ("GPU-a,GPU-b", "auto", True, "flows.clusters.gpu_workstation"),
        ("GPU-a,GPU-b", "cpu", True, "distributed.LocalCluster"),
        ("GPU-a,GPU-b", "auto", False, "distributed.LocalCluster"),  # a PyTorch without CUDA
        ("", "auto", True, "distributed.LocalCluster"),
    ],
)
def test_without_a_cluster_file_this_machines_gpus_are_used(
    monkeypatch: pytest.MonkeyPatch, gpus: str, device: str, works: bool, builds: str
) -> None:
    """16 processes on one GPU, and none on the others, is what a process a core gave."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr("torch.cuda.is_available", lambda: works)
    assert clusters.read_cluster(None, device).cluster_class == builds


def test_a_gpu_that_is_asked_for_and_not_there_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA GPU is visible"):
        clusters.read_cluster(None, "cuda")


@pytest.mark.parametrize(
    ("gpus", "cores", "memory_gb", "gpu_gb", "workers"),
    [
        (["a"], 16, 128, 139, 16),  # one a core
        (["a", "b"], 16, 128, 80, 8),
        (["a"], 16, 12, 80, 4),  # the machine's memory
        (["a"], 16, 128, 24, 6),  # the GPU's
        (["a", "b"], 1, 128, 80, 1),
        (["a"], 16, 128, 0, 1),  # nvidia-smi does not know it
    ],
)
def test_gpus_get_as_many_workers_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, gpus: list[str], cores: int, memory_gb: int, gpu_gb: int, workers: int
) -> None:
    monkeypatch.setattr(gpus_of_machine, "cores", lambda: cores)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", memory_gb * 2**30)
    monkeypatch.setattr(gpus_of_machine, "_nvidia_smi", lambda *_: [str(gpu_gb * 1024)] if gpu_gb else [])
    assert gpus_of_machine.fitting_workers(gpus) == workers


TWO = """GPU 0: NVIDIA H200 (UUID: GPU-aaaa)
  MIG 3g.71gb     Device  0: (UUID: MIG-1111)
  MIG 1g.18gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb)"""


def smi(*asked: str) -> list[str]:
    """What nvidia-smi says of two GPUs, of which one is divided; it knows no parts by their id."""
    if asked == ("-L",):
        return TWO.splitlines()
    known = asked[0] in ("--id=GPU-aaaa", "--id=GPU-bbbb", "--id=1")
    return {"--query-gpu=memory.total": ["143771"], "--query-gpu=compute_mode": ["Default"]}[asked[1]] if known else []


def test_a_divided_gpu_is_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is given the whole of a divided GPU sees its first part only."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus_of_machine, "_nvidia_smi", smi)
    assert gpus_of_machine.visible_gpus() == ["MIG-1111", "MIG-2222", "GPU-bbbb"]
    assert [gpus_of_machine.gpu_bytes(gpu) for gpu in ("MIG-1111", "MIG-2222", "GPU-bbbb", "1", "MIG-3333")] == [
        71 * 2**30, 18 * 2**30, 143771 * 2**20, 143771 * 2**20, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [("0,1", ["0", "1"]), ("GPU-a, MIG-b", ["GPU-a", "MIG-b"]), ("", []), ("-1", []), ("1,-1,0", ["1"])],
)
def test_visible_devices_are_read_as_cuda_reads_them(
    monkeypatch: pytest.MonkeyPatch, asked: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert gpus_of_machine.visible_gpus() == gpus


def test_gpus_are_found_without_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container with a driver and nothing else: as many processes as cores would all use the first one, unlimited."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus_of_machine, "_nvidia_smi", lambda *_: [])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "torch.cuda.get_device_properties", lambda index: SimpleNamespace(total_memory=(80 - index) * 2**30)
    )
    monkeypatch.setattr(gpus_of_machine, "DRIVER", tmp_path / "absent")
    assert gpus_of_machine.visible_gpus() == []
    monkeypatch.setattr(gpus_of_machine, "DRIVER", tmp_path)
    assert gpus_of_machine.visible_gpus() == ["0", "1"]
    assert gpus_of_machine.gpu_bytes("1") == 79 * 2**30


def test_a_gpu_for_one_process_only_gets_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus_of_machine, "cores", lambda: 16)
    answers = {"--query-gpu=memory.total": ["143771"], "--query-gpu=compute_mode": ["Exclusive_Process"]}
    monkeypatch.setattr(gpus_of_machine, "_nvidia_smi", lambda *asked: answers[asked[1]])
    assert gpus_of_machine.fitting_workers(["GPU-a"]) == 1


def test_workers_are_forked_of_a_process_that_has_not_touched_cuda() -> None:
    """CUDA would not work in them: `torch.cuda.is_available()` before a fork is enough."""
    forkserver._forkserver._stop()  # another test's, which imports nothing beforehand
    with clusters.connect(clusters.ClusterSpec(cluster_kwargs={"n_workers": 1}), shards=1) as client:
        method, ready, spoiled, initialized = client.submit(_of_cuda).result(timeout=240)
    assert method == "forkserver"
    assert (ready, spoiled, initialized) == (True, False, False)


def _of_cuda() -> tuple[str, bool, bool, bool]:
    """How this worker was started; whether torch was there already, and whether CUDA was touched before."""
    import sys

    import dask

    ready = "torch" in sys.modules
    import torch

    spoiled = getattr(torch._C, "_cuda_isInBadFork", lambda: False)()
    method = dask.config.get("distributed.worker.multiprocessing-method", "")
    return method, ready, bool(spoiled), torch.cuda.is_initialized()


def test_each_gpu_gets_a_worker_that_sees_only_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    with clusters.gpu_workstation(workers_per_gpu=1) as cluster, Client(cluster) as client:
        client.wait_for_workers(2, timeout=240)
        seen = client.run(lambda: __import__("os").environ["CUDA_VISIBLE_DEVICES"])
    assert sorted(seen.values()) == ["GPU-a", "GPU-b"]
    monkeypatch.setattr(gpus_of_machine, "_nvidia_smi", lambda *_: ["40960"])
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 9 * 2**30)
    with clusters.gpu_workstation(workers_per_gpu=2, n_workers=3) as cluster, Client(cluster) as client:
        client.wait_for_workers(3, timeout=240)
        names = ("CUDA_VISIBLE_DEVICES", "PYTORCH_ALLOC_CONF")
        seen = client.run(lambda: [__import__("os").environ.get(name) for name in names])
        limits = {worker["memory_limit"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()}
    # 0.45 of 40 GB, less the 1 GB that CUDA takes in each process
    shared = ["GPU-a", "per_process_memory_fraction:0.425"]
    assert sorted(seen.values(), key=str) == [shared, shared, ["GPU-b", None]]
    assert limits == {3 * 2**30}, "of the machine's memory: Dask would end a worker for its share of all cores"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UsageError, match="no GPU"):
        clusters.gpu_workstation()
