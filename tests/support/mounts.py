"""Runs a script on a real file system, mounted in a mount namespace of its own, or skips where that cannot be done."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOOP = "truncate -s 64M img && {mkfs} img >&2 && L=$(losetup -f --show img) && {mount} && losetup -d $L"
MOUNTS = {
    "tmpfs": "mount -t tmpfs -o size=64m none at",
    "small tmpfs": "mount -t tmpfs -o size=1m none at",
    "overlay": (
        "mkdir layers && mount -t tmpfs none layers && mkdir layers/lower layers/upper layers/work"
        " && mount -t overlay -o lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work none at"
    ),
    "ext4": LOOP.format(mkfs="mkfs.ext4 -q", mount="mount $L at"),
    "vfat": LOOP.format(mkfs="mkfs.vfat", mount="mount -t vfat -o umask=077 $L at"),
    "exfat": LOOP.format(mkfs="mkfs.exfat", mount="mount.exfat-fuse -o umask=077 $L at"),
    "exfat that others can read": LOOP.format(mkfs="mkfs.exfat", mount="mount.exfat-fuse $L at"),
    "fuse": "mkdir real && bindfs real at",
    "fuse without chmod": "mkdir real && bindfs --chmod-deny real at",
}
"""Shell commands that mount a file system at the folder `at` of the working folder."""

UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--uts", *(() if os.geteuid() == 0 else ("-Ur",))]
CANNOT = 77


def command(mount: str, script: str, *arguments: str, host: str = "here") -> list[str]:
    """The command of a Python module of tests/support, in a namespace with a mount, processes and a host name."""
    python = " ".join([sys.executable, "-m", script, *arguments])
    shell = f"hostname {host}; mkdir -p at; ({mount}) || exit {CANNOT}; {python}; code=$?; umount at; exit $code"
    return [*UNSHARE, "bash", "-uc", shell]


def environment() -> dict[str, str]:
    """The environment of such a command."""
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}", "PYTHONWARNINGS": "ignore"}


def run_on(kind: str, folder: Path, script: str, *arguments: str) -> Any:
    """What a module of tests/support printed as JSON, run in `folder` with a file system mounted at `folder/at`."""
    try:
        done = subprocess.run(
            command(MOUNTS[kind], script, *arguments), cwd=folder, env=environment(), capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode == CANNOT or "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip(f"{kind} cannot be mounted here: {done.stderr.strip().splitlines()[-1:]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
