"""Two runs of one cohort: what another grader changed. `modic compare COHORT RUN RUN`.

A run's grades are, for each study, those of its last grading up to that run, from the finished shards of the ledger.
Only studies that both graded are compared.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from modic.cohort import open_cohort
from modic.errors import UsageError
from modic.grades import GRADES, PARTS
from modic.records import LEVELS
from modic.run.ledger import read_ledger
from modic.statistics.intervals import clustered_share
from modic.statistics.metric_tables import Table, cell, with_intervals
from modic.statistics.metrics import Numbers, kappas
from modic.tables.store import read_table
from modic.text import counted

ANSWERS = (*GRADES, "abstained", "not graded")
"""What may become of a level of a graded study."""
WHO = ("grading_version", "grader_id", "detector_id", "classifier_id", "configuration_hash")
SHOWN = 20  # levels that moved which are printed


@dataclass(frozen=True, slots=True)
class Comparison:
    """`levels`: one row a level that both runs graded: study_key, patient_key, level, before, after (answers), and the
    confidences. `only`: studies that one of the two graded alone. `graders`: one row a grader of each run's rows."""

    runs: tuple[str, str]
    levels: pd.DataFrame
    only: tuple[int, int]
    graders: pd.DataFrame

    @property
    def moved(self) -> pd.DataFrame:
        """The levels with another answer, in the order of the tables."""
        return self.levels[self.levels["before"] != self.levels["after"]]

    def tables(self) -> list[Table]:
        """What is printed."""
        return [self._graders(), self._cross(), self._agreement(), self._prevalence(), self._moved()]

    def _graders(self) -> Table:
        columns = ("run", "studies", *WHO)
        rows = [tuple(str(row[name]) for name in columns) for row in self.graders.to_dict("records")]
        only = f"graded by {self.runs[0]} alone: {self.only[0]}, by {self.runs[1]} alone: {self.only[1]}"
        return Table(
            f"graders ({counted(self.levels['study_key'].nunique(), 'study')} graded by both; {only})", columns, rows
        )

    def _cross(self) -> Table:
        counts = pd.crosstab(self.levels["before"], self.levels["after"]).reindex(
            index=list(ANSWERS), columns=list(ANSWERS), fill_value=0
        )
        rows = [(name, *(str(n) for n in counts.loc[name])) for name in ANSWERS if counts.loc[name].any()]
        return Table(f"levels: {self.runs[0]} (rows) and {self.runs[1]} (columns)", ("", *ANSWERS), rows)

    def _agreement(self) -> Table:
        both = self.levels[self.levels["before"].isin(GRADES) & self.levels["after"].isin(GRADES)]
        if both.empty:
            return Table("agreement: no level has a grade in both", ("number", "value"), [])
        a, b = (both[name].map(GRADES.index).to_numpy(int) for name in ("before", "after"))

        def numbers(rows: np.ndarray) -> Numbers:
            return kappas(a[rows], b[rows]) | {("same grade", "all"): float((a[rows] == b[rows]).mean())}

        found = with_intervals(numbers, both["patient_key"].tolist(), lambda key: np.ones(len(a), bool))
        body = [(f"{r['metric']}, {r['which']}", cell(found, r["metric"], r["which"])) for r in found]
        return Table(
            f"agreement, {counted(len(both), 'level')} with a grade in both", ("number", "value (95 % interval)"), body
        )

    def _prevalence(self) -> Table:
        rows = []
        for name, types in PARTS.items():
            shares = [self._share(side, {GRADES[k] for k in types}) for side in ("before", "after")]
            rows.append((name, *shares))
        abstained = [(self.levels[side] == "abstained").mean() for side in ("before", "after")]
        rows.append(("abstained", *(f"{100 * share:.1f}" for share in abstained)))
        return Table("% of levels with a grade, as graded (of all levels: abstained)", ("", *self.runs), rows)

    def _share(self, side: str, names: set[str]) -> str:
        decided = self.levels[self.levels[side].isin(GRADES)]
        if decided.empty:
            return "-"
        found = clustered_share(decided[side].isin(names).to_numpy(), decided["patient_key"].to_numpy())
        return f"{100 * found.value:.1f} ({100 * found.low:.1f}-{100 * found.high:.1f})"

    def _moved(self) -> Table:
        columns = ("study_key", "level", "before", "after", "confidence_before", "confidence_after")
        rows = [
            tuple("" if pd.isna(v) else f"{v:.2f}" if isinstance(v, float) else str(v) for v in row)
            for row in self.moved[list(columns)].head(SHOWN).itertuples(index=False)
        ]
        return Table(f"levels that moved: {len(self.moved)} (the first {len(rows)}; --out writes all)", columns, rows)


def compare(cohort_root: Path, first: str, second: str) -> Comparison:
    """The grades of two runs of a cohort beside each other.

    Raises UsageError if `cohort_root` is no cohort, a run is not in it, both are the same, or no study was graded by
    both.
    """
    cohort = open_cohort(cohort_root)
    if first == second:
        raise UsageError(f"{first} is named twice; name two runs")
    known = [path.name for path in cohort.runs()]
    for run in (first, second):
        if run not in known:
            raise UsageError(f"{cohort_root} has no run {run}; it has {', '.join(known) or 'none'}")
    ledger = read_ledger(cohort)
    sides = [_as_of(ledger, run) for run in (first, second)]
    known_to = [set(side["study_key"].to_pylist()) for side in sides]
    both = pa.array(sorted(known_to[0] & known_to[1]), pa.string())
    if not len(both):
        raise UsageError(f"no study was graded by both {first} and {second}")
    shared = [side.filter(pc.is_in(side["study_key"], both)) for side in sides]
    before, after = (_answers(side) for side in shared)
    frame = before.merge(after, on=["study_key", "level"], suffixes=("_before", "_after"))
    frame = frame.rename(columns={"answer_before": "before", "answer_after": "after"})
    studies = read_table(cohort_root, "studies").select(["study_key", "patient_key"]).to_pandas()
    frame = frame.merge(studies, on="study_key", how="left")
    frame["patient_key"] = frame["patient_key"].fillna(frame["study_key"])
    only = (len(known_to[0] - known_to[1]), len(known_to[1] - known_to[0]))
    return Comparison((first, second), frame, only, _graders_of((first, second), shared))


def _as_of(ledger: pa.Table, run: str) -> pa.Table:
    """The last row of the ledger up to `run` about each study, of graded studies."""
    rows = ledger.filter(pc.less_equal(ledger["run_id"], run))
    places = rows.select(["study_key"]).append_column("place", pa.array(np.arange(len(rows))))
    last = places.group_by("study_key").aggregate([("place", "max")])["place_max"]
    rows = rows.take(last)
    return rows.filter(pc.equal(rows["status"], "graded"))


def _answers(side: pa.Table) -> pd.DataFrame:
    """answer and confidence of each of LEVELS of each study, by study_key and level, in their order."""
    side = side.combine_chunks()
    levels = pc.list_flatten(side["levels"])
    keys = side["study_key"].take(pc.list_parent_indices(side["levels"]))
    status, mc, name, sure = (pc.struct_field(levels, column) for column in ("status", "mc", "level", "confidence"))
    graded = pc.fill_null(pc.equal(status, "graded"), False)
    answer = pc.fill_null(pc.take(pa.array(GRADES), mc.cast(pa.int64())), "abstained")
    answer = pc.if_else(graded, answer, "not graded")
    rows = pd.DataFrame({"study_key": keys.to_pandas(), "level": name.to_pandas(), "answer": answer.to_pandas()})
    rows["confidence"] = sure.to_pandas().astype(float)
    every = pd.MultiIndex.from_product([sorted(side["study_key"].to_pylist()), LEVELS], names=["study_key", "level"])
    rows = rows.set_index(["study_key", "level"]).reindex(every).fillna({"answer": "not graded"})
    return rows.reset_index()


def _graders_of(runs: tuple[str, str], sides: list[pa.Table]) -> pd.DataFrame:
    parts = [side.select(WHO).to_pandas().assign(run=run) for run, side in zip(runs, sides, strict=True)]
    rows = pd.concat(parts).astype(object)
    rows = rows.where(rows.notna(), "unknown")
    return rows.groupby(["run", *WHO], sort=True).size().rename("studies").reset_index()
