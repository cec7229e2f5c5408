"""A cluster file (YAML) → a Dask cluster and a client of it. The keys are the Dask task runner's own arguments.

    cluster_class: distributed.LocalCluster       # any importable class or function that returns a Dask cluster
    cluster_kwargs: {n_workers: 8, threads_per_worker: 1}
    adapt_kwargs: {minimum: 1, maximum: 8}        # optional: let the cluster grow and shrink
    address: tcp://scheduler:8786                 # instead of the above: a cluster that is already running

`~` at the start of a value is the user's home. Such a file can run programs: `preload`, `worker_class`, a job's
prologue. Write it yourself, or read it as you would read a program.

Whoever reaches a Dask scheduler can run code as its user, so clusters of this machine talk by TLS, with keys made for
the run and kept in memory; their status pages say that they are well and nothing else.

Without a file: this machine, one single-threaded process a core (fewer if memory or studies are few); if there are GPUs
and the device allows it, these processes share them. More threads a worker are slower, and every worker
imports torch, and MONAI if its card asks for it.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.gpus import fitting_workers, memory_share, visible_gpus
from modic.decode import decode
from modic.errors import ModicError, UsageError

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

TEMPLATE = "flows.worker_imports"
STARTS = 3  # of a cluster, before a run gives up
WORKER_BYTES = 2 * 2**30  # models, MONAI and two volumes, with room
STATUS_PAGE = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # of the scheduler; on a free port
LOOPBACK = {"host": "127.0.0.1", "scheduler_kwargs": STATUS_PAGE, "silence_logs": "CRITICAL"}
EXTRAS = {"dask_jobqueue": "slurm", "dask_kubernetes": "kubernetes"}  # package → what pip must be asked for
KEPT_BYTES = 2**30  # of freed memory that a worker keeps for its next study
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(KEPT_BYTES),  # Dask's own 64 kB cost more than the arithmetic of a study
    "MALLOC_MMAP_THRESHOLD_": str(KEPT_BYTES),
    "MALLOC_ARENA_MAX": "1",  # what one thread frees serves another
}
"""glibc's variables in a worker. Measured on phantoms, without and with them, in a worker: 1,340,000 and 3,300 page
faults a study, 5.1 and 0.06 s in the kernel on a busy machine."""
ENVIRONMENT = {
    **ALLOCATOR,
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "PYTHONSAFEPATH": "1",  # no module of the working folder
}
SETTINGS = {
    "distributed.scheduler.http.routes": ["distributed.http.health"],
    "distributed.worker.http.routes": ["distributed.http.health"],
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in ENVIRONMENT.items()},
    "distributed.scheduler.worker-saturation": 1.0,  # no shard waits on a worker that another shard may kill
    "distributed.scheduler.allowed-failures": 0,  # flows/tasks.py isolates the culprit
    "distributed.scheduler.work-stealing": False,
    "distributed.deploy.lost-worker-timeout": "10m",  # on a busy machine a worker takes more than 15 s to come back
    "distributed.worker.preload": ["flows.dask_worker"],
    "distributed.worker.profile.enabled": False,
    "distributed.comm.timeouts.connect": "120s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.admin.tick.limit": "1h",  # inference holds the worker's loop; not worth a warning
}


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """One cluster file."""

    cluster_class: str = "distributed.LocalCluster"
    cluster_kwargs: dict[str, Any] = field(default_factory=dict)
    adapt_kwargs: dict[str, Any] = field(default_factory=dict)
    address: str | None = None

    @property
    def forked(self) -> bool:
        """Whether workers are processes of this machine that all begin alike; then they are forked (`TEMPLATE`)."""
        here = not self.address and self.cluster_class == "distributed.LocalCluster" and sys.platform == "linux"
        return here and not self.cluster_kwargs.get("env")

    @property
    def workers(self) -> int:
        """How many workers to expect; decides only how finely the work is cut."""
        from dask.system import CPU_COUNT

        return int(self.adapt_kwargs.get("maximum") or self.cluster_kwargs.get("n_workers") or CPU_COUNT)


def read_cluster(path: Path | None, device: str = "auto", *, workers_per_gpu: int | None = None) -> ClusterSpec:
    """Read a cluster file; None gives this machine, with `device` (auto, cpu or cuda).

    `workers_per_gpu`: of this machine's GPUs; None: as many as fit (flows/gpus.py).

    Raises UsageError naming the file and the key if it cannot be read, or holds an unknown key or a wrong type.
    """
    import yaml

    if path is None:
        return _this_machine(device, workers_per_gpu)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cluster file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"cluster file {path} is not YAML: {' '.join(str(error).split())}") from error
    return _checked(values, str(path))


def _this_machine(device: str, workers_per_gpu: int | None) -> ClusterSpec:
    """Processes that share this machine's GPUs evenly, or else one for each core.

    Left to themselves they would all use the first GPU and its memory, and leave the others idle. Raises UsageError
    for `cuda` if there is no GPU.
    """
    from modic.models.device import resolve_device

    gpus = visible_gpus() if device != "cpu" else []
    if (gpus or device == "cuda") and resolve_device(device) == "cuda" and gpus:
        return ClusterSpec("flows.clusters.gpu_workstation", {"workers_per_gpu": workers_per_gpu})
    return ClusterSpec()


def _checked(values: Any, where: str) -> ClusterSpec:
    if not isinstance(values, dict):
        keys = ", ".join(sorted(key.name for key in fields(ClusterSpec)))
        raise UsageError(f"cluster file {where} must hold the keys {keys}")
    spec = decode(ClusterSpec, _at_home(values), where)
    for key, number in (("cluster_kwargs", "n_workers"), ("adapt_kwargs", "maximum")):
        value = getattr(spec, key).get(number, 1)
        if type(value) is not int or value < 1:
            raise UsageError(f"{where}: {key}: {number} must be a whole number above 0, not {value!r}")
    if spec.address is not None and len(values) > 1:
        raise UsageError(f"{where}: `address` names a running cluster; the other keys have no meaning beside it")
    return spec


def _at_home(value: Any) -> Any:
    """`value`, with the user's home for `~` in every text."""
    if isinstance(value, dict):
        return {key: _at_home(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return list(map(_at_home, value))
    return os.path.expanduser(value) if isinstance(value, str) else value  # noqa: PTH111  (not only paths)


@contextmanager
def connect(spec: ClusterSpec, *, shards: int) -> Iterator["Client"]:
    """Start the cluster, or find it at its address, with no more workers than shards; gives a client of it."""
    import dask
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # flows/tasks.py deals with lost workers
    with dask.config.set(SETTINGS | {"distributed.worker.multiprocessing-method": start_template(spec)}):
        if spec.address:
            with _client_of(spec.address) as client:
                yield client
            return
        with start_cluster(spec, shards) as cluster, Client(cluster) as client:
            yield client


def start_template(spec: ClusterSpec) -> str:
    """Start the process of which workers are forked, if any are; how Dask is to start workers.

    It imports what they need while others work. Where it has no place (a working folder that is gone, a TMPDIR too long
    for its socket), workers start by themselves.
    """
    method = describe_template(spec)
    try:
        if method == "forkserver":
            forkserver.ensure_running()
    except OSError:
        return "spawn"
    return method


def describe_template(spec: ClusterSpec) -> str:
    """Set what the process imports of which workers are forked, and their environment; how Dask is to start workers.

    There is one such process, so call this before the crawl, which may be the first that needs it.
    """
    if not spec.forked:
        return "spawn"
    os.environ |= ENVIRONMENT  # as a nanny of Dask does before it starts a worker
    forkserver.set_forkserver_preload([TEMPLATE])
    return "forkserver"


def _client_of(address: str) -> "Client":
    from distributed import Client

    try:
        return Client(address)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask cluster answers at {address}") from error


def restart_lost_workers(client: "Client") -> int:
    """Restart the workers of this machine whose nanny has given up; returns how many.

    Dask does not try again to start a worker that lacked time or memory, and the run would wait for it for ever.
    """
    from distributed import Nanny, Status

    cluster: Any = client.cluster
    specs = getattr(cluster, "worker_spec", {}).values()
    if not specs or any(spec["cls"] is not Nanny for spec in specs):
        return 0  # jobs of a queue, pods: whoever runs those restarts them

    async def scale() -> int:
        for name in [n for n, nanny in cluster.workers.items() if nanny.status in (Status.closed, Status.failed)]:
            del cluster.workers[name]
        missing = len(cluster.worker_spec.keys() - cluster.workers.keys())
        if missing:
            cluster.scale(len(cluster.worker_spec))
        return missing

    return int(cluster.sync(scale))


def start_cluster(spec: ClusterSpec, shards: int) -> Any:
    """Start the cluster of a file with no more workers than shards; `adapt_kwargs` let it grow and shrink."""
    from distributed.security import Security
    from distributed.system import MEMORY_LIMIT

    factory = cluster_factory(spec.cluster_class)
    options = dict(spec.cluster_kwargs)
    if spec.cluster_class == ClusterSpec().cluster_class:
        fitting = max(1, min(spec.workers, MEMORY_LIMIT // WORKER_BYTES))
        keys = {"security": Security.temporary()} if options.get("processes", True) else {}
        options = {"threads_per_worker": 1, "n_workers": fitting, **LOOPBACK, **keys, **options}
    if isinstance(options.get("n_workers"), int) or factory is gpu_workstation:
        options["n_workers"] = min(options.get("n_workers") or shards, shards)
    cluster = _create(factory, options)
    if hasattr(cluster, "job_cls"):
        _submit_first(cluster, spec.cluster_class)
    if spec.adapt_kwargs:
        cluster.adapt(**spec.adapt_kwargs)
    return cluster


def _create(factory: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The cluster. Dask closes it if one worker dies before it is up; then it is tried again."""
    trouble = ""
    for _ in range(STARTS):
        try:
            return factory(**options)
        except (RuntimeError, TypeError, ValueError) as error:
            origin: BaseException = error
            while origin.__cause__ is not None:
                origin = origin.__cause__
            if isinstance(origin, TypeError | ValueError):
                raise UsageError(f"cluster_kwargs: {origin}") from error
            trouble = str(origin)
    raise ModicError(f"the cluster does not start: {trouble}")


def _submit_first(cluster: Any, name: str) -> None:
    """Submit the first job to a queue now, while a refusal can be seen: later Dask would log it and wait for ever.

    Raises UsageError if there is no such queue here, or if it does not take the job.
    """
    from distributed import Status

    class Job(cluster.job_cls):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
            except Exception:
                self.status = Status.failed  # a cluster that holds one `created` cannot be closed
                raise

    cluster.new_spec["cls"] = Job
    if not cluster.worker_spec:
        cluster.worker_spec.update(cluster.new_worker_spec())
    try:
        cluster.sync(cluster._correct_state)
    except (OSError, RuntimeError, ValueError) as error:
        cluster.close()
        raise UsageError(f"{name} cannot submit a job here: {' '.join(str(error).split())}") from error


def cluster_factory(name: str) -> Callable[..., Any]:
    """What a file names to make the cluster: a class of Dask's, or `gpu_workstation`.

    Raises UsageError for any other name: a file must not run what it likes.
    """
    from distributed.deploy.cluster import Cluster

    module, _, attribute = name.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        extra = EXTRAS.get(module.partition(".")[0])
        cure = f"; pip install 'modic[{extra}]'" if extra and isinstance(error, ImportError) else ""
        raise UsageError(f"cluster_class {name} cannot be imported: {error}{cure}") from error
    if not (factory is gpu_workstation or (isinstance(factory, type) and issubclass(factory, Cluster))):
        raise UsageError(f"cluster_class {name} is no cluster of Dask")
    return factory


def gpu_workstation(*, workers_per_gpu: int | None = None, n_workers: int | None = None) -> "SpecCluster":
    """Workers for each GPU of this machine, each seeing its own only (`CUDA_VISIBLE_DEVICES`).

    `workers_per_gpu`: None: as many as cores and memory allow (flows/gpus.py), since most of a study is work of a
    core. Each grades one study at a time, so that a study's fault stays its own.
    Workers of one GPU share its memory evenly, so that a study that needs too much costs the other worker nothing.
    Raises UsageError if no GPU is visible.
    """
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.security import Security
    from distributed.system import MEMORY_LIMIT

    visible = visible_gpus()
    if not visible:
        raise UsageError("no GPU is visible here; use another --cluster file")
    workers_per_gpu = workers_per_gpu or fitting_workers(visible)
    gpus = [gpu for _ in range(workers_per_gpu) for gpu in visible][:n_workers]  # in turn: few serve all GPUs
    shares = {gpu: memory_share(gpu, gpus.count(gpu)) for gpu in set(gpus)}
    keys = Security.temporary()
    common = {"host": "127.0.0.1", "protocol": "tls://", "security": keys}
    options = {"nthreads": 1, "memory_limit": MEMORY_LIMIT // len(gpus), **common}
    workers = {
        f"gpu-{index}": {
            "cls": Nanny,
            "options": {**options, "env": {"CUDA_VISIBLE_DEVICES": gpu, **shares[gpu]}},
        }
        for index, gpu in enumerate(gpus)
    }
    scheduler = {"cls": Scheduler, "options": {**common, **STATUS_PAGE}}
    return SpecCluster(workers=workers, scheduler=scheduler, security=keys, silence_logs="CRITICAL")
