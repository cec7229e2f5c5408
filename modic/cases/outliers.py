"""The cases of a report: every study with its levels as one JSON value for the page, outliers first.

A study is an outlier for the first of these that holds, and within it by how far:

| kind        | condition                                                                                          |
|-------------|----------------------------------------------------------------------------------------------------|
| numbering   | level numbering is uncertain                                                                       |
| abstained   | a level was left without a grade                                                                   |
| slices      | a level's `slice_disagreement` is `DISAGREEMENT` or more: clear in one slice, unlikely in another    |
| score       | the detector's score of a graded level is below `SCORE`                                            |
| acquisition | a warning of the run, or a limit of `ODD` is passed                                                |
| pictures    | a graded study without pictures                                                                    |
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modic.cohort import Cohort
from modic.config import PairOptions
from modic.records import LEVELS
from modic.tables.schema import OLDEST

KINDS = ("numbering", "abstained", "slices", "score", "acquisition", "pictures")
DISAGREEMENT, SCORE = 0.7, 0.6
ODD = (
    ("{name} in-plane spacing {value:.2f} mm", ("pixel_spacing_row_mm", "pixel_spacing_column_mm"), 1.2, 1),
    ("{name} slice spacing {value:.1f} mm", ("slice_spacing_mm",), 6.0, 1),
    ("{name} only {value:.0f} slices", ("n_slices",), 9, -1),
)
"""What is said, of which columns of `series`, the limit, and whether above (1) or below (-1) it is odd."""
LITTLE_OVERLAP = PairOptions().overlap_warn
QUESTION = """
SELECT s.*, t1: struct_pack(pixel_spacing_row_mm := a.pixel_spacing_row_mm, n_slices := a.n_slices,
    pixel_spacing_column_mm := a.pixel_spacing_column_mm, slice_spacing_mm := a.slice_spacing_mm),
  t2: struct_pack(pixel_spacing_row_mm := b.pixel_spacing_row_mm, n_slices := b.n_slices,
    pixel_spacing_column_mm := b.pixel_spacing_column_mm, slice_spacing_mm := b.slice_spacing_mm)
FROM studies s LEFT JOIN series a ON a.series_key = s.t1_series_key
LEFT JOIN series b ON b.series_key = s.t2_series_key
ORDER BY s.study_key
"""

Row = dict[str, Any]
LEVEL_QUESTION = f"FROM levels ORDER BY study_key, list_position({list(LEVELS)}, level)"


def gather_cases(cohort_root: Path, studies: Iterable[Row], levels: Iterable[Row]) -> Row:
    """What the page knows of every study, outliers first.

    Args:
        studies: rows of `QUESTION`.
        levels: rows of the table `levels`, of each study from head to foot.
    """
    of_study: dict[str, list[Row]] = {}
    for level in levels:
        of_study.setdefault(level["study_key"], []).append(level)
    rows = []
    for study in studies:
        pictures = read_case(Cohort(cohort_root).case(study["run_id"], study["study_key"]))
        own = of_study.get(study["study_key"], [])
        flags = flags_of(study, own, pictures)
        rows.append((rank(flags, study), _study(study, own, pictures, flags)))
    rows.sort(key=lambda row: row[0])
    return {"mode": "report", "levels": LEVELS, "kinds": KINDS, "studies": [row for _, row in rows]}


def read_case(folder: Path) -> Row | None:
    """`case.json` of a study's pictures (modic/cases/images.py); None where there are none."""
    try:
        found: Row = json.loads((folder / "case.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found


def flags_of(study: Row, levels: list[Row], pictures: Row | None) -> list[tuple[str, float, str]]:
    """(kind, how far, in words) of everything that makes a graded study an outlier, worst kind first."""
    if study["status"] != "graded":
        return []
    found: list[tuple[str, float, str]] = []
    if study["level_numbering"] == "uncertain":
        sure = study["level_numbering_probability"] or 0.0
        found.append(("numbering", 1 - sure, f"level numbering uncertain ({sure:.2f})"))
    if without := [level["level"] for level in levels if level["abstained"]]:
        found.append(("abstained", len(without), f"no grade at {', '.join(without)}"))
    apart = {one["level"]: one["slice_disagreement"] or 0.0 for one in levels}
    if far := {name: by for name, by in apart.items() if by >= DISAGREEMENT}:
        found.append(("slices", max(far.values()), f"slices disagree at {', '.join(far)}"))
    scores = {one["level"]: one["level_score"] for one in levels if one["status"] == "graded"}
    if low := {name: score for name, score in scores.items() if score is not None and score < SCORE}:
        found.append(("score", 1 - min(low.values()), f"low detection score at {', '.join(low)}"))
    warned = study["warnings"].split("; ") if study["warnings"] else []
    odd = [*odd_acquisition(study), *(text for text in warned if not text.startswith("no pictures"))]
    if odd:
        found.append(("acquisition", len(odd), "; ".join(odd)))
    if pictures is None:
        found.append(("pictures", 1, next((text for text in warned if text.startswith("no pictures")), "no pictures")))
    return found


def odd_acquisition(study: Row) -> list[str]:
    """In words, what of the two series passes a limit of `ODD`."""
    said = []
    for name in ("t1", "t2"):
        for text, columns, limit, sign in ODD:
            values = [v for column in columns if (v := (study[name] or {}).get(column)) is not None]
            if far := [value for value in values if sign * value > sign * limit]:
                said.append(text.format(name=name.upper(), value=max(far, key=lambda value: sign * value)))
    overlap = study["overlap_fraction"]
    if overlap is not None and overlap < LITTLE_OVERLAP:
        said.append(f"T1 covers {overlap:.0%} of T2")
    return said


def rank(flags: list[tuple[str, float, str]], study: Row) -> tuple[int, float, str]:
    """Outliers first, by their worst kind and how far; then failed, excluded and the other studies."""
    if flags:
        return KINDS.index(flags[0][0]), -flags[0][1], study["study_key"]
    after = {"failed": 0, "graded": 1}.get(study["status"], 2)
    return len(KINDS) + after, 0.0, study["study_key"]


def _study(study: Row, levels: list[Row], pictures: Row | None, flags: list[tuple[str, float, str]]) -> Row:
    scanner = " ".join(str(study[name]) for name in ("manufacturer", "scanner_model") if study[name])
    field = f"{study['field_strength_t']:g} T" if study["field_strength_t"] else ""
    age = study["age_years"]
    person = ["" if age is None else f"{age} y or older" if age >= OLDEST else f"{age} y", study["sex"] or ""]
    return {
        "key": study["study_key"],
        "run": study["run_id"],
        "status": study["status"],
        **({"why": " ".join(filter(None, (study["reason"], study["detail"])))} if study["reason"] else {}),
        "scanner": " ".join(filter(None, (scanner, field))) or "unknown",
        "about": ", ".join(filter(None, (*person, str(study["study_year"] or "")))),
        "flags": [[KINDS.index(kind), text] for kind, _, text in flags],
        **({"path": f"../{study['run_id']}/cases/{study['study_key']}"} if pictures else {}),
        **({"size": pictures["size"], "slices": pictures["slices"]} if pictures else {}),
        "levels": [_level(level, (pictures or {"levels": {}})["levels"].get(level["level"], {})) for level in levels],
    }


def _level(level: Row, drawn: Mapping[str, Any]) -> Row:
    """Short names, since there are six a study: see modic/cases/viewer.js."""
    if level["status"] != "graded":
        return {"why": level["reason"], **({"box": drawn["box"]} if "box" in drawn else {})}
    p = [round(level[f"p_mc{k}"], 3) for k in range(3)]
    apart = {} if level["slice_disagreement"] is None else {"apart": round(level["slice_disagreement"], 3)}
    return {"mc": level["mc"], "p": p, "score": round(level["level_score"] or 0.0, 2), **apart, **drawn}
