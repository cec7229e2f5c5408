"""Names the containers that were not read, with the cure, in `private/`, because paths identify patients."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from modic.archive.containers import full_name
from modic.cohort import Cohort
from modic.errors import CURES, Reason
from modic.files import write_whole

NAME = "unread_containers.txt"


def note_unread(cohort: Cohort, rejected: pa.Table) -> str:
    """Write the list, and return a line that says how many they are and where; empty if there are none.

    `rejected`: modic.archive.crawl.Crawl.rejected.
    """
    path = cohort.private / NAME
    rows = rejected.filter(pc.is_in(rejected["reason"].cast(pa.string()), pa.array(map(str, CURES)))).to_pylist()
    if not rows:
        path.unlink(missing_ok=True)
        return ""
    names = [(full_name(row["path"], row["member"]), Reason(row["reason"])) for row in rows]
    write_whole(path, "".join(f"{name}: {reason}, {CURES[reason]}\n" for name, reason in names))
    counts = ", ".join(f"{reason} {n}" for reason, n in sorted(Counter(reason for _, reason in names).items()))
    return f"{len(rows)} files are packed and were not read ({counts}): {path} names them and the cure"
