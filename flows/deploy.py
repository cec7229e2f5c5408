"""`python -P -m flows.deploy deployments/prefect.yaml`: `prefect deploy --all` of the installed package.

Prefect looks for the flow in the working folder before it looks among the installed packages, so that a folder `flows`
which somebody left there would be run. Here the flow is imported first; `-P` keeps Python itself from that folder.
"""

import sys
from pathlib import Path

import flows.nightly  # noqa: F401  (before Prefect looks for it)


def main(words: list[str] | None = None) -> None:
    """Deploy; `words`: the file, and further arguments of `prefect deploy`. Exits with Prefect's exit code."""
    from prefect.cli import app

    words = sys.argv[1:] if words is None else words
    if not words or not Path(words[0]).is_file():
        sys.exit("usage: python -P -m flows.deploy deployments/prefect.yaml")
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
