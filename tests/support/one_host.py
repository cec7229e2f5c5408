"""Runs of one host on a cohort at `at/cohort` that another host sees too. Prints what each run came to, as JSON.

Arguments: the archive, and one of
    run          one run
    hold FOLDER  one run that stops between cutting shards and grading, makes FOLDER/ready, and waits for FOLDER/go
    loop N       N runs, each with a study of this host that is new
"""

import json
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from dicoms import study, write
from fake_worker import without_networks
from modic import lock
from modic.errors import ModicError, UsageError
from plain_run import plain_run

COHORT = Path("at/cohort")


def run(archive: Path, **more: Any) -> dict[str, Any]:
    """One run."""
    try:
        done = plain_run(archive, COHORT, **more)
    except UsageError as error:
        return {"refused": str(error)}
    except ModicError as error:
        return {"stopped": str(error)}
    return {"run": done.run_id, "graded": done.graded_now}


def hold(archive: Path, folder: Path) -> dict[str, Any]:
    """One run that waits for a sign."""

    def wait(_: Any) -> None:
        (folder / "ready").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)

    return run(archive, meanwhile=wait)


def loop(archive: Path, n: int) -> list[dict[str, Any]]:
    """Many runs, with pauses at random."""
    answers = []
    dice = random.Random(str(Path.cwd()))
    for number in range(n):
        name = f"{Path.cwd().name}-{number}"  # of the host
        write(study(patient=name, rows=16, columns=16), archive.parent / name)
        shutil.move(archive.parent / name, archive / name)
        time.sleep(dice.uniform(0, 0.5))
        answers.append(run(archive))
    return answers


if __name__ == "__main__":
    without_networks()
    lock.BEAT_S, lock.STALE_S = 0.2, 3.0
    place, mode, *rest = sys.argv[1:]
    if mode == "run":
        print(json.dumps(run(Path(place))))
    elif mode == "hold":
        print(json.dumps(hold(Path(place), Path(rest[0]))))
    else:
        print(json.dumps(loop(Path(place), int(rest[0]))))
