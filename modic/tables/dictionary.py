"""The data dictionary: `modic.tables.schema` for people (Markdown) and for programs (a Frictionless data package).

Both are published beside the tables, in the same step, so that a cohort explains itself wherever it is copied.
"""

import json
from typing import Any

import pyarrow as pa

from modic.records import LEVELS
from modic.tables.schema import CLOSED, KEYS, REFERENCES, ROWS, SCHEMA_VERSION, SCHEMAS

MARKDOWN, PACKAGE = "dictionary.md", "datapackage.json"
"""Names of the files beside the tables."""

INTRODUCTION = f"""# Data dictionary

Schema version {SCHEMA_VERSION}, which each Parquet file also says in its metadata. Every table has one row per key.
Empty is null: unknown, or not applicable; never 0. Keys are pseudonyms (keyed hashes).
"""


def dictionary() -> str:
    """The data dictionary in Markdown: a table for each of the four tables."""
    return "\n".join([INTRODUCTION, *(line for name in SCHEMAS for line in _section(name))])


def _section(name: str) -> list[str]:
    lines = [f"## {name}", "", f"One row is {ROWS[name]}. Key: {', '.join(KEYS[name])}.", ""]
    lines += ["| column | type | unit | null | meaning | values |", "|---|---|---|---|---|---|"]
    for field in SCHEMAS[name]:
        null = "yes" if field.nullable else "no"
        cells = [note(field, "description"), _values(name, field)]
        lines.append(f"| `{field.name}` | {field.type} | {note(field, 'unit')} | {null} | {' | '.join(cells)} |")
    return [*lines, ""]


def note(field: pa.Field, key: str) -> str:
    """A column's `description`, `unit`, `minimum` or `maximum` as the schema gives it; "" if it gives none."""
    return (field.metadata or {}).get(key.encode(), b"").decode()


def allowed(table: str, column: str) -> list[str]:
    """The closed list of a column, sorted (levels from head to foot); empty if it has none."""
    values = CLOSED.get((table, column), frozenset())
    return list(LEVELS) if values == frozenset(LEVELS) else sorted(values)


def _values(table: str, field: pa.Field) -> str:
    if target := REFERENCES.get((table, field.name)):
        return f"a key of {target}"
    if values := allowed(table, field.name):
        return ", ".join(f"`{value}`" for value in values)
    low, high = note(field, "minimum"), note(field, "maximum")
    return f"{low} to {high}" if high else f"{low} or more" if low else ""


def datapackage(run_id: str, rows: dict[str, int]) -> dict[str, Any]:
    """The tables of a run as a Frictionless Data Package (v1); `rows`: how many rows each table holds."""
    return {
        "profile": "data-package",
        "name": "modic-cohort",
        "title": "Modic changes in a cohort of lumbar MRI",
        "description": "Research use only, not for diagnosis. Keys are pseudonyms.",
        "id": run_id,
        "version": str(SCHEMA_VERSION),
        "resources": [_resource(name, rows[name]) for name in SCHEMAS],
    }


def _resource(name: str, rows: int) -> dict[str, Any]:
    targets = {column: target for (table, column), target in REFERENCES.items() if table == name}
    keys = [
        {"fields": [column], "reference": {"resource": target, "fields": list(KEYS[target])}}
        for column, target in targets.items()
    ]
    return {
        "name": name,
        "type": "table",
        "title": ROWS[name],
        "path": f"{name}.parquet",
        "format": "parquet",
        "mediatype": "application/vnd.apache.parquet",
        "rows": rows,
        "schema": {
            "fields": [_field(name, field) for field in SCHEMAS[name]],
            "missingValues": ["", "nan"],  # how pandas, with which `frictionless validate` reads, writes a null
            "primaryKey": list(KEYS[name]),
            **({"foreignKeys": keys} if keys else {}),
        },
    }


def _field(table: str, field: pa.Field) -> dict[str, Any]:
    constraints: dict[str, Any] = {} if field.nullable else {"required": True}
    if values := allowed(table, field.name):
        constraints["enum"] = values
    constraints |= {bound: json.loads(text) for bound in ("minimum", "maximum") if (text := note(field, bound))}
    unit = note(field, "unit")
    return {
        "name": field.name,
        "type": _type(field.type),
        "description": note(field, "description"),
        **({"unit": unit} if unit else {}),
        **({"constraints": constraints} if constraints else {}),
    }


def _type(kind: pa.DataType) -> str:
    """The Frictionless type of an Arrow type. Lists are `any`: they are read as numpy arrays, which `array` refuses."""
    if pa.types.is_list(kind):
        return "any"
    if pa.types.is_timestamp(kind):
        return "datetime"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "integer" if pa.types.is_integer(kind) else "number" if pa.types.is_floating(kind) else "string"
