"""Every night with a site's own grader: do its newest images still look like those that the site read?

`modic adapt` keeps the baseline beside the grader (`DRIFT` in its folder). The features of the `LOOKED_AT` newest
studies are compared with it by scanner, field strength and year (modic/statistics/drift.py). Without such a grader
nothing is read.
"""

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from modic.decode import decode_json
from modic.errors import UsageError
from modic.models.card import is_path, weights_path
from modic.records import LevelFeatures
from modic.run.prepare import Run
from modic.tables.features import newest_features
from modic.tables.strata import GROUPS, STUDY_COLUMNS
from modic.text import counted

if TYPE_CHECKING:
    from modic.statistics.drift import Drift

DRIFT = "drift.json"
LOOKED_AT = 1000  # studies
BY = {"scanner": "scanner", "field strength": "field", "year": "year"}
"""What groups are told apart by → the word in `modic review --by`."""


def drifting(run: Run, graded: pa.Table, studies: pa.Table) -> str:
    """What looks unlike the discs that were read, and the cure; empty if nothing does, or no site's grader is in use.

    `graded`: the ledger's row of every study; `studies`: the table.
    """
    name = run.config.classifier
    path = weights_path(name, "classifier").with_name(DRIFT) if is_path(name) else None
    if path is None or not path.is_file():
        return ""
    from modic.statistics.drift import Baseline, drift

    ours = pc.and_(pc.equal(graded["status"], "graded"), pc.equal(graded["classifier_id"], run.classifier_id))
    wanted = set(graded.filter(ours)["study_key"].to_pylist())
    kept = dict(islice(newest_features(run.cohort, wanted, damaged=lambda *_: None), LOOKED_AT))
    try:
        baseline = decode_json(Baseline, path.read_bytes(), str(path))
        found = drift(baseline, *_discs(kept, studies))
    except (UsageError, OSError, ValueError):
        return (
            f"{DRIFT} beside the site's grader is damaged, so nobody sees whether images change: modic adapt writes it"
        )
    return sentence([one for one in found if one.far and one.few_read])


def sentence(found: "list[Drift]") -> str:
    """That these groups look unlike what was read, and the cure; empty for none."""
    if not found:
        return ""
    named = "; ".join(f"{one.which} ({one.distance:.1f} SD away, {counted(one.read, 'disc')} read)" for one in found)
    by = next(BY[what] for what in BY if any(one.what == what for one in found))
    return (
        f"images look unlike those that the site's grader was adapted to: {named}. Do not rely on its grades there;"
        f" read some (modic review COHORT --sample 60 --by {by},grade --out DIR) and run modic adapt again with all"
        " readings"
    )


def _discs(kept: Mapping[str, Mapping[str, LevelFeatures]], studies: pa.Table) -> tuple[Any, Any, dict[str, Any]]:
    """Features, patients and groups of discs, as `modic.statistics.drift.drift` takes them."""
    import numpy as np

    of = {row["study_key"]: row for row in studies.select(STUDY_COLUMNS).to_pylist() if row["study_key"] in kept}
    rows = [(of[key], level.features) for key, levels in kept.items() if key in of for level in levels.values()]
    features = np.stack([values for _, values in rows]) if rows else np.zeros((0, 0))
    patients = np.array([study["patient_key"] for study, _ in rows])
    return features, patients, {what: np.array([name(study) for study, _ in rows]) for what, name in GROUPS.items()}
