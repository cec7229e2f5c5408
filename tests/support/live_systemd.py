"""A systemd that runs as process 1 of namespaces of its own, over an overlay of this machine's root in memory.

Nothing of it reaches this machine but a shared folder, `/data` there. It needs root, Linux with overlay and cgroup 2,
and the packages systemd, util-linux and iproute2; `live_systemd` skips the test where something is missing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
PROGRAMS = ("unshare", "nsenter", "ip", "systemctl")
NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup")
USER, UID = "modic", 64_321
STARTED_S = 20
SCRIPT = """\
set -eu
echo $$ > {group}/cgroup.procs
exec unshare --fork --kill-child {namespaces} --propagation private sh -euc '
mount -t tmpfs -o mode=755 none {base}
mkdir {base}/upper {base}/work {base}/root
root={base}/root
mount -t overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work none $root
mount -t proc none $root/proc
mount -t sysfs -o ro none $root/sys
mount -t cgroup2 none $root/sys/fs/cgroup
mount -t tmpfs -o mode=755 none $root/run
mount -t tmpfs -o mode=1777 none $root/tmp
mount --rbind /dev $root/dev
for wants in sysinit sockets timers; do mount -t tmpfs none $root/lib/systemd/system/$wants.target.wants; done
mkdir -p $root/data
mount --bind {shared} $root/data
mount -t tmpfs -o mode=755 none $root/etc/systemd/system
cp -r {shared}/etc/. $root/etc
chmod 755 $root/root
rm -rf $root/opt/modic
mkdir -p $root/opt/modic
ln -s {prefix} $root/opt/modic/.venv
ln -s {repository}/deployments $root/opt/modic/deployments
echo {user}:x:{uid}:{uid}::/home/{user}:/bin/sh >> $root/etc/passwd
echo {user}:x:{uid}: >> $root/etc/group
mkdir -p $root/home/{user}
chown {uid}:{uid} $root/home/{user}
ip link set lo up
cd $root
exec chroot . env -i container=modic PATH=$PATH {systemd} --unit=basic.target --show-status=no
'
"""


class Machine:
    """A running systemd; `shared` is `/data` there."""

    def __init__(self, pid: int, shared: Path) -> None:
        self._pid, self.shared = pid, shared

    def enter(self, *words: str, net_only: bool = False) -> list[str]:
        """The command line that runs a command there; `net_only`: with the files of here, but the network of there."""
        which = ("--net",) if net_only else (*NAMESPACES, "--root", "--wd")
        return ["nsenter", "--target", str(self._pid), *which, *words]

    def do(self, *words: str, check: bool = True) -> str:
        """What a command there prints."""
        done = subprocess.run(self.enter(*words), capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}{self.log()}"
        return done.stdout.strip()

    def answers(self, *words: str) -> bool:
        """Whether a command there ends well."""
        return subprocess.run(self.enter(*words), capture_output=True, timeout=120, check=False).returncode == 0

    def as_user(self, environment: Mapping[str, str], *words: str) -> str:
        """What a command there prints that the units' user gives."""
        given = [f"{name}={value}" for name, value in environment.items()]
        return self.do("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups",
                       "env", f"HOME=/home/{USER}", *given, *words)  # fmt: skip

    def property(self, unit: str, name: str) -> str:
        """A property of a unit, such as `ActiveState`."""
        return self.do("systemctl", "show", "--value", "--property", name, unit)

    def wait(self, until: Callable[[], bool], what: str, seconds: float = 240) -> None:
        """Until it is so."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}: {self.log()}"
            time.sleep(0.2)

    def log(self) -> str:
        """What the units said."""
        path = self.shared / "units.log"
        return path.read_text(encoding="utf-8")[-4000:] if path.exists() else ""


@contextmanager
def live_systemd(shared: Path, files: Mapping[str, str]) -> Iterator[Machine]:
    """A systemd with `files` (path below `/etc` → text) and a user `modic`, whose `shared` is; or skips."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0 or missing or not SYSTEMD.exists():
        pytest.skip(f"needs root (sudo), systemd, {', '.join(PROGRAMS)}; missing: {missing or 'one of the first two'}")
    if (group := _cgroup()) is None:
        pytest.skip("no cgroup 2 can be made here")
    logged = {"systemd/system/service.d/log.conf": "[Service]\nStandardOutput=append:/data/units.log\n"
              "StandardError=append:/data/units.log\n"}  # fmt: skip
    for name, text in {**files, **logged}.items():
        path = shared / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="modic-systemd-") as base:
        values = {"group": group, "base": base, "shared": shared, "prefix": sys.prefix, "repository": ROOT,
                  "user": USER, "uid": UID, "systemd": SYSTEMD, "namespaces": " ".join(NAMESPACES)}  # fmt: skip
        with (shared / "start.log").open("w") as log:
            started = subprocess.Popen(["sh", "-c", SCRIPT.format(**values)], stdout=log, stderr=log)
        try:
            yield _running(started, shared)
        finally:
            started.kill()
            started.wait()
            _remove(group)


def _running(started: subprocess.Popen[bytes], shared: Path) -> Machine:
    """Once systemd answers."""
    deadline = time.monotonic() + STARTED_S
    while time.monotonic() < deadline and started.poll() is None:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            machine = Machine(int(children[0]), shared)
            if machine.do("systemctl", "is-system-running", check=False) in ("running", "degraded"):
                return machine
        time.sleep(0.1)
    pytest.skip(f"systemd does not start in a namespace here: {(shared / 'start.log').read_text()[-500:]}")


def _cgroup() -> Path | None:
    """A new group of cgroup 2, so that systemd finds it as the root of a hierarchy of its own."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    for folder in (Path(place) for _, place, kind, *_ in mounts if kind == "cgroup2"):
        try:
            return Path(tempfile.mkdtemp(prefix="modic-", dir=folder))
        except OSError:
            continue
    return None


def _remove(group: Path) -> None:
    """The group, once its processes are gone."""
    for _ in range(50):
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
