"""Which studies are as the last run found them, so that nothing of them needs to be identified, paired or published.

`private/surveyed.parquet` holds a digest of the files of every study that the last run published. A study is *as
before* if its digest is the same, its grades are in the ledger, and nothing is new about the others that its rows
depend on: studies of the same patient, or with a series of the same UID (modic/series/identify.py and pair.py).
The file counts only if it is of the run that published the current tables, by the same code, options and weights.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.archive.crawl import Crawl
from modic.archive.header_index import is_of
from modic.cohort import Cohort
from modic.deidentify.pseudonyms import Pseudonyms
from modic.files import write_table
from modic.run.batches import NAMES, batches, links
from modic.run.prepare import Run
from modic.series.company import UNREADABLE
from modic.tables.store import read_table
from modic.versions import code_hash

STATE = pa.schema(
    [
        ("study_uid", pa.string()),
        ("images", pa.int64()),  # number of header rows
        ("digest", pa.uint64()),  # of their paths, members, frames, sizes and times
        ("study_key", pa.string()),
        ("fingerprint", pa.string()),  # of modic.run.shards.Work; null for a study without a pair
        ("with_others", pa.string()),
        ("names", pa.list_(pa.string())),  # of modic.run.batches.links: what ties it to others
        ("again", pa.bool_()),  # to be identified in each run: pixels unclear, or unreadable files beside its images
    ]
)
DIGEST = """
SELECT StudyInstanceUID::VARCHAR AS study_uid, count(*)::BIGINT AS images,
  bit_xor(hash(path, member, frame, size, mtime_ns)) AS digest
FROM headers GROUP BY 1
"""
FOLDER = r"/[^/]*$"
CODE = ("archive", "series", "deidentify", "run", "tables")
"""Packages whose code decides what a row holds."""


@dataclass(frozen=True, eq=False)
class Parted:
    """The archive, parted into what is as before and what is to be identified."""

    headers: Iterator[pa.Table]  # of the studies to be identified (modic.run.batches.batches)
    as_before: pa.Table  # of STATE
    digests: pa.Table  # study_uid, images, digest of every study
    names: pa.Table | None = None  # study_uid, names of the studies to be identified
    decided_by: str = ""  # empty: this run must not be remembered
    beside_unreadable: frozenset[str] = field(default_factory=frozenset)  # UIDs of studies


def part(
    run: Run, crawled: Crawl, keys: Pseudonyms, contrasts: Collection[str], finished: Collection[tuple[str, ...]]
) -> Parted:
    """Part what the archive holds.

    Args:
        run: if it is asked for a part of the archive, all of it is to be identified.
        crawled: what modic.archive.crawl.crawl returns.
        keys: pseudonyms of the cohort.
        contrasts: that the classifier's card asks for.
        finished: what modic.run.ledger.finished returns.
    """
    nothing = STATE.empty_table()
    if not run.selection.is_everything:
        return Parted(batches(crawled), nothing, nothing.select(["study_uid", "images", "digest"]))
    decided_by = _decided_by(run, keys, contrasts)
    digests = _ask(crawled.images, DIGEST)
    beside = _beside_unreadable(crawled.images, crawled.rejected)
    state = _remembered(run, decided_by)
    if state is None:
        edges = links(crawled.columns(NAMES))
        return Parted(batches(crawled, None, edges.to_pandas()), nothing, digests, _lists(edges), decided_by, beside)
    changed = pa.array(sorted(_changed(state, digests, finished) | beside), pa.string())
    if not len(changed):
        return Parted(iter(()), state, digests, _lists(_edges(nothing)), decided_by, beside)
    of_changed = crawled.columns(NAMES, is_of(crawled.images["StudyInstanceUID"], changed))
    now, before = links(of_changed), _edges(state)
    changed, direct = _with_linked(changed, pa.concat_tables([now, before])), changed
    stays = pc.invert(pc.is_in(state["study_uid"], changed))
    edges = pa.concat_tables([now, before.filter(pc.invert(pc.is_in(before["study_uid"], direct)))])
    edges = edges.filter(pc.is_in(edges["study_uid"], changed))
    headers = batches(crawled, changed.to_pylist(), edges.to_pandas())
    return Parted(headers, state.filter(stays), digests, _lists(edges), decided_by, beside)


def remember(run: Run, parted: Parted, studies: pa.Table) -> None:
    """Write the state of the archive, for `part` of the next run; to be called before the tables are published.

    `studies`: what the run found (modic.run.found.FOUND).
    """
    if not parted.decided_by or parted.names is None:
        return
    beside = pa.array(sorted(parted.beside_unreadable), pa.string())
    again = pc.or_(studies["unclear"], pc.is_in(studies["study_uid"], beside))
    found = studies.select(["study_uid", "study_key", "fingerprint", "with_others"]).append_column("again", again)
    found = found.join(parted.digests, "study_uid", join_type="inner")
    at = pc.index_in(found["study_uid"], parted.names["study_uid"].combine_chunks())
    found = found.append_column("names", parted.names["names"].take(at)).select(STATE.names).cast(STATE)
    table = pa.concat_tables([parted.as_before.replace_schema_metadata(), found]).combine_chunks()
    write_table(table.replace_schema_metadata({"run": run.run_id, "decided_by": parted.decided_by}), _path(run.cohort))


def _path(cohort: Cohort) -> Path:
    return cohort.private / "surveyed.parquet"


def _remembered(run: Run, decided_by: str) -> pa.Table | None:
    """The state of the archive that the current tables show; None if it is not known, or the links to it are lost."""
    if not run.cohort.links.is_file():
        return None
    try:
        table = pq.read_table(_path(run.cohort), partitioning=None, use_threads=False)
    except (OSError, pa.ArrowException):
        return None
    marks = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    published = read_table(run.cohort.root, "runs")["run_id"].to_pylist()
    if marks.get("decided_by") != decided_by or marks.get("run") != max(published, default=None):
        return None
    return table.select(STATE.names).cast(STATE) if set(STATE.names) <= set(table.column_names) else None


def last_fingerprints(cohort: Cohort) -> dict[str, str | None]:
    """Study key → fingerprint of what the last run published, as far as it is known."""
    try:
        table = pq.read_table(_path(cohort), columns=["study_key", "fingerprint"], partitioning=None)
    except (OSError, pa.ArrowException):
        return {}
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _decided_by(run: Run, keys: Pseudonyms, contrasts: Collection[str]) -> str:
    """Hash of everything but the images that decides what the rows of a study hold."""
    parts = [
        run.archive,
        run.config.grading_hash(),
        run.models,
        run.weights,
        *contrasts,
        keys.check,
        duckdb.__version__,
        code_hash(*CODE),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _ask(headers: pa.Table, sql: str) -> pa.Table:
    with duckdb.connect(":memory:") as connection:
        connection.register("headers", headers)
        return connection.sql(sql).to_arrow_table()


def _changed(state: pa.Table, digests: pa.Table, finished: Collection[tuple[str, ...]]) -> set[str]:
    """UIDs of studies that are new, changed or gone, whose grades are not in the ledger, or that say so themselves."""
    at = pc.index_in(digests["study_uid"], state["study_uid"])
    same = pc.is_valid(at)
    for name in ("images", "digest"):
        same = pc.and_(same, pc.fill_null(pc.equal(digests[name], state[name].take(at)), False))
    new = digests.filter(pc.invert(same))["study_uid"].to_pylist()
    gone = state.filter(pc.invert(pc.is_in(state["study_uid"], digests["study_uid"])))["study_uid"].to_pylist()
    again = state.filter(state["again"])["study_uid"].to_pylist()
    pairs = state.filter(pc.is_valid(state["fingerprint"]))
    columns = (pairs[name].to_pylist() for name in ("study_uid", "study_key", "fingerprint", "with_others"))
    left = [uid for uid, key, print_, others in zip(*columns, strict=True)
            if (key, print_) not in finished and (key, others) not in finished]  # fmt: skip
    return {*new, *gone, *again, *left}


def _edges(state: pa.Table) -> pa.Table:
    """`study_uid` and each `name` of STATE, as modic.run.batches.links has them."""
    names = state["names"].combine_chunks()
    return pa.table({"study_uid": state["study_uid"].take(pc.list_parent_indices(names)), "name": names.flatten()})


def _lists(edges: pa.Table) -> pa.Table:
    """`study_uid` and the list `names` of each study."""
    table = edges.group_by("study_uid").aggregate([("name", "list")])
    return table.select(["study_uid", "name_list"]).rename_columns(["study_uid", "names"])


def _with_linked(changed: pa.Array, edges: pa.Table) -> pa.Array:
    """UIDs of the studies `changed`, and of every study that shares a name with one of them, or did in the last run.

    `edges`: `study_uid` and `name`, those of the last run too.
    """
    while True:
        shared = pc.unique(edges["name"].filter(pc.is_in(edges["study_uid"], changed)))
        linked = edges["study_uid"].filter(pc.is_in(edges["name"], shared))
        more = pc.unique(pa.chunked_array([changed, *linked.chunks]))
        if len(more) == len(changed):
            return changed
        changed = more


def _beside_unreadable(images: pa.Table, rejected: pa.Table) -> frozenset[str]:
    """UIDs of the studies in whose folders lie files that cannot be read."""
    reasons = pa.array([str(reason) for reason in UNREADABLE], pa.string())
    paths = rejected.filter(pc.is_in(rejected["reason"].cast(pa.string()), reasons))["path"].cast(pa.string())
    if not len(paths):
        return frozenset()
    folders = pc.unique(pc.replace_substring_regex(paths, FOLDER, ""))
    of_image = pc.replace_substring_regex(images["path"].cast(pa.string()), FOLDER, "")
    beside = images["StudyInstanceUID"].filter(pc.is_in(of_image, folders))
    return frozenset(pc.unique(beside.cast(pa.string())).to_pylist())
