"""The STROBE flow diagram: boxes from files to grades, laid out for an SVG.

Files, studies or levels that leave stand to the right; those that remain go down. Every number is a sum of rows of the
view `strobe_flow`, so the diagram adds up if the tables do.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from modic.grades import CLASSES, GRADES

MAIN_X, MAIN_W, SIDE_X, SIDE_W = 0.5, 360, 430, 380
LINE, PAD, GAP = 18, 12, 26
"""Places, widths and heights in SVG units."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box: a head with its number, and lines (what, number) below it that sum to it or to a part of it."""

    head: str
    n: int
    lines: tuple[tuple[str, int], ...] = ()

    @property
    def height(self) -> float:
        """In SVG units."""
        return 2 * PAD + LINE * (1 + len(self.lines)) - 4


@dataclass(frozen=True, slots=True)
class Step:
    """A box of what remains, and the boxes of what leaves below it."""

    main: Box
    out: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A box with its upper left corner and its width in SVG units."""

    box: Box
    x: float
    y: float
    width: float
    kind: str  # main | out


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the template draws, in SVG units; an arrow is (x0, y0, x1, y1)."""

    boxes: list[Placed]
    arrows: list[tuple[float, float, float, float]]
    width: float
    height: float


def steps(flow: list[dict[str, Any]], patients: int) -> list[Step]:
    """The rows of `strobe_flow` as steps; `patients` is the number of patients of all studies."""

    def count(unit: str, *outcomes: str) -> int:
        return sum(row["n"] for row in flow if row["unit"] == unit and row["outcome"] in outcomes)

    def out(head: str, unit: str, *outcomes: str) -> Box:
        numbers: Counter[str] = Counter()
        for row in flow:
            if row["unit"] == unit and row["outcome"] in outcomes:
                numbers[row["reason"] or row["outcome"]] += row["n"]
        lines = sorted(numbers.items(), key=lambda line: (-line[1], line[0]))
        return Box(head, count(unit, *outcomes), tuple(lines))

    def by_archive(unit: str) -> tuple[tuple[str, int], ...]:
        return tuple((f"archive {name}", n) for name, n in archives(flow, unit).items()) if several else ()

    several = len(archives(flow, "studies")) > 1
    grades = [f"mc{k}" for k in range(CLASSES)]
    files = (
        ("header read in this run", count("files", "read")),
        ("unchanged since an earlier run", count("files", "unchanged")),
    )
    remaining = [
        Step(
            Box(
                "Files in the archives" if several else "Files in the archive",
                count("files", "all"),
                by_archive("files"),
            ),
            (out("Files rejected", "files", "rejected"),),
        ),
        Step(Box("MR image files", count("files", "read", "unchanged"), files)),
        Step(
            Box("MR studies", count("studies", "all"), (("patients", patients), *by_archive("studies"))),
            (out("Studies excluded", "studies", "excluded"), out("Studies failed", "studies", "failed")),
        ),
        Step(Box("Studies graded", count("studies", "graded"))),
        Step(
            Box("Levels of graded studies, six each", count("levels", "all")),
            (out("Levels not graded", "levels", "not_found", "unreadable"),),
        ),
        Step(
            Box("Levels graded", count("levels", *grades, "abstained")),
            (Box("Abstained (no single grade)", count("levels", "abstained")),),
        ),
    ]
    decided = tuple((name, count("levels", grade)) for name, grade in zip(GRADES, grades, strict=True))
    return [*remaining, Step(Box("Levels with a grade", count("levels", *grades), decided))]


def archives(flow: list[dict[str, Any]], unit: str) -> dict[str, int]:
    """Number of each archive (`unknown`: of before they were numbered) → its files, studies or levels."""
    numbers = {row["archive"]: row["n"] for row in flow if row["unit"] == unit and row["outcome"] == "all" and row["n"]}
    return {
        str(name or "unknown"): numbers[name] for name in sorted(numbers, key=lambda name: (name is None, name or 0))
    }


def lay_out(flow: list[Step]) -> Chart:
    """Place every box and arrow, from the top down."""
    boxes: list[Placed] = []
    arrows: list[tuple[float, float, float, float]] = []
    x, y = MAIN_X + MAIN_W / 2, 0.5
    for index, step in enumerate(flow):
        boxes.append(Placed(step.main, MAIN_X, y, MAIN_W, "main"))
        bottom = y + step.main.height
        y = bottom + GAP
        for box in (leaving for leaving in step.out if leaving.n):
            boxes.append(Placed(box, SIDE_X, y - GAP / 2, SIDE_W, "out"))
            middle = y - GAP / 2 + box.height / 2
            arrows.append((x, middle, SIDE_X, middle))
            y += box.height + GAP / 2
        if index < len(flow) - 1:
            arrows.append((x, bottom, x, y))
    return Chart(boxes, arrows, SIDE_X + SIDE_W + 1, y - GAP + 1)
