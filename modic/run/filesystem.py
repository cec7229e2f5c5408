"""What the file system of a cohort can do, tried before a run costs time.

| modic uses                       | where it is missing |
|---|---|
| write, rename over a file        | refused |
| modes (chmod)                    | refused unless the private folder is closed to others anyway |
| symbolic link `current`          | a named folder, and a copy, instead (modic/tables/published.py) |
| hard link, for the pseudonym key | a rename under the lock instead |
| flock                            | the lock's record alone (modic/lock.py) |
| fsync of files and folders       | without: a power cut may then cost the last minutes' files |
"""

import errno
import secrets
from collections.abc import Callable
from pathlib import Path

from modic.cohort import Cohort, remove
from modic.errors import UsageError
from modic.files import make_folder, write_whole

CURES = {
    errno.EROFS: "mount it writable",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "its owner must run modic, or allow you to write there",
    errno.EPERM: "its owner must run modic, or allow you to write there",
}
ELSEWHERE = "put the cohort on another file system"
OPEN = "mount it so that only you can read it (exFAT, vfat: umask=077; SMB: dir_mode=0700,file_mode=0600)"


def try_file_system(cohort: Cohort) -> None:
    """Try everything that a run needs in each folder of the cohort. Raises UsageError with the folder and the cure."""
    if cohort.private.stat().st_mode & 0o077:
        raise UsageError(f"others can read {cohort.private}, whose file system keeps no modes; {OPEN}, or {ELSEWHERE}")
    for folder in (cohort.root, cohort.root / "runs", cohort.private):
        make_folder(folder)
        scratch = folder / f".trial.{secrets.token_hex(4)}.tmp"
        try:
            _attempt(folder, "make folders", scratch.mkdir)
            _try_in(folder, scratch)
        finally:
            remove(scratch)


def _try_in(folder: Path, scratch: Path) -> None:
    for content in ("once", "again"):
        _attempt(folder, "write files, or rename them over others,", lambda: write_whole(scratch / "file", content))  # noqa: B023
    if (scratch / "file").read_text(encoding="ascii") != "again":
        raise UsageError(f"{folder}: its file system does not keep what is written; {ELSEWHERE}")
    (scratch / "folder").mkdir()
    _attempt(folder, "rename folders", lambda: (scratch / "folder").rename(scratch / "renamed"))


def _attempt(folder: Path, what: str, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        cure = CURES.get(error.errno or 0, ELSEWHERE)
        raise UsageError(f"{folder}: its file system cannot {what} ({error.strerror}); {cure}") from None
