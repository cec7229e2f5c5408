"""The studies that a run has to identify, in batches of header rows, so that memory does not grow with the archive.

Studies of one patient, or with a series of the same UID, are in one batch, since their rows depend on each other
(modic/series/identify.py and pair.py).
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from modic.archive.crawl import Crawl
from modic.archive.patient_identity import identity_value, one_way

IMAGES = 20_000
"""Header rows of a batch, or more if that many depend on each other."""
NAMES = ["StudyInstanceUID", "PatientID", "SeriesInstanceUID"]
LINKED = """
SELECT DISTINCT StudyInstanceUID::VARCHAR AS study_uid, unnest([PatientID::VARCHAR, SeriesInstanceUID::VARCHAR]) AS name
FROM headers
"""


def batches(
    crawled: Crawl, wanted: Collection[str] | None = None, edges: pd.DataFrame | None = None
) -> Iterator[pa.Table]:
    """The header rows (modic.archive.header_index.HEADERS) of the studies `wanted`, by UID, or of all, read in turn.

    `edges`: what `links` returns, if it was asked already. Once a batch is asked for, nothing but its rows is held.
    Raises modic.archive.header_index.DamagedIndex.
    """
    edges = links(crawled.columns(NAMES)).to_pandas() if edges is None else edges
    numbers = _batch_of_image(crawled, wanted, edges if wanted is None else edges[edges["study_uid"].isin(wanted)])
    return _read(replace(crawled, images=crawled.images.slice(0, 0)), numbers)


def _read(crawled: Crawl, numbers: np.ndarray) -> Iterator[pa.Table]:
    for number in range(numbers.max(initial=-1) + 1):
        yield crawled.headers_of(pa.chunked_array([pa.array(numbers == number)]))


def _batch_of_image(crawled: Crawl, wanted: Collection[str] | None, edges: pd.DataFrame) -> np.ndarray:
    """The batch of each image, counted from 0 in the order of the archive; -1 for images of other studies. int32."""
    uids = pc.dictionary_encode(crawled.images["StudyInstanceUID"]).unify_dictionaries()
    if not len(uids):
        return np.zeros(0, np.int32)
    studies, study = uids.chunk(0).dictionary.cast(pa.string()), uids.combine_chunks().indices.to_numpy()
    group = _groups(studies.to_pylist(), edges)[study]
    if wanted is not None:
        group[~pc.is_in(studies, pa.array(wanted, pa.string())).to_numpy(zero_copy_only=False)[study]] = -1
    found, first, place, images = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(np.where(found < 0, len(group), first))
    images = np.where(found < 0, 0, images)
    number = np.empty(len(found), np.int32)
    number[order] = (np.cumsum(images[order]) - images[order]) // IMAGES
    return np.where(found < 0, -1, _without_gaps(number))[place].astype(np.int32)


def _without_gaps(numbers: np.ndarray) -> np.ndarray:
    return np.unique(numbers, return_inverse=True)[1]


def _groups(studies: list[str], edges: pd.DataFrame) -> np.ndarray:
    """The group of each study: those that share a name, or are linked by others that do."""
    name, names = pd.factorize(edges["name"])
    study = pd.Index(studies).get_indexer(edges["study_uid"])
    size = len(studies) + len(names)
    graph = coo_array((np.ones(len(edges), np.int8), (study, name + len(studies))), shape=(size, size))
    return connected_components(graph, directed=False)[1][: len(studies)]


def links(headers: pa.Table) -> pa.Table:
    """`study_uid` and each `name` that studies can share: a patient's id, if it is one, and the UIDs of series.

    `headers`: the columns NAMES of header rows.
    """
    with duckdb.connect(":memory:") as connection:
        connection.register("headers", headers)
        table = connection.sql(LINKED).to_arrow_table()
    names = pc.unique(table["name"]).to_pylist()
    nobody = [name for name in names if identity_value({"PatientID": name}, "PatientID") is None]
    edges = table.filter(pc.invert(pc.is_in(table["name"], pa.array(nobody, pa.string()))))
    same = pa.array([one_way(name) for name in edges["name"].to_pylist()], pa.string())
    return edges.set_column(1, "name", pa.chunked_array([same]))
