"""The version of the grading, and the versions of the packages that ran."""

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GRADING_CHANGES = {
    1: "the first version",
    2: "level_numbering counts from the last mobile disc and no longer doubts the number of vertebrae, which"
    " transitional_suspected tells; non-square pixels are resampled before levels are found; the marrow beside the"
    " endplates is measured, decides beside another classifier, and a grade that contradicts it abstains; each"
    " endplate has a type and an extent of its own; contrast is read from Enhanced MR attributes in every place,"
    " from numbers with commas and units, from words of many languages and, against a wrong header, from the"
    " pixels; T1 and T2 are of one reconstruction, acquired before computed; an agent counts across midnight and"
    " studies; padding is background, and of an inverted image the darkest voxel is 0; T1 need only hold the slices"
    " and levels that are graded; the images of every pair are compared, a small shift is corrected, a large one"
    " refused; pixels that lie upside down or mirrored are refused; a STIR beside T1 and T2 is measured and grades"
    " nothing; where a study holds a series of the whole spine, discs are counted on it from C2, which moves no name;"
    " regions are interpolated along the axes of the volumes, which moves probabilities by less than 1e-6; networks on"
    " a CPU are computed in another order, which moves them by less than 1e-4",
}
"""Version of the grading → what it changed, in words for somebody who reads the tables.

Add a version with every change of the code that can change a row of `levels`, or whether a study is graded at all:
all studies are then graded again, so that two algorithms never stand in one table. A change of weights, cards or
options needs none, since a study's fingerprint holds these.
"""

GRADING_VERSION = max(GRADING_CHANGES)

PACKAGES = ("modic", "torch", "torchvision", "onnxruntime", "monai", "pydicom", "numpy", "opencv-python-headless",
            "pyarrow", "duckdb", "prefect", "dask")  # fmt: skip


def changes_since(earlier: int) -> str:
    """`grading version 3 (what 2 changed; what 3 changed)`, for rows of version `earlier`."""
    changes = [text for number, text in sorted(GRADING_CHANGES.items()) if earlier < number <= GRADING_VERSION]
    return f"grading version {GRADING_VERSION} ({'; '.join(changes) or 'an earlier one'})"


def versions() -> dict[str, str]:
    """Package → version, of the installed packages that a grade depends on, as this process has them."""
    installed = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


@cache
def code_hash(*folders: str) -> str:
    """SHA-256 of modic's own modules and of those of some of its packages, and of SQL where a folder holds any."""
    here, text = Path(__file__).resolve().parent, hashlib.sha256()
    inner = [path for name in folders for ending in ("py", "sql") for path in (here / name).glob(f"*.{ending}")]
    for path in sorted([*here.glob("*.py"), *inner]):
        text.update(path.read_bytes())
    return text.hexdigest()
