"""`modic grade` on a real Slurm of this machine: an undisturbed run, a killed run, a cancelled job, a lost controller.

    apt-get install slurmctld slurmd slurm-client munge
    python tests/benchmarks/slurm.py

Needs root and these Debian packages; it starts a controller, a node and a munge of its own in a temporary folder, on
loopback, and ends them. Studies are tiny and graded without networks (tests/support/fake_worker.py). Some four minutes.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import dicoms  # noqa: E402

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "munged")
PACKAGES = "slurmctld slurmd slurm-client munge"
STUDIES, LONGEST_S = 12, 240
CONFIGURATION = """\
ClusterName=modic
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=nights Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A controller, a node and a munge in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._running = folder, dict[str, subprocess.Popen]()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        values = {"folder": folder, "host": socket.gethostname().partition(".")[0], "controller": free_port(),
                  "node": free_port(), "cpus": os.cpu_count(), "memory": memory - 512}  # fmt: skip
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(ROOT)}
        files = {"socket": "socket", "seed-file": "seed", "pid-file": "pid", "log-file": "log", "key-file": "key"}
        words = [f"--{option}={folder}/munge.{name}" for option, name in files.items()]
        self.start("munged", "--foreground", "--force", *words)
        wait(lambda: (folder / "munge.socket").exists(), "munge")
        self.start("slurmctld", "-D")
        self.start("slurmd", "-D", "-N", values["host"])
        wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t"), "the node to be idle")

    def start(self, program: str, *words: str) -> None:
        """Start a program in the foreground."""
        with (self.folder / f"{program}.out").open("a") as out:
            self._running[program] = subprocess.Popen([program, *words], env=self.environment, stdout=out, stderr=out)

    def end(self, program: str) -> None:
        """Kill it."""
        process = self._running.pop(program)
        process.kill()
        process.wait()

    def end_all(self) -> None:
        """Cancel all jobs and kill what runs."""
        if "slurmctld" in self._running:
            self.ask("scancel", "--user", "root")
        for program in list(self._running):
            self.end(program)

    def ask(self, *words: str) -> str:
        """What a command of Slurm says."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Numbers of the jobs that wait or run."""
        return self.ask("squeue", "-h", "-o", "%i").split()


def main() -> None:
    """Run the trials; end with 1 where one fails, with 2 where something is missing."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        print(f"needs root, and {', '.join(missing) or 'nothing else'}: apt-get install {PACKAGES}", file=sys.stderr)
        sys.exit(2)
    with tempfile.TemporaryDirectory(prefix="modic-slurm-") as name:
        folder = Path(name)
        (folder / "slurm").mkdir()
        slurm = Slurm(folder / "slurm")
        print(slurm.ask("sinfo", "--version"), flush=True)
        try:
            trials(slurm, folder)
        finally:
            slurm.end_all()


def trials(slurm: Slurm, folder: Path) -> None:
    """Each on a cohort of its own, over one archive."""
    for number in range(STUDIES):
        dicoms.write(dicoms.study(patient=f"slow-{number}"), folder / "archive" / str(number))
    cluster = cluster_file(folder)
    with timed("undisturbed"), grading(slurm, folder, "undisturbed", cluster) as run:
        wait(slurm.jobs, "a job")
        expect(run, folder, "undisturbed")
    gone(slurm)
    with timed("the flow, and the scheduler in it, killed"):
        with grading(slurm, folder, "killed", cluster) as run:
            wait(lambda: shards(folder, "killed"), "a shard")
            run.kill()
            run.wait()
        gone(slurm)
        done = graded(folder, "killed")
        with grading(slurm, folder, "killed", cluster) as run:
            expect(run, folder, "killed")
        print(f"  {done} of {STUDIES} studies were graded before the kill, and not again", flush=True)
    gone(slurm)
    with timed("a job cancelled"), grading(slurm, folder, "cancelled", cluster) as run:
        wait(lambda: shards(folder, "cancelled"), "a shard")
        slurm.ask("scancel", slurm.jobs()[0])
        expect(run, folder, "cancelled")
    gone(slurm)
    with timed("the controller killed, and started after 10 s"), grading(slurm, folder, "controller", cluster) as run:
        wait(lambda: shards(folder, "controller"), "a shard")
        slurm.end("slurmctld")
        time.sleep(10)
        slurm.start("slurmctld", "-D")
        expect(run, folder, "controller")
    gone(slurm)


def cluster_file(folder: Path) -> Path:
    """deployments/clusters/slurm.yaml for one machine, with workers that grade without networks."""
    values = yaml.safe_load((ROOT / "deployments" / "clusters" / "slurm.yaml").read_text(encoding="utf-8"))
    options = values["cluster_kwargs"]
    fake = ROOT / "tests" / "support" / "fake_worker.py"
    options |= {"interface": "lo", "shared_temp_directory": str(folder), "log_directory": str(folder / "jobs"),
                "memory": "2GB", "walltime": "00:10:00", "worker_extra_args": []}  # fmt: skip
    preload = f'export DASK_DISTRIBUTED__WORKER__PRELOAD=\'["flows.dask_worker", "{fake}"]\''
    options["job_script_prologue"] = [
        line if "PRELOAD" not in line else preload for line in options["job_script_prologue"]
    ]
    options["job_script_prologue"].append(f"export PYTHONPATH={ROOT}:{ROOT / 'tests' / 'support'}")
    values["adapt_kwargs"] = {"minimum": 0, "maximum": 2}
    path = folder / "cluster.yaml"
    path.write_text(json.dumps(values))
    return path


@contextmanager
def grading(slurm: Slurm, folder: Path, cohort: str, cluster: Path) -> Iterator[subprocess.Popen]:
    """`modic grade` as a process, which is killed in the end where it still runs."""
    command = [sys.executable, "-m", "modic", "grade", str(folder / "archive"), "--out", str(folder / cohort)]
    environment = {k: v for k, v in slurm.environment.items() if not k.startswith("PREFECT")}
    with (folder / f"{cohort}.log").open("a") as log:
        run = subprocess.Popen(
            [*command, "--cluster", str(cluster)], env=environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield run
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()


def expect(run: subprocess.Popen, folder: Path, cohort: str) -> None:
    """The run ends with 0, and every study is graded once."""
    code = run.wait(timeout=LONGEST_S)
    rows = graded(folder, cohort)
    if code or rows != STUDIES:
        sys.exit(
            f"{cohort}: exit code {code}, {rows} rows of {STUDIES}\n{(folder / f'{cohort}.log').read_text()[-3000:]}"
        )


def shards(folder: Path, cohort: str) -> list[Path]:
    """The finished ones."""
    return list((folder / cohort).glob("runs/*/shards/*.parquet"))


def graded(folder: Path, cohort: str) -> int:
    """Rows of the ledger; more than there are studies if one was graded twice."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in shards(folder, cohort))


def gone(slurm: Slurm) -> None:
    """No job is left behind."""
    began = time.monotonic()
    wait(lambda: not slurm.jobs(), "the jobs to end")
    print(f"  jobs gone after {time.monotonic() - began:.0f} s", flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


def wait(until: Callable[[], object], what: str) -> None:
    """Until it is so; ends the program where that takes too long."""
    deadline = time.monotonic() + LONGEST_S
    while not until():
        if time.monotonic() > deadline:
            sys.exit(f"waited {LONGEST_S} s in vain for {what}")
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()
