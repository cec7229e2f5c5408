"""Arbitration: a page for the discs on which readers disagree, with what each of them gave.

`modic review COHORT --arbitrate readings-reader-1.csv readings-reader-2.csv --out DIR`. The page calls the readers A,
B, … in another order at each disc, so that no name decides. Its CSV goes to `modic validate` together with those of the
readers; the arbiter's reading of a disc then counts as the truth (modic/reader_study/readings.py).
"""

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modic.errors import UsageError
from modic.grades import GRADES
from modic.reader_study.pages import Reading as Pages
from modic.reader_study.pages import pages_folder, write_pages
from modic.reader_study.readings import ENDPLATES, Reading, Role, read_readings
from modic.reader_study.sample import graded_discs
from modic.reader_study.weights import RANDOM, Disc, disc_of
from modic.records import SIDES


def arbitrate(
    cohort_root: Path, files: list[Path], out: Path | None, *, viewer_url: str = "", seed: int = 0
) -> tuple[Path, int, int]:
    """Write the page; returns its path, the number of discs on it, and of discs that several readers read.

    Raises UsageError as `read_readings` does, if no disc was read by several readers, or if they agree on all.
    """
    name = f"arbitration-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    out = pages_folder(cohort_root, out, name, viewer_url)
    by_disc: dict[Disc, list[Reading]] = {}
    for reading in read_readings(cohort_root, files).by_readers:
        by_disc.setdefault(reading.disc, []).append(reading)
    several = {disc: readings for disc, readings in by_disc.items() if len(readings) > 1}
    apart = {disc: readings for disc, readings in several.items() if disagree(readings)}
    if not apart:
        raise UsageError(f"nothing to arbitrate: readers agree on all {len(several)} discs that several of them read")
    discs = [
        disc | {"drawn": apart[disc_of(disc)][0].drawn or RANDOM, "sample_id": apart[disc_of(disc)][0].sample_id}
        for disc in graded_discs(cohort_root)
        if disc_of(disc) in apart and disc["case"] is not None
    ]
    if not discs:
        raise UsageError(f"{cohort_root} has no images of the discs to arbitrate")
    shown = {disc: _shown(readings, f"{seed} {disc}") for disc, readings in apart.items()}
    asks = any(
        reading.endplates.get(column) for readings in apart.values() for reading in readings for column in ENDPLATES
    )
    pages = Pages(name, (Role.ARBITER.value,), endplates=asks, viewer_url=viewer_url, seed=seed, arbitration=True)
    return write_pages(cohort_root, out, discs, pages, shown)[0], len(discs), len(several)


def disagree(readings: list[Reading]) -> bool:
    """Whether readers gave a disc another grade or verdict, or an endplate that they read another type."""
    grades = {reading.verdict if reading.truth is None else reading.truth for reading in readings}
    types = [{reading.endplates.get(f"mc_{side}") for reading in readings} - {None} for side in SIDES]
    return len(grades) > 1 or any(len(kinds) > 1 for kinds in types)


def _shown(readings: list[Reading], seed: str) -> list[dict[str, Any]]:
    """What the page says of each reader's reading."""
    ordered = sorted(readings, key=lambda reading: reading.reader)
    random.Random(seed).shuffle(ordered)
    return [
        {
            "reader": chr(ord("A") + index),
            "disc": (reading.verdict or "–")
            if reading.truth is None
            else GRADES[reading.truth] + " mixed" * reading.mixed,
            **{side: _endplate(reading, side) for side in SIDES},
            "note": reading.note,
        }
        for index, reading in enumerate(ordered)
    ]


def _endplate(reading: Reading, side: str) -> str:
    parts = (reading.endplates.get(f"mc_{side}"), reading.endplates.get(f"udby_{side}"))
    return " ".join(filter(None, parts)) or "–"
