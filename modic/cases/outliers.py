"""The studies of the report's part Cases, outliers first, as one JSON value for the viewer.

A study is an outlier for the first of these kinds that applies; within a kind the most extreme study comes first:

| kind        | condition                                                                                          |
|-------------|----------------------------------------------------------------------------------------------------|
| MC1         | a level is graded MC1, or abstained while MC1 is its most probable type                              |
| measured    | a grade was taken back since the measured marrow contradicts it (`CONTRADICTIONS`)                   |
| numbering   | level numbering is uncertain                                                                       |
| slices      | a level's `slice_disagreement` is `DISAGREEMENT` or more: clear in one slice, unlikely in another    |
| score       | the detector's score of a graded level is below `SCORE`                                            |
| acquisition | the run warned of the study, or the acquisition passes a limit of `ODD`                            |
| pictures    | a graded study without images to look at                                                           |

A level without a grade alone makes no outlier: most studies have one. The report counts them.

sql/cases/ranked.sql decides which studies of a large cohort come first; `flags_of` says it in words for those shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from modic.cases.images import Case
from modic.cases.remembered import SCHEMA, in_order, remember, remembered, states
from modic.cases.viewer import as_json
from modic.cohort import Cohort
from modic.config import PairOptions
from modic.decode import decode
from modic.errors import UsageError
from modic.files import read_json
from modic.grades import AbstainedReason, P
from modic.records import LEVELS, StudyWarning
from modic.tables.query import rows_of, statements
from modic.tables.schema import OLDEST
from modic.tables.strata import UNKNOWN, scanner_name

KINDS = ("MC1", "measured", "numbering", "slices", "score", "acquisition", "pictures")
DISAGREEMENT, SCORE = 0.7, 0.6
MOST = 10_000
"""Studies that a page shows: one of more is slow to open. Of each it holds 0.5 kB, and 2 kB with pictures."""
LITTLE_OVERLAP = PairOptions().overlap_warn
SEPARATOR = "; "
"""Between two warnings in the column `warnings` of `studies`."""

CONTRADICTIONS = {
    AbstainedReason.T1_DARK: "likely MC2, but dark on T1",
    AbstainedReason.T1_BRIGHT: "likely MC1, but bright on T1",
    AbstainedReason.LIKE_TYPE_1: "likely MC0, but dark on T1 and bright on T2",
}
"""Why measurements took a grade back → words for the page."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Flag:
    """Why a study is an outlier: a kind of `KINDS`, how extreme it is (larger is more), and words for the page."""

    kind: str
    extent: float
    text: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of one series: the largest value of its columns, or the smallest if `below`, must not pass it."""

    text: str  # format with {name} (T1 or T2) and {value}
    columns: tuple[str, ...]  # of the table `series`
    limit: float
    below: bool = False

    def passed_by(self, series: Row, name: str) -> str | None:
        """The text if the series passes the limit."""
        values = [series[column] for column in self.columns if series.get(column) is not None]
        if not values:
            return None
        value = min(values) if self.below else max(values)
        beyond = value < self.limit if self.below else value > self.limit
        return self.text.format(name=name, value=value) if beyond else None


ODD = (
    Limit("{name} in-plane spacing {value:.2f} mm", ("pixel_spacing_row_mm", "pixel_spacing_column_mm"), 1.2),
    Limit("{name} slice spacing {value:.1f} mm", ("slice_spacing_mm",), 6.0),
    Limit("{name} only {value:.0f} slices", ("n_slices",), 9, below=True),
)


def gather_cases(connection: duckdb.DuckDBPyConnection, cohort_root: Path, most: int = MOST) -> str:
    """JSON of what the viewer shows of the `most` studies to look at first, outliers first, and the number `n` of all.

    `connection`: to the tables of the cohort (modic.tables.query.connect). Only studies that are shown, and that the
    last report showed otherwise, become Python objects: a cohort may hold hundreds of thousands.
    """
    cohort, sql = Cohort(cohort_root), statements("cases")
    ranked = connection.sql(sql["ranked"]).to_arrow_table()
    pictured = [(run_id, key) for run_id in pc.unique(ranked["run_id"]).to_pylist()
                for key in cohort.with_pictures(run_id)]  # fmt: skip
    connection.register("shown", _first(ranked, pictured, most).select(["study_key"]))
    with _only(connection, "shown"):
        now = states(connection, cohort, pictured)
    shown = remembered(cohort, now)
    if changed := sorted(now.keys() - set(shown["study_key"].to_pylist())):
        rows = [_shown(cohort, study, now[study["study_key"]]) for study in _rows_of(connection, changed)]
        shown = pa.concat_tables([shown, pa.Table.from_pylist(rows, SCHEMA)])
        remember(cohort, shown)
    page = as_json({"levels": LEVELS, "kinds": KINDS, "n": len(ranked)})
    return f'{page[:-1]},"studies":[{",".join(in_order(shown))}]}}'


def _rows_of(connection: duckdb.DuckDBPyConnection, study_keys: list[str]) -> list[Row]:
    """The rows of sql/cases/studies.sql about these studies."""
    connection.register("wanted", pa.table({"study_key": study_keys}))
    with _only(connection, "wanted"):
        return rows_of(connection, statements("cases")["studies"])


@contextmanager
def _only(connection: duckdb.DuckDBPyConnection, keys: str) -> Iterator[None]:
    """For that time, the files of studies and levels hold nothing but the studies of the table `keys`."""
    try:
        for name in ("studies", "levels"):
            of_them = f"FROM {name} SEMI JOIN {keys} USING (study_key)"
            connection.execute(f'CREATE OR REPLACE TEMP VIEW "{name}.parquet" AS {of_them}')
        yield
    finally:
        for name in ("studies", "levels"):
            connection.execute(f'DROP VIEW IF EXISTS temp."{name}.parquet"')


def _first(ranked: pa.Table, pictured: Iterable[tuple[str, str]], most: int) -> pa.Table:
    """The first `most` rows of sql/cases/ranked.sql in the order of `rank`, once it is known who has pictures."""
    drawn = [f"{run_id} {key}" for run_id, key in pictured]
    names = pc.binary_join_element_wise(ranked["run_id"], ranked["study_key"], " ")
    graded = pc.equal(ranked["status"], "graded")
    without = pc.and_(graded, pc.invert(pc.is_in(names, pa.array(drawn, pa.string()))))
    fine = pc.if_else(pc.equal(ranked["status"], "failed"), 0, pc.if_else(graded, 1, 2))
    others = pc.if_else(without, KINDS.index("pictures"), pc.add(fine, len(KINDS)))
    keys = {
        "kind": pc.coalesce(ranked["kind"].cast(pa.int64()), others.cast(pa.int64())),
        "extent": pc.coalesce(ranked["extent"], pc.if_else(without, 1.0, 0.0)),
        "study_key": ranked["study_key"],
    }
    order = [("kind", "ascending"), ("extent", "descending"), ("study_key", "ascending")]
    return ranked.take(pc.sort_indices(pa.table(keys), sort_keys=order)[:most])


def _shown(cohort: Cohort, study: Row, state: str) -> Row:
    """A row of SCHEMA, once it is known whether the pictures of a study can be shown."""
    folder, levels = cohort.pictures(study["run_id"], study["study_key"]), study["levels"] or []
    case = read_case(folder)
    flags = flags_of(study, levels, case is not None)
    kind, extent, key = rank(flags, study)
    text = as_json(study_for_page(study, levels, case, flags, folder))
    return {"study_key": key, "state": state, "kind": kind, "extent": extent, "study": text}


def read_case(folder: Path) -> Row | None:
    """`case.json` of a study's images (modic/cases/images.py); None if there are none, or it is damaged."""
    case = read_json(folder / "case.json")
    if case is None:
        return None
    try:
        decode(Case, case, "case.json")
    except UsageError:
        return None
    return case


def flags_of(study: Row, levels: list[Row], pictures: bool) -> list[Flag]:
    """Everything that makes a graded study an outlier, in the order of `KINDS`; empty if it was not graded.

    `pictures`: whether it has any.
    """
    if study["status"] != "graded":
        return []
    warnings = study["warnings"].split(SEPARATOR) if study["warnings"] else []
    no_images = [text for text in warnings if StudyWarning.of(text) is StudyWarning.NO_IMAGES]
    flags = [*_doubts(study, levels)]
    if odd := [*odd_acquisition(study), *(text for text in warnings if text not in no_images)]:
        flags.append(Flag("acquisition", len(odd), SEPARATOR.join(odd)))
    if not pictures:
        flags.append(Flag("pictures", 1, (no_images or [str(StudyWarning.NO_IMAGES)])[0]))
    return flags


def _doubts(study: Row, levels: list[Row]) -> Iterable[Flag]:
    """What is to be looked at first, and what the networks themselves were unsure of."""
    if suspected := {level["level"]: level["p_mc1"] for level in levels if suspects_mc1(level)}:
        said = ", ".join(f"{name} ({p:.2f})" for name, p in suspected.items())
        yield Flag("MC1", max(suspected.values()), f"MC1 suspected at {said}")
    if odd := {level["level"]: CONTRADICTIONS[level["abstained_reason"]] for level in levels if contradicted(level)}:
        yield Flag("measured", len(odd), SEPARATOR.join(f"{name} {text}" for name, text in odd.items()))
    if study["level_numbering"] == "uncertain":
        probability = study["level_numbering_probability"] or 0.0
        yield Flag("numbering", 1 - probability, f"level numbering uncertain ({probability:.2f})")
    disagreement = {level["level"]: level["slice_disagreement"] or 0.0 for level in levels}
    if large := {name: value for name, value in disagreement.items() if value >= DISAGREEMENT}:
        yield Flag("slices", max(large.values()), f"slices disagree at {', '.join(large)}")
    scores = {level["level"]: level["level_score"] for level in levels if level["status"] == "graded"}
    if low := {name: score for name, score in scores.items() if score is not None and score < SCORE}:
        yield Flag("score", 1 - min(low.values()), f"low detection score at {', '.join(low)}")


def suspects_mc1(level: Row) -> bool:
    """Whether MC1 is the grade of a level or, if it abstained, its most probable type (the view `suspected_mc1`)."""
    p = [level[column] for column in P]
    return None not in p and (level["mc"] == 1 or (level["mc"] is None and p[1] == max(p)))


def contradicted(level: Row) -> bool:
    """Whether a grade was taken back since the marrow contradicts it (the view `contradicting_measurements`)."""
    return level["abstained_reason"] in CONTRADICTIONS


def odd_acquisition(study: Row) -> list[str]:
    """Texts of the limits that T1 or T2 of a study passes, and of a T1 that covers too little of T2."""
    texts = [limit.passed_by(study[name] or {}, name.upper()) for name in ("t1", "t2") for limit in ODD]
    overlap = study["overlap_fraction"]
    if overlap is not None and overlap < LITTLE_OVERLAP:
        texts.append(f"T1 covers {overlap:.0%} of T2")
    return [text for text in texts if text]


def rank(flags: list[Flag], study: Row) -> tuple[int, float, str]:
    """What studies are sorted by: outliers by their first flag, then failed, graded and excluded studies."""
    if flags:
        return KINDS.index(flags[0].kind), -flags[0].extent, study["study_key"]
    after = {"failed": 0, "graded": 1}.get(study["status"], 2)
    return len(KINDS) + after, 0.0, study["study_key"]


def study_for_page(study: Row, levels: list[Row], case: Row | None, flags: list[Flag], folder: Path) -> Row:
    """One study as modic/cases/viewer.js reads it; `folder`: of its pictures."""
    drawn = case["levels"] if case else {}
    return {
        "key": study["study_key"],
        "run": study["run_id"],
        "status": study["status"],
        **({"why": _words(study["reason"], study["detail"])} if study["reason"] else {}),
        "scanner": scanner_name(study, field=True) or UNKNOWN,
        "about": _person(study),
        "flags": [[KINDS.index(flag.kind), flag.text] for flag in flags],
        **({"path": f"../{folder.parent.parent.name}/cases/{folder.name}"} if case else {}),
        **({"size": case["size"], "slices": case["slices"]} if case else {}),
        "levels": [_level_for_page(level, drawn.get(level["level"], {})) for level in levels],
    }


def _person(study: Row) -> str:
    """Age, sex and year of the study."""
    age = study["age_years"]
    years = "" if age is None else f"{age} y or older" if age >= OLDEST else f"{age} y"
    return ", ".join(filter(None, (years, study["sex"], str(study["study_year"] or ""))))


def _words(*parts: str | None) -> str:
    return " ".join(str(part) for part in parts if part)


def _level_for_page(level: Row, drawn: Mapping[str, Any]) -> Row:
    """One level; the names are short since there are six a study. `drawn`: its part of `case.json`."""
    if level["status"] != "graded":
        return {"why": level["reason"], **({"box": drawn["box"]} if "box" in drawn else {})}
    p = [round(level[column], 3) for column in P]
    apart = {} if level["slice_disagreement"] is None else {"apart": round(level["slice_disagreement"], 3)}
    odd = {"odd": CONTRADICTIONS[level["abstained_reason"]]} if contradicted(level) else {}
    return {"mc": level["mc"], "p": p, "score": round(level["level_score"] or 0.0, 2), **apart, **odd, **drawn}
