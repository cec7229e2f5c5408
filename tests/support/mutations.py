"""Damage of every kind to bytes and to JSON values, from a random generator: the same seed gives the same damage."""

import copy
import json
import math
import os
from datetime import UTC, datetime
from random import Random
from typing import Any

SEED = os.environ.get("MODIC_FUZZ_SEED") or f"{datetime.now(UTC):%Y%m%d}"
"""Of tests/integration/test_fuzz.py: the date unless it is given."""

ODD_BYTES = (
    b"", b"\0", b"\xff" * 4, b"\0" * 64, b"\x1b[2J", b"\xff\xff\xff\x7f", b"\xfe\xff\x00\xe0", b"UN", b"SQ", b"1e999",
)  # fmt: skip
ODD_TEXTS = (
    "", "\0", "\x1b[31m", "\u202e", "a" * 5000, "../../x", "'; DROP TABLE levels; --", "<script>", "=1+1", "1,5", "NaN",
    "-1", "1e999", "\ud800", "\u0663", "T12/L1", '"', "\n", ";", "\t", "s_0000000000000000",
)  # fmt: skip
ODD_VALUES = (None, True, -1, 0, 1, 10**30, 1e308, math.nan, math.inf, -math.inf, [], {}, [[]], {"": {}}, *ODD_TEXTS)


def damaged_bytes(whole: bytes, dice: Random) -> bytes:
    """`whole` after one to four of: bits flipped, a piece cut out, doubled, moved or replaced, the end cut off."""
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(max(len(whole), 1))
        size = min(dice.choice((1, 2, 4, 8, 100, len(whole))), len(whole) - at)
        piece = whole[at : at + size]
        how = dice.randrange(6)
        if how == 0:
            piece = bytes(byte ^ (1 << dice.randrange(8)) for byte in piece[:8]) + piece[8:]
        elif how == 1:
            piece = b""
        elif how == 2:
            piece *= 2
        elif how == 3:
            piece = dice.choice(ODD_BYTES)
        elif how == 4:
            piece = dice.randbytes(len(piece[:64])) + piece[64:]
        else:
            whole, piece = whole[:at], b""
        whole = whole[:at] + piece + whole[at + size :]
    return whole


def damaged_value(value: Any, dice: Random) -> Any:
    """A copy of a value of JSON in which one to three values are odd, missing, doubled or under another key."""
    value = copy.deepcopy(value)
    for _ in range(dice.randint(1, 3)):
        value = _one_damaged(value, dice)
    return value


def _one_damaged(value: Any, dice: Random) -> Any:
    if not isinstance(value, dict | list) or not value or dice.random() < 0.15:
        return copy.deepcopy(dice.choice(ODD_VALUES))
    key = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
    how = dice.random()
    if how < 0.1:
        del value[key]
    elif how < 0.2 and isinstance(value, dict):
        value[dice.choice(ODD_TEXTS)] = value[key]
    elif how < 0.2:
        value.append(copy.deepcopy(value[key]))
    else:
        value[key] = _one_damaged(value[key], dice)
    return value


def damaged_json(value: Any, dice: Random) -> bytes:
    """A JSON text of a damaged value, or a damaged text."""
    if dice.random() < 0.3:
        return damaged_bytes(json.dumps(value).encode(), dice)
    return json.dumps(damaged_value(value, dice)).encode("utf-8", "surrogatepass")
