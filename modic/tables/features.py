"""What decides a grade besides the classifier's card, kept for every graded level.

`private/features/<run_id>/<shard>.parquet`: one row is one level, with keys and `modic.records.LevelFeatures` as bytes
(of half-precision features all high bytes before the low ones, which compress better). The ledger's row of the same run
and study says which networks, options and images they are of (its column `encoding`).
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.cohort import Cohort
from modic.files import make_folder, write_table
from modic.grades import CLASSES
from modic.records import LevelFeatures

TYPES = {"logits": "<f4", "slice_logits": "<f4", "features": "<f2", "marrow": "<f8", "endplates": "<f8"}
"""Fields of `LevelFeatures` → their numbers as they are stored."""
SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("study_key", "level")]
    + [pa.field(name, pa.binary(), nullable=False) for name in TYPES]
)


def write_features(path: Path, studies: Iterable[tuple[str, Mapping[str, LevelFeatures]]]) -> bool:
    """Write the features of studies (key, levels) to `path`, whole or not at all; whether there were any."""
    rows = [
        {"study_key": key, "level": level, **{name: _stored(name, getattr(kept, name)) for name in TYPES}}
        for key, levels in studies
        for level, kept in levels.items()
    ]
    if rows:
        make_folder(path.parent)
        write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return bool(rows)


def read_features(path: Path, wanted: set[str] | None = None) -> Iterator[tuple[str, dict[str, LevelFeatures]]]:
    """Studies in the order of the file with their levels; `wanted`: study keys, None for all.

    Raises pyarrow.ArrowException or OSError for a file that cannot be read.
    """
    study, levels = "", dict[str, LevelFeatures]()
    keys = None if wanted is None else pa.array(sorted(wanted), pa.string())
    for batch in pq.ParquetFile(path, page_checksum_verification=True).iter_batches(2048):
        chosen = batch if keys is None else batch.filter(pc.is_in(batch["study_key"], keys))
        for row in chosen.to_pylist():
            if row["study_key"] != study and levels:
                yield study, levels
                levels = {}
            study = row["study_key"]
            levels[row["level"]] = _of_row(row)
    if levels:
        yield study, levels


def files_of(folder: Path) -> list[Path]:
    """The whole files of a run's features."""
    return sorted(folder.glob("[!.]*.parquet"))


def newest_features(
    cohort: Cohort, wanted: Collection[str], *, damaged: Callable[[Path, Exception], None],
    of: Container[tuple[str, str]] | None = None,
) -> Iterator[tuple[str, dict[str, LevelFeatures]]]:  # fmt: skip
    """The newest kept features of each of these studies, the newest run first.

    Args:
        cohort: that kept them.
        wanted: study keys.
        damaged: is told of a file that cannot be read, and may raise; else its studies are looked for in earlier runs.
        of: (study key, run id) of the gradings whose features count; None: all.
    """
    missing = set(wanted)
    for run in reversed(cohort.runs()):
        here = {key for key in missing if of is None or (key, run.name) in of}
        for path in files_of(cohort.features(run.name)) if here else ():
            try:
                for key, levels in read_features(path, here):
                    missing.discard(key)
                    yield key, levels
            except (pa.ArrowException, OSError) as error:
                damaged(path, error)


def studies_in(path: Path) -> set[str]:
    """The study keys of a file. Raises as `read_features`."""
    return set(pq.read_table(path, columns=["study_key"], partitioning=None)["study_key"].to_pylist())


def remove_superseded(folder: Path) -> None:
    """Remove the files of `folder`/<run_id>/ whose studies all have features of a later run."""
    later = set[str]()
    for run in sorted(folder.glob("*"), reverse=True):
        of_run = set[str]()
        for path in files_of(run):
            try:
                studies = studies_in(path)
            except (pa.ArrowException, OSError):
                studies = set()  # damaged: of no use
            of_run |= studies
            if studies <= later:
                path.unlink()
        later |= of_run
        with suppress(OSError):  # others are left in it
            run.rmdir()


def _stored(name: str, values: np.ndarray) -> bytes:
    plain = np.ascontiguousarray(values, TYPES[name])
    return _turned(plain.tobytes(), 2) if name == "features" else plain.tobytes()


def _of_row(row: dict[str, bytes]) -> LevelFeatures:
    turned = row["features"]
    values = row | {"features": _turned(turned, len(turned) // 2) if turned else b""}
    arrays = {name: np.frombuffer(values[name], kind) for name, kind in TYPES.items()}
    return LevelFeatures(**{**arrays, "slice_logits": arrays["slice_logits"].reshape(-1, CLASSES)})


def _turned(values: bytes, width: int) -> bytes:
    """Bytes as a matrix of so many columns, transposed."""
    return np.frombuffer(values, np.uint8).reshape(-1, width).T.tobytes()
