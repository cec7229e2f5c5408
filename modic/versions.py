"""Which versions of which packages ran."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("modic", "torch", "torchvision", "monai", "pydicom", "numpy", "opencv-python-headless", "pyarrow", "duckdb",
            "prefect", "dask")  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what a grade depends on, where installed, as the process that writes the report has them."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
