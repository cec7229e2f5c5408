"""`python -P -m flows.deploy deployments/prefect.yaml`: `prefect deploy --all` of the installed package.

Prefect looks for the flow in the working folder before it looks among the installed packages, so that a folder `flows`
which somebody left there would be run. Here the flow is imported first; `-P` keeps Python itself from that folder.
"""

import os
import sys
from pathlib import Path

import flows.nightly  # noqa: F401  (before Prefect looks for it)
from modic.archive.sources import scheme_of

FOLDERS = ("MODIC_ARCHIVE", "MODIC_COHORT")
"""Variables that a file may ask for."""


def _from_anywhere(name: str) -> str:
    """The folder or address that a variable names, as a worker finds it, which works in another folder."""
    place = os.environ.get(name, "").strip()
    if not place:
        sys.exit(f"{name} is not set: give the folders of archive and cohort, as {' and '.join(FOLDERS)}")
    return place if scheme_of(place) else str(Path(place).expanduser().absolute())


def main(words: list[str] | None = None) -> None:
    """Deploy; `words`: the file, and further arguments of `prefect deploy`. Exits with Prefect's exit code."""
    from prefect.cli import app

    words = sys.argv[1:] if words is None else words
    if not words or not Path(words[0]).is_file():
        sys.exit("usage: python -P -m flows.deploy deployments/prefect.yaml")
    asked = Path(words[0]).read_text(encoding="utf-8")
    os.environ |= {name: _from_anywhere(name) for name in FOLDERS if f"${name} " in asked}
    # Prefect's command reads the arguments of the process
    sys.argv = [
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
        "--prefect-file",
        str(Path(words[0]).resolve()),
        *words[1:],
    ]
    app()


if __name__ == "__main__":
    main()
