"""Files that appear whole or not at all: text, JSON, Parquet."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def read_json(path: Path) -> dict[str, Any] | None:
    """The keys and values in a JSON file; None if it is missing, damaged or holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as JSON with `write_whole`; returns `path`."""
    return write_whole(path, json.dumps(value, ensure_ascii=False))


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write `path` so that it appears whole or not at all, also after a kill or a power cut; returns it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
    return path


def sync_directory(path: Path) -> None:
    """Make the names in a directory as durable as the files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file that appears whole or not at all, also after a kill or a power cut.

    Until it is whole it lies beside `path` under a hidden name that pandas, pyarrow and DuckDB ignore.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part.parquet.tmp")
    with temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd", row_group_size=100_000, write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
