"""deployments/: what is shipped for Prefect, Dask clusters and compose is read, constructed and safe as it stands."""

import gc
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dask
import pytest
import yaml
from dask.utils import parse_timedelta
from distributed import Client
from distributed.security import Security

from flows import clusters, deploy
from modic.errors import ModicError, UsageError

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
CLUSTERS = DEPLOYMENTS / "clusters"


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_cluster_file_is_read_and_its_class_is_there(path: Path) -> None:
    spec = clusters.read_cluster(path)
    assert spec.workers > 0
    try:
        assert clusters.cluster_factory(spec.cluster_class) is not None
    except UsageError as error:
        assert "pip install 'modic[kubernetes]'" in str(error) and path.stem == "kubernetes"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_slurm_jobs_run_our_worker_under_tls(tmp_path: Path) -> None:
    """The job script that sbatch would be given; dask-jobqueue leaves its key files to the garbage collector."""
    spec = clusters.read_cluster(CLUSTERS / "slurm.yaml")
    options = {**spec.cluster_kwargs, "interface": "lo", "shared_temp_directory": str(tmp_path)}
    with clusters.cluster_factory(spec.cluster_class)(**options) as cluster:
        script = cluster.job_script()
        assert cluster.scheduler_address.startswith("tls://")
        assert not cluster.workers, "nothing is asked for before there is work"
        keys = re.findall(rf"{tmp_path}/\S+", script)
        assert len(keys) == 3 and all(Path(key).stat().st_mode & 0o077 == 0 for key in keys)
    assert "#SBATCH --mem=4G" in script and "--nthreads 1" in script and "--nanny" in script
    assert "export DASK_DISTRIBUTED__WORKER__PRELOAD=flows.dask_worker" in script
    hours, minutes, seconds = map(int, spec.cluster_kwargs["walltime"].split(":"))
    lifetime, stagger = re.findall(r"--lifetime(?:-stagger)? (\S+)", script)
    assert parse_timedelta(lifetime) + parse_timedelta(stagger) < 3600 * hours + 60 * minutes + seconds
    assert spec.cluster_kwargs["shared_temp_directory"] == os.environ["HOME"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("sbatch", "said"),
    [
        ("", "No such file or directory: 'sbatch'"),
        ("echo 'sbatch: error: invalid partition specified: nights' >&2; exit 1", "partition specified: nights"),
    ],
)
def test_a_queue_that_takes_no_job_is_an_error_and_no_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str, said: str
) -> None:
    if sbatch:
        (tmp_path / "sbatch").write_text(f"#!/bin/sh\n{sbatch}\n")
        (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + (":/usr/bin:/bin" if sbatch else ""))
    spec = clusters.read_cluster(CLUSTERS / "slurm.yaml")
    spec.cluster_kwargs.update(interface="lo", shared_temp_directory=str(tmp_path))
    assert re.search(f"SLURMCluster cannot submit a job here: .*{said}", refusal(spec))
    gc.collect()  # the key files


def refusal(spec: clusters.ClusterSpec) -> str:
    try:
        with clusters.connect(spec, shards=1):
            return "taken"
    except UsageError as error:
        return str(error)


def test_slurm_and_kubernetes_set_what_a_cluster_of_this_machine_has() -> None:
    slurm = clusters.read_cluster(CLUSTERS / "slurm.yaml").cluster_kwargs["job_script_prologue"]
    of_worker = dict(line.removeprefix("export ").split("=") for line in slurm)
    pods = resource()["spec"]
    assert environment(pods["worker"]) == of_worker
    assert clusters.ENVIRONMENT.items() <= of_worker.items()
    for name, value in dask.config.collect_env(environment(pods["scheduler"]) | of_worker)["distributed"].items():
        for key, one in flat(f"distributed.{name}", value):
            wanted = clusters.SETTINGS[key]
            assert wanted in (one, [one]), key
    scheduling = {key for key in clusters.SETTINGS if key.startswith("distributed.scheduler.")}
    given = flat("distributed", dask.config.collect_env(environment(pods["scheduler"]))["distributed"])
    assert scheduling <= {key for key, _ in given}


OF_WORKERS = """
import json
import os
import sys
from pathlib import Path

from flows import clusters


def look():
    begun_with = Path("/proc/self/environ").read_text().split("\\0")
    threads = [path.read_text().strip() for path in Path(f"/proc/{os.getppid()}/task").glob("*/comm")]
    return os.getppid(), begun_with, [name for name in ("torch", "torchvision") if name in sys.modules], threads


if __name__ == "__main__":
    with clusters.connect(clusters.ClusterSpec(cluster_kwargs={"n_workers": 2}), shards=2) as client:
        print(json.dumps([os.getpid(), *client.run(look).values()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_are_forked_of_a_process_that_keeps_freed_memory_and_has_imported_what_they_need(
    tmp_path: Path,
) -> None:
    """Dask's own 64 kB before trimming make a study twice as slow; and a thread of that process would not be forked."""
    (tmp_path / "look.py").write_text(OF_WORKERS)
    (tmp_path / "torch.py").write_text("raise SystemExit('the working folder')")
    environment = {name: value for name, value in os.environ.items() if name not in clusters.ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-P", "look.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env=environment | {"PYTHONPATH": str(DEPLOYMENTS.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    main, *of_workers = json.loads(done.stdout)
    assert len(of_workers) == 2
    (parent,) = {worker[0] for worker in of_workers}
    assert parent != main
    for _, begun_with, imported, threads in of_workers:
        assert {f"{name}={value}" for name, value in clusters.ENVIRONMENT.items()} <= set(begun_with)
        assert imported == ["torch", "torchvision"]
        assert len([name for name in threads if name != "jemalloc_bg_thd"]) == 1  # pyarrow's knows of forks


def test_a_worker_that_is_given_an_environment_of_its_own_begins_with_it() -> None:
    spec = clusters.ClusterSpec(cluster_kwargs={"preload": [], "n_workers": 1, "env": {"MODIC_TEST": "its own"}})
    assert not spec.forked
    with clusters.connect(spec, shards=1) as client:
        (of_worker,) = client.run(lambda: dict(os.environ)).values()
    assert clusters.ENVIRONMENT.items() | {"MODIC_TEST": "its own"}.items() <= of_worker.items()


def test_another_user_of_this_machine_cannot_use_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "visible_gpus", lambda: ["0"])
    specs = clusters.ClusterSpec(cluster_kwargs={"preload": []}), clusters.ClusterSpec("flows.clusters.gpu_workstation")
    for spec in specs:
        spec.cluster_kwargs["n_workers"] = 1
        with clusters.connect(spec, shards=1) as client:
            address = client.scheduler.address
            assert address.startswith("tls://127.0.0.1:") and client.submit(sum, (1, 2)).result() == 3
            for scheme in ("tcp", "tls"):  # without keys, and with keys of one's own
                keys = Security.temporary() if scheme == "tls" else None
                with pytest.raises(OSError):
                    Client(address.replace("tls", scheme), security=keys, timeout=2)


def resource() -> dict[str, Any]:
    """The DaskCluster that the operator is given."""
    spec = clusters.read_cluster(CLUSTERS / "kubernetes.yaml")
    custom: dict[str, Any] = spec.cluster_kwargs["custom_cluster_spec"]
    return custom


def container(part: dict[str, Any]) -> dict[str, Any]:
    (one,) = part["spec"]["containers"]
    return dict(one)


def environment(part: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container(part)["env"]}


def flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """`("a.b", 1)` of `{"a": {"b": 1}}`, with Dask's hyphens."""
    if not isinstance(value, dict):
        return [(name.replace("_", "-"), value)]
    return [pair for key, one in value.items() for pair in flat(f"{name}.{key}", one)]


def test_pods_are_nobody_and_only_read_the_archive() -> None:
    for part in (resource()["spec"]["worker"], resource()["spec"]["scheduler"]):
        assert part["spec"]["securityContext"]["runAsNonRoot"] and not part["spec"]["automountServiceAccountToken"]
        assert container(part)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    worker = resource()["spec"]["worker"]
    mounts = {one["name"]: one for one in container(worker)["volumeMounts"]}
    assert mounts["archive"]["readOnly"] and "readOnly" not in mounts["cohorts"]
    assert mounts.keys() == {one["name"] for one in worker["spec"]["volumes"]}


def test_the_kubernetes_resource_has_what_the_operator_itself_would_make() -> None:
    operator = pytest.importorskip("dask_kubernetes.operator")
    made = operator.make_cluster_spec("modic", image="modic:0.1.0", n_workers=1)
    ours = resource()
    assert ours["metadata"] == made["metadata"] and ours["kind"] == made["kind"]
    assert ours["apiVersion"] == made["apiVersion"] and ours["spec"].keys() == made["spec"].keys()
    assert ours["spec"]["scheduler"]["service"] == made["spec"]["scheduler"]["service"]
    theirs, mine = container(made["spec"]["scheduler"]), container(ours["spec"]["scheduler"])
    assert mine["ports"] == theirs["ports"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert mine[probe]["httpGet"] == theirs[probe]["httpGet"]
    assert container(ours["spec"]["worker"])["args"][2:4] == container(made["spec"]["worker"])["args"][1:3]


def compose() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text(encoding="utf-8"))
    return values


def test_compose_opens_nothing_but_loopback_and_gives_no_way_out() -> None:
    services = compose()["services"]
    ports = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert ports == {"server": ["127.0.0.1:4200:4200"]}
    assert compose()["networks"]["inside"]["internal"]
    assert all(one["networks"] == ["inside"] for name, one in services.items() if name != "server")
    for one in services.values():
        assert one["cap_drop"] == ["ALL"] and one["security_opt"] == ["no-new-privileges:true"]
        assert one["healthcheck"]["test"] and one["restart"] == "unless-stopped" and "privileged" not in one


def test_compose_bakes_no_password_and_writes_only_the_cohort() -> None:
    text = (DEPLOYMENTS / "compose.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", text))
    assert asked == {line.rstrip("=") for line in (DEPLOYMENTS / "compose.env").read_text().splitlines() if "=" in line}
    assert all(re.match(r"\$\{\w+:\?.+\}", one) for one in re.findall(r"\$\{[^}]*\}", text)), "each must be set"
    for name, value in all_environment():
        if re.search("PASSWORD|AUTH", name):
            assert value.startswith("${MODIC_"), name
    archive, cohort = compose()["services"]["worker"]["volumes"]
    assert archive.endswith(":ro") and "MODIC_ARCHIVE" in archive
    assert not cohort.endswith(":ro") and "MODIC_COHORT" in cohort
    ignored = (DEPLOYMENTS.parent / ".gitignore").read_text().splitlines()
    assert "/deployments/.env" in ignored
    assert "deployments/.env" in (DEPLOYMENTS / "Dockerfile.dockerignore").read_text()


def test_compose_makes_the_heartbeat_automation_once() -> None:
    command = compose()["services"]["worker"]["command"][-1]
    assert "\npython -P -m flows.notify deployments/heartbeat.yaml\n" in command, "replaces that of an earlier version"


def test_a_deployment_is_told_folders_that_a_worker_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them Prefect would deploy empty texts, and a worker works in another folder."""
    monkeypatch.setattr("prefect.cli.app", lambda: None)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODIC_COHORT", "s3://bucket/cohort")
    monkeypatch.delenv("MODIC_ARCHIVE", raising=False)
    with pytest.raises(SystemExit, match="MODIC_ARCHIVE is not set"):
        deploy.main([str(DEPLOYMENTS / "prefect.yaml")])
    own = tmp_path / "own.yaml"
    own.write_text("parameters: {archive: /archive, cohort: /cohort}")
    deploy.main([str(own)])
    monkeypatch.setenv("MODIC_ARCHIVE", "archive")
    deploy.main([str(DEPLOYMENTS / "prefect.yaml")])
    assert (os.environ["MODIC_ARCHIVE"], os.environ["MODIC_COHORT"]) == (f"{tmp_path}/archive", "s3://bucket/cohort")


def test_no_command_that_somebody_is_told_takes_a_package_of_the_working_folder_for_ours() -> None:
    folders = (DEPLOYMENTS, DEPLOYMENTS.parent / "flows")
    texts = {path: path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.[mpy]*")
             if "__pycache__" not in path.parts}  # fmt: skip
    told = {path: re.findall(r"python ([^`\n]*)-m\s+flows", text) for path, text in texts.items()}
    assert sum(map(len, told.values())) > 5
    assert not [path for path, options in told.items() if any(option != "-P " for option in options)]


def exported() -> dict[str, str]:
    """The variables that the guide's commands set."""
    guide = (DEPLOYMENTS / "README.md").read_text(encoding="utf-8")
    lines = [line.partition("  #")[0] for line in guide.splitlines() if line.startswith("export ")]
    return dict(word.split("=", 1) for line in lines for word in line.split()[1:])


def test_the_guides_commands_set_what_a_server_and_workers_of_ones_own_need() -> None:
    given = exported()
    server = dict(compose()["services"]["server"]["environment"]) | {"PREFECT_API_URL": given["PREFECT_API_URL"]}
    unit = (DEPLOYMENTS / "systemd" / "prefect-server.service").read_text(encoding="utf-8")
    of_prefect = {name: value for name, value in given.items() if name.startswith("PREFECT_")}
    assert of_prefect.keys() <= settings_of_prefect() and of_prefect.items() <= server.items()
    assert all(f"{name}={value}" in unit for name, value in of_prefect.items() if "_SERVER_" in name)
    assert of_prefect["PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"] == "true"
    assert clusters.ENVIRONMENT.items() <= given.items()
    assert given["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] == "0"


def all_environment() -> list[tuple[str, str]]:
    return [pair for one in compose()["services"].values() for pair in one.get("environment", {}).items()]


def test_compose_waits_for_what_each_service_needs() -> None:
    services = compose()["services"]
    needs = {name: one.get("depends_on", {}) for name, one in services.items()}
    healthy = {"condition": "service_healthy"}
    assert needs == {"postgres": {}, "server": {"postgres": healthy}, "worker": {"server": healthy}}
    assert services["postgres"]["volumes"] == ["postgres:/var/lib/postgresql/data"]
    assert services["server"]["environment"]["PREFECT_SERVER_DATABASE_HOST"] == "postgres"


def settings_of_prefect() -> set[str]:
    """Every environment variable that Prefect reads; it ignores a misspelt one in silence."""
    from prefect.settings.models.root import Settings

    known: set[str] = set()

    def collect(model: Any) -> None:
        for name, field in model.model_fields.items():
            prefix = model.model_config.get("env_prefix", "")
            known.add(f"{prefix}{name}".upper())
            aliases = getattr(field.validation_alias, "choices", [field.validation_alias])
            known.update(str(alias).upper() for alias in aliases if alias)
            if hasattr(field.annotation, "model_fields"):
                collect(field.annotation)

    collect(Settings)
    return known


def test_the_page_is_copied_to_where_the_images_user_may_write() -> None:
    """Else the server starts, is healthy, and answers 404 for every page."""
    server = compose()["services"]["server"]
    assert "user" not in server and "USER modic" in (DEPLOYMENTS / "Dockerfile").read_text(encoding="utf-8")
    assert server["environment"]["PREFECT_SERVER_UI_STATIC_DIRECTORY"].startswith("/tmp/")


def test_settings_of_prefect_that_compose_gives_exist() -> None:
    assert "PREFECT_API_URL" in settings_of_prefect() and "PREFECT_API_URI" not in settings_of_prefect()
    names = {name for name, _ in all_environment() if name.startswith("PREFECT_")}
    assert names and names <= settings_of_prefect()


def test_the_image_holds_what_pip_needs() -> None:
    text = (DEPLOYMENTS / "Dockerfile").read_text(encoding="utf-8")
    copied = {name for line in text.splitlines() if line.startswith("COPY") for name in line.split()[1:-1]}
    assert all((DEPLOYMENTS.parent / name).exists() for name in copied)
    assert {"pyproject.toml", "README.md", "LICENSE", "modic", "flows", "deployments"} <= copied
    assert text.index("USER modic") > text.index("RUN pip install") and "constraints.txt" in text


def test_the_nightly_deployment_runs_alone_and_takes_the_flows_own_parameters() -> None:
    from inspect import signature

    from flows.nightly import grade_cohort

    (nightly,) = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert nightly["entrypoint"] == "flows.nightly.grade_cohort"
    assert nightly["parameters"].keys() == signature(grade_cohort.fn).parameters.keys()
    assert nightly["schedules"] and nightly["work_pool"]["name"] == "modic"
    given = nightly["work_pool"]["job_variables"]["env"]
    assert given.keys() <= settings_of_prefect() | {"PYTHONSAFEPATH"}
    assert all(isinstance(value, str) for value in given.values())


@pytest.mark.parametrize("deaths, starts", [(0, 1), (2, 3), (3, 3)])
def test_a_worker_that_dies_while_the_cluster_starts_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch, deaths: int, starts: int
) -> None:
    begun = []

    def build(**options: object) -> str:
        begun.append(options)
        if len(begun) <= deaths:
            raise RuntimeError("Nanny failed to start.")
        return "cluster"

    monkeypatch.setattr(clusters, "cluster_factory", lambda name: build)
    spec = clusters.ClusterSpec(cluster_class="made.up", cluster_kwargs={"n_workers": 4})
    if deaths < 3:
        assert clusters.start_cluster(spec, 2) == "cluster"
    else:
        with pytest.raises(ModicError, match="does not start: Nanny"):
            clusters.start_cluster(spec, 2)
    assert begun == [{"n_workers": 2}] * starts


@pytest.mark.usefixtures("prefect_server")
def test_prefect_plans_the_nights_that_the_schedule_asks_for() -> None:
    """The scheduler of Prefect 3.8.8 fails under SQLAlchemy 2.1, in the server's log alone: no night would start."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
    from prefect.client.schemas.schedules import CronSchedule

    (nightly,) = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    (schedule,) = nightly["schedules"]
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            client.create_flow_from_name("grade-cohort"), name="nightly",
            schedules=[DeploymentScheduleCreate(schedule=CronSchedule(**schedule))],
        )  # fmt: skip
        client._client.post(f"/deployments/{deployment}/schedule", json={"min_runs": 3, "max_runs": 3})
        own = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
        planned = client.read_flow_runs(flow_run_filter=own)
    there = ZoneInfo(schedule["timezone"])
    at = sorted(run.expected_start_time.astimezone(there) for run in planned if run.expected_start_time)
    assert len(at) >= 3 and {(night.hour, night.minute) for night in at} == {(1, 0)}
    assert {(later - night).days for night, later in pairwise(at)} == {1}


@pytest.mark.usefixtures("prefect_server")
def test_deploy_takes_the_installed_package_wherever_it_is_run(tmp_path: Path, prefect_server: str) -> None:
    """Prefect itself would import, and so run, a package of that name in the working folder, now and each night."""
    import subprocess
    import sys

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    (tmp_path / "flows").mkdir()
    for name in ("__init__", "nightly"):
        (tmp_path / "flows" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    given = {"PREFECT_API_URL": prefect_server, "MODIC_ARCHIVE": "/archive", "MODIC_COHORT": "/data/cohort"}
    environment = os.environ | given | {"PYTHONPATH": str(DEPLOYMENTS.parent), "PREFECT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-P", "-m", "flows.deploy", str(DEPLOYMENTS / "prefect.yaml")]
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="modic", type="process"), overwrite=True)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        deployment = client.read_deployment_by_name("grade-cohort/nightly")
    assert not (tmp_path / "ran").exists()
    assert deployment.entrypoint == "flows.nightly.grade_cohort"
    assert deployment.parameters["archive"] == "/archive" and deployment.parameters["limit"] == 0
    (step,) = deployment.pull_steps or []
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "/"}}
