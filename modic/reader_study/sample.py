"""A sample of discs or whole patients for readers, and the pages on which they read.

`modic review COHORT --sample 200 --by level,grade` draws discs, `--by patient,grade` patients with all graded discs of
their first graded study (`visits` all: of every one).

The sample is stratified: every stratum (say, L4/L5 graded MC1) gives as many discs as the others, or all that it has,
so that rare grades are read often enough. The weight of a disc (or patient) is the size of its stratum over the number
drawn of it; with weights the numbers of `modic validate` are about the whole cohort. Weights and grades stay in the
cohort, in `validation/samples/<sample_id>.parquet`. Pages and images hold nothing of the model's answers, and each
reader reads in another order.
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
from modic.cases.viewer import viewer
from modic.cohort import Cohort
from modic.errors import UsageError
from modic.files import make_folder, write_whole
from modic.reader_study.readings import sample_path
from modic.records import LEVELS
from modic.tables.described import Columns, write_rows
from modic.tables.query import published
from modic.templates.render import template

Disc = dict[str, Any]
STRATA: dict[str, Callable[[Disc], str]] = {
    "level": lambda disc: disc["level"],
    "grade": lambda disc: "abstained" if disc["mc"] is None else f"MC{disc['mc']}",
    "scanner": lambda disc: " ".join(filter(None, (disc["manufacturer"], disc["scanner_model"]))) or "unknown",
    "sex": lambda disc: disc["sex"] or "unknown",
    "year": lambda disc: str(disc["study_year"] or "unknown"),
    "numbering": lambda disc: disc["level_numbering"],
}
"""What a sample may be stratified by."""
PATIENT = "patient"
"""The word in `by` that draws whole patients."""
SHOWN = ("t1.webp", "t2.webp", "regions.webp")
"""Images that readers see: not the maps, which show what the model saw."""

SAMPLE: Columns = {
    "study_key": ("string", "pseudonym of the study"),
    "patient_key": ("string", "pseudonym of the patient"),
    "level": ("string", "level of the disc"),
    "stratum": ("string", "stratum that it was drawn from, by the model's grade when it was drawn"),
    "unit": ("string", "what was drawn: level, or patient with all discs of the first graded study or of all studies"),
    "n_stratum": ("int64", "discs, or patients, with images in the stratum"),
    "n_drawn": ("int64", "discs, or patients, drawn from the stratum"),
    "weight": ("float64", "n_stratum / n_drawn: how many discs (patients) of the cohort this one stands for"),
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
    cohort_root: Path, out: Path, *, sample: int, by: list[str], readers: int, seed: int = 0, visits: str = "first"
) -> Drawn:
    """Draw discs or patients, keep the sample in the cohort, and write the pages to `out`, which must be new or empty.

    Raises UsageError that names a wrong argument and the cure.
    """
    if sample < 1 or readers < 1:
        raise UsageError("--sample and --readers must be at least 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; name a new one for the readers' pages")
    discs = graded_discs(cohort_root)
    readable = readable_units(discs, by, visits)
    if not readable:
        raise UsageError(f"{cohort_root} has no graded disc with images to read; grade with `pictures = true` in [run]")
    drawn = draw(readable, sample, by, seed)
    sample_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    rows = [{name: disc[name] for name in SAMPLE} for disc in drawn]
    path = sample_path(cohort_root, sample_id)
    pages = write_pages(cohort_root, out, drawn, sample_id, readers, seed)
    write_rows(path, rows, SAMPLE)
    strata = {disc["stratum"]: (disc["n_stratum"], disc["n_drawn"]) for disc in drawn}
    without = sum(disc["case"] is None for disc in discs)
    return Drawn(sample_id, pages, dict(sorted(strata.items())), without, unit_of(by), len(drawn))


def graded_discs(cohort_root: Path) -> list[Disc]:
    """Graded levels with the columns of their study, and its case.json as `case` (None without images of the disc)."""
    folder = published(cohort_root)
    studies = {row["study_key"]: row for row in _rows(folder / "studies.parquet")}
    levels = [row for row in _rows(folder / "levels.parquet") if row["status"] == "graded"]
    cases = {
        (row["run_id"], row["study_key"]): read_case(Cohort(cohort_root).case(row["run_id"], row["study_key"]))
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
    """The discs of at most `sample` units with `stratum`, `unit`, `n_stratum`, `n_drawn`, `weight`.

    The same seed draws the same units. Raises UsageError as `strata_of`, and if there are more strata than units to
    draw: none would stand for some strata.
    """
    strata = strata_of(units, by)
    if len(strata) > sample:
        raise UsageError(f"--sample {sample}: there are {len(strata)} strata; draw as many or more")
    counts = allocate({name: len(members) for name, members in strata.items()}, sample)
    drawn = []
    for name, n in sorted(counts.items()):
        about = {"stratum": name, "unit": unit_of(by), "n_stratum": len(strata[name]), "n_drawn": n}
        about["weight"] = len(strata[name]) / n
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


def write_pages(cohort_root: Path, out: Path, drawn: list[Disc], sample_id: str, readers: int, seed: int) -> list[Path]:
    """Copy the images and write a page for each reader; returns the pages."""
    for study_key, run_id in sorted({(disc["study_key"], disc["run_id"]) for disc in drawn}):
        folder = out / "pictures" / study_key
        make_folder(folder)
        for name in SHOWN:
            write_whole(folder / name, (Cohort(cohort_root).case(run_id, study_key) / name).read_bytes())
    pages = []
    for reader in (f"reader-{number}" for number in range(1, readers + 1)):
        items = sorted((_item(disc) for disc in drawn), key=lambda item: (item["key"], str(item["levels"])))
        random.Random(f"{seed} {sample_id} {reader}").shuffle(items)
        data = {"mode": "reading", "levels": LEVELS, "reader": reader, "sample": sample_id, "studies": items}
        text = template("reading.html").render(reader=reader, discs=len(items), **viewer(data))
        pages.append(out / f"{reader}.html")
        write_whole(pages[-1], text)
    return pages


def _item(disc: Disc) -> dict[str, Any]:
    """One disc as a reader's page holds it: nothing of the model's answer."""
    case, key = disc["case"], disc["study_key"]
    box = {"box": case["levels"][disc["level"]]["box"]}
    levels = [box if level == disc["level"] else None for level in LEVELS]
    return {"key": key, "path": f"pictures/{key}", "size": case["size"], "slices": case["slices"], "levels": levels}
