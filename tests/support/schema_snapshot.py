"""The schema as readers of cohorts know it; `python tests/support/schema_snapshot.py` records it."""

import json
from pathlib import Path
from typing import Any

from modic.tables.dictionary import allowed, note
from modic.tables.schema import KEYS, SCHEMA_VERSION, SCHEMAS

FOLDER = Path(__file__).parent / "schemas"
Columns = dict[str, dict[str, dict[str, Any]]]


def snapshot() -> dict[str, Any]:
    """Version, keys, and every column with what a program that reads it relies on."""
    columns: Columns = {
        table: {
            field.name: {
                "type": str(field.type),
                "nullable": field.nullable,
                "unit": note(field, "unit"),
                "span": [note(field, "minimum"), note(field, "maximum")],
                "values": allowed(table, field.name),
            }
            for field in schema
        }
        for table, schema in SCHEMAS.items()
    }
    return {"version": SCHEMA_VERSION, "keys": {table: list(keys) for table, keys in KEYS.items()}, "columns": columns}


def path_of(version: int) -> Path:
    return FOLDER / f"v{version}.json"


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What a program written for `old` would stumble over in `new`; new columns and new values are not among it."""
    wrong = [f"keys of {table}" for table, keys in old["keys"].items() if new["keys"].get(table) != keys]
    for table, columns in old["columns"].items():
        for name, was in columns.items():
            now = new["columns"].get(table, {}).get(name)
            if now is None:
                wrong.append(f"{table}.{name} is gone")
                continue
            wrong += [f"{table}.{name}: {what}" for what in ("type", "unit", "span") if was[what] != now[what]]
            if now["nullable"] and not was["nullable"]:
                wrong.append(f"{table}.{name} may be null")
            if (gone := set(was["values"]) - set(now["values"])) or bool(was["values"]) != bool(now["values"]):
                wrong.append(f"{table}.{name}: allowed values {sorted(gone)}")
    return wrong


if __name__ == "__main__":
    now = snapshot()
    path = path_of(now["version"])
    if path.exists() and (wrong := breaks(json.loads(path.read_text(encoding="utf-8")), now)):
        raise SystemExit("a breaking change needs a new SCHEMA_VERSION: " + "; ".join(wrong))
    FOLDER.mkdir(exist_ok=True)
    path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)
