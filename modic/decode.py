"""Plain values from TOML, YAML or JSON → frozen dataclasses, and nothing that does not fit them.

Every field has its declared type: a whole number serves as a float, a list as a tuple, a text as a path or as a member
of an enumeration; anything else, an unknown key and a missing value are refused by name. pydantic does the work. It is
imported when the first value is decoded, so that `modic --help` does not wait for it.
"""

import json
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_type_hints

from modic.errors import ModicError, UsageError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import ErrorDetails

T = TypeVar("T")
Path = tuple[int | str, ...]
"""Keys, and indices of lists, from the outermost value to the one that is meant."""

EXPECTED = {
    "int_type": "int", "float_type": "float", "bool_type": "bool", "string_type": "str", "path_type": "str",
    "tuple_type": "list", "list_type": "list", "dict_type": "dict",
}  # fmt: skip
"""pydantic's name of an error → the type that the value should have had."""


def decode(cls: type[T], values: Any, where: str, *, error: type[ModicError] = UsageError) -> T:
    """A `cls` made of dicts, lists, texts and numbers.

    `where` begins the message of the error: the file, or whatever else the user wrote the values in. Raises `error`
    naming `where`, the key, and what would be right.
    """
    return decode_json(cls, json.dumps(values, default=str), where, error=error)


def decode_json(cls: type[T], text: str | bytes, where: str, *, error: type[ModicError] = UsageError) -> T:
    """A `cls` made of a JSON text; undoes `modic.files.write_json` of one exactly. Raises as `decode`."""
    from pydantic import ValidationError

    try:
        (value,) = _adapter(cast(Any, cls)).validate_json(b"[" + _bytes(text) + b"]")
    except ValidationError as refused:
        raise error(_message(cls, refused, where)) from refused
    return cast(T, value)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@cache
def _adapter(cls: Any) -> "TypeAdapter[Any]":
    """pydantic hands its options down to a dataclass only from a container, hence the tuple of one."""
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(tuple[cls], config=ConfigDict(extra="forbid", strict=True))


def _message(cls: type, refused: "ValidationError", where: str) -> str:
    """What is wrong first: an unknown key, which may be a misspelt one, before values."""
    first = min(refused.errors(), key=lambda error: error["type"] != "unexpected_keyword_argument")
    path = first["loc"][1:]
    place = ": ".join((where, *map(str, path[:-1])))
    return f"{place}: {_complaint(cls, path, first)}" if path else f"{where} must hold keys and values"


def _complaint(cls: type, path: Path, first: "ErrorDetails") -> str:
    key, kind, given = path[-1], first["type"], type(first["input"]).__name__
    if kind == "unexpected_keyword_argument":
        known = ", ".join(sorted(field.name for field in fields(_class_at(cls, path[:-1]))))
        return f"unknown key `{key}`; known here: {known}"
    if kind == "dataclass_type":
        return f"{key} must be a section [{key}]"
    if kind == "missing":
        return f"`{key}` is missing"
    if kind in EXPECTED:
        return f"{key} must be {EXPECTED[kind]}, not {given}"
    return f"{key}: {first['msg'].replace('Input should be', 'must be')}, not {first['input']!r}"


def _class_at(cls: Any, path: Path) -> Any:
    """The dataclass that holds the values at `path` inside a `cls`."""
    for key in path:
        if isinstance(key, str):
            cls = _dataclass_in(get_type_hints(cls).get(key)) or cls  # no field: a key of a dict of dataclasses
    return cls


def _dataclass_in(hint: Any) -> Any:
    """The dataclass that a type such as `tuple[Pair, ...]` or `Rejected | None` is made of; None if there is none."""
    if is_dataclass(hint):
        return hint
    return next((inner for part in get_args(hint) if (inner := _dataclass_in(part))), None)
