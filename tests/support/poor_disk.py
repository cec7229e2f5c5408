"""Imitations of what file systems cannot do, where a test cannot mount them (tests/support/mounts.py mounts some)."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest


def refuse(patch: pytest.MonkeyPatch, module: Any, name: str, number: int) -> None:
    """`module.name` fails from now on with the error `number`."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr(module, name, refused)


def refuse_new_files(patch: pytest.MonkeyPatch, number: int) -> None:
    """No file can be made; those that are there can be opened."""
    plain = os.open

    def opened(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return plain(path, flags, *more, **named)

    patch.setattr(os, "open", opened)


def refuse_folder_sync(patch: pytest.MonkeyPatch, number: int) -> None:
    """Folders cannot be made durable; files can."""
    sync = os.fsync

    def synced(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    patch.setattr(os, "fsync", synced)


Lack = Callable[[pytest.MonkeyPatch], None]
LACKS: dict[str, Lack] = {
    "exFAT, vfat: no links of either kind": lambda patch: (
        refuse(patch, os, "symlink", errno.EPERM),
        refuse(patch, os, "link", errno.EPERM),
    )[0],
    "SMB: no symbolic links": lambda patch: refuse(patch, os, "symlink", errno.ENOTSUP),
    "FUSE: symbolic links not implemented": lambda patch: refuse(patch, os, "symlink", errno.ENOSYS),
    "no hard links": lambda patch: refuse(patch, os, "link", errno.ENOTSUP),
    "CIFS: no sync of folders": lambda patch: refuse_folder_sync(patch, errno.EINVAL),
    "FUSE: no sync at all": lambda patch: refuse(patch, os, "fsync", errno.ENOSYS),
    "NFS without lock daemon": lambda patch: refuse(patch, fcntl, "flock", errno.ENOLCK),
    "no flock": lambda patch: refuse(patch, fcntl, "flock", errno.ENOTSUP),
}
"""What a cohort does without."""
