"""A sample of discs or whole patients for readers, and the pages on which they read.

`modic review COHORT --sample 200 --by level,grade` draws discs, `--by patient,grade` patients with all graded discs of
their first graded study (`visits` all: of every one).

The sample is stratified: every stratum (say, L4/L5 graded MC1) gives as many discs as the others, or all that it has,
so that rare grades are read often enough. The weight of a disc (or patient) is the size of its stratum over the number
drawn of it; with weights the numbers of `modic validate` are about the whole cohort. Weights and grades stay in the
cohort, in `validation/samples/<sample_id>.parquet`. Pages and images hold nothing of the model's answers, and each
reader reads in another order (modic/reader_study/pages.py). `--next N` also chooses discs
(modic/reader_study/next_discs.py).
"""

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from modic.cases.outliers import read_case
from modic.cohort import Cohort
from modic.errors import UsageError
from modic.reader_study.next_discs import Earlier, draw_next
from modic.reader_study.pages import Reading, pages_folder, write_pages
from modic.reader_study.weights import RANDOM, disc_of, known_sample, sample_path
from modic.records import LEVELS
from modic.tables.described import Columns, write_rows
from modic.tables.query import published
from modic.tables.strata import UNKNOWN, field_name, scanner_name

Disc = dict[str, Any]
STRATA: dict[str, Callable[[Disc], str]] = {
    "level": lambda disc: disc["level"],
    "grade": lambda disc: "abstained" if disc["mc"] is None else f"MC{disc['mc']}",
    "scanner": lambda disc: scanner_name(disc) or UNKNOWN,
    "field": lambda disc: field_name(disc["field_strength_t"]),
    "sex": lambda disc: disc["sex"] or UNKNOWN,
    "year": lambda disc: str(disc["study_year"] or UNKNOWN),
    "numbering": lambda disc: disc["level_numbering"],
}
"""What a sample may be stratified by."""
PATIENT = "patient"
"""The word in `by` that draws whole patients."""

SAMPLE: Columns = {
    "study_key": ("string", "pseudonym of the study"),
    "patient_key": ("string", "pseudonym of the patient"),
    "level": ("string", "level of the disc"),
    "stratum": ("string", "stratum that it was drawn from, by the model's grade when it was drawn"),
    "unit": ("string", "what was drawn: level, or patient with all discs of the first graded study or of all studies"),
    "n_stratum": ("int64", "discs, or patients, with images in the stratum"),
    "n_drawn": ("int64", "discs, or patients, drawn from the stratum"),
    "weight": ("float64", "n_stratum / n_drawn: how many discs (patients) of the cohort this one stands for"),
    "drawn": (
        "string",
        "random, or why it was chosen: uncertain, rare, unlike (what was read); then it stands for itself",
    ),
    "after": ("string", "earlier samples, separated by commas, whose discs could not be drawn; blank: all could"),
    "run_id": ("string", "the run that graded it"),
    "classifier_id": ("string", "the classifier that graded it"),
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample that was written. `strata`: name → (units in the stratum, units drawn); `unit`: level or patient."""

    sample_id: str
    pages: list[Path]
    strata: dict[str, tuple[int, int]]
    without_pictures: int
    unit: str
    discs: int


def review(
    cohort_root: Path, out: Path | None, *, sample: int, by: list[str], readers: int, seed: int = 0,
    visits: str = "first", chosen: bool = False, endplates: bool = False, repeats: int = 0, viewer_url: str = "",
) -> Drawn:  # fmt: skip
    """Draw discs or patients, keep the sample in the cohort, and write the pages to `out`, which must be new or empty.

    Args:
        cohort_root: folder of the cohort.
        out: None with `viewer_url` alone, whose pages go to the cohort's private folder.
        sample: number of discs or patients.
        by: strata, names of STRATA, and PATIENT.
        readers: each gets a page.
        seed: another one draws other discs.
        visits: which studies of a whole patient are read, first or all.
        chosen: half of the discs are those that teach most (modic/reader_study/next_discs.py).
        endplates: each disc begins with the reading of its endplates.
        repeats: discs that each reader reads twice.
        viewer_url: address of the site's own viewer.

    Raises UsageError that names a wrong argument and the cure.
    """
    if sample < 1 or readers < 1 or repeats < 0:
        raise UsageError("the number of discs and --readers must be at least 1, --repeats at least 0")
    if chosen and PATIENT in by:
        raise UsageError("--next chooses single discs: leave patient out of --by")
    sample_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    out = pages_folder(cohort_root, out, sample_id, viewer_url)
    discs = graded_discs(cohort_root)
    readable = readable_units(discs, by, visits)
    if not readable:
        raise UsageError(f"{cohort_root} has no graded disc with images to read; grade with `pictures = true` in [run]")
    if chosen:
        every = [disc for unit in readable for disc in unit]
        drawn = draw_next(
            every, Earlier.of(cohort_root), sample, lambda rest, n: draw([[disc] for disc in rest], n, by, seed)
        )
    else:
        drawn = draw(readable, sample, by, seed)
    reading = Reading(sample_id, _readers(1, readers), endplates, repeats, viewer_url, seed)
    pages = write_pages(cohort_root, out, drawn, reading)
    write_rows(sample_path(cohort_root, sample_id), [{name: disc[name] for name in SAMPLE} for disc in drawn], SAMPLE)
    strata = {disc["stratum"]: (disc["n_stratum"], disc["n_drawn"]) for disc in drawn}
    without = sum(disc["case"] is None for disc in discs)
    return Drawn(sample_id, pages, dict(sorted(strata.items())), without, unit_of(by), len(drawn))


def review_again(
    cohort_root: Path, out: Path | None, sample_id: str, *, readers: int = 1, first: int = 2, seed: int = 0,
    endplates: bool = False, repeats: int = 0, viewer_url: str = "",
) -> tuple[list[Path], int]:  # fmt: skip
    """Pages on which more readers read the discs of an earlier sample; returns them, and the number of discs.

    They hold nothing of what others read. `first`: number of the first of these readers; the rest as `review`.

    Raises UsageError as `review`, for a sample that was not drawn, and if images of its discs are no longer there.
    """
    if readers < 1 or first < 1 or repeats < 0:
        raise UsageError("--readers and --first-reader must be at least 1, --repeats at least 0")
    rows = _rows(known_sample(cohort_root, sample_id, "--again"))
    out = pages_folder(cohort_root, out, f"{sample_id}-again-{datetime.now(UTC):%Y%m%dT%H%M%SZ}", viewer_url)
    discs = {disc_of(disc): disc for disc in graded_discs(cohort_root) if disc["case"] is not None}
    if lost := sum(disc_of(row) not in discs for row in rows):
        raise UsageError(f"{lost} of {len(rows)} discs of sample {sample_id} are no longer graded or have no images")
    drawn = [discs[disc_of(row)] | {"drawn": row.get("drawn") or RANDOM} for row in rows]
    reading = Reading(sample_id, _readers(first, readers), endplates, repeats, viewer_url, seed)
    return write_pages(cohort_root, out, drawn, reading), len(drawn)


def _readers(first: int, n: int) -> tuple[str, ...]:
    return tuple(f"reader-{number}" for number in range(first, first + n))


def graded_discs(cohort_root: Path) -> list[Disc]:
    """Graded levels with the columns of their study, and its case.json as `case` (None without images of the disc)."""
    folder = published(cohort_root)
    studies = {row["study_key"]: row for row in _rows(folder / "studies.parquet")}
    levels = [row for row in _rows(folder / "levels.parquet") if row["status"] == "graded"]
    cases = {
        (row["run_id"], row["study_key"]): read_case(Cohort(cohort_root).pictures(row["run_id"], row["study_key"]))
        for row in levels
    }
    discs = [{**studies[row["study_key"]], **row, "case": cases[row["run_id"], row["study_key"]]} for row in levels]
    return [disc | {"case": disc["case"] if _has_box(disc) else None} for disc in discs]


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
    return rows


def _has_box(disc: Disc) -> bool:
    return disc["case"] is not None and "box" in disc["case"]["levels"].get(disc["level"], {})


Unit = list[Disc]
"""What is drawn: one disc, or all discs of one patient that readers read."""


def unit_of(by: list[str]) -> str:
    """`patient` or `level`: what a sample by these columns draws."""
    return PATIENT if PATIENT in by else "level"


def readable_units(discs: list[Disc], by: list[str], visits: str = "first") -> list[Unit]:
    """Discs with images, one by one; or patients all of whose graded discs (of the first study, or all) have images."""
    if unit_of(by) != PATIENT:
        return [[disc] for disc in discs if disc["case"] is not None]
    units: dict[str, Unit] = {}
    for disc in sorted(discs, key=_by_visit):
        unit = units.setdefault(disc["patient_key"], [])
        if visits == "all" or not unit or unit[0]["study_key"] == disc["study_key"]:
            unit.append(disc)
    return [unit for unit in units.values() if all(disc["case"] is not None for disc in unit)]


def _by_visit(disc: Disc) -> tuple[Any, ...]:
    days = disc["days_since_first_study"]
    return disc["patient_key"], days is None, days or 0, disc["study_key"], LEVELS.index(disc["level"])


def draw(units: list[Unit], sample: int, by: list[str], seed: int) -> list[Disc]:
    """The discs of at most `sample` units with `stratum`, `unit`, `n_stratum`, `n_drawn`, `weight`, `drawn`, `after`.

    The same seed draws the same units. Raises UsageError as `strata_of`, and if there are more strata than units to
    draw: none would stand for some strata.
    """
    strata = strata_of(units, by)
    if len(strata) > sample:
        raise UsageError(
            f"{sample} cannot be drawn from {len(strata)} strata: say --sample {len(strata)} or more, or name fewer"
            " columns in --by"
        )
    counts = allocate({name: len(members) for name, members in strata.items()}, sample)
    drawn = []
    for name, n in sorted(counts.items()):
        about = {"stratum": name, "unit": unit_of(by), "n_stratum": len(strata[name]), "n_drawn": n}
        about |= {"weight": len(strata[name]) / n, "drawn": RANDOM, "after": ""}
        chosen = random.Random(f"{seed} {name}").sample(strata[name], n)
        drawn += [disc | about for unit in chosen for disc in unit]
    return drawn


def strata_of(units: list[Unit], by: list[str]) -> dict[str, list[Unit]]:
    """Name of each stratum → its units, in an order that does not depend on that of `units`.

    Raises UsageError for a column by which units cannot be told apart.
    """
    whole = unit_of(by) == PATIENT
    if unknown := [name for name in by if name not in (*STRATA, PATIENT)]:
        raise UsageError(f"--by {unknown[0]}: a sample is drawn by {', '.join((*STRATA, PATIENT))}")
    if whole and "level" in by:
        raise UsageError("--by patient,level: a whole patient has all levels; leave out one of the two")
    strata: dict[str, list[Unit]] = {}
    for unit in sorted(units, key=lambda unit: (unit[0]["study_key"], LEVELS.index(unit[0]["level"]))):
        names = [_grade_of(unit) if name == "grade" else STRATA[name](unit[0]) for name in by if name != PATIENT]
        strata.setdefault(" ".join(names) or "all", []).append(unit)
    return strata


def _grade_of(unit: Unit) -> str:
    """Of a patient the rarest answer of the model: MC1, else MC2, else abstained, else MC0."""
    answers = {STRATA["grade"](disc) for disc in unit}
    return next(answer for answer in ("MC1", "MC2", "abstained", "MC0") if answer in answers)


def allocate(sizes: dict[str, int], sample: int) -> dict[str, int]:
    """Number of discs to draw from each stratum: equally many, or all if a stratum has fewer."""
    counts = dict.fromkeys(sorted(sizes), 0)
    left = min(sample, sum(sizes.values()))
    while left:
        for name in (name for name in counts if counts[name] < sizes[name]):
            if left:
                counts[name] += 1
                left -= 1
    return counts
