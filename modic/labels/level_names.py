"""Read the names of discs as people write them, and make text of files fit for a message."""

import re

from modic.records import LEVELS

_VERTEBRAE = (*(f"T{i}" for i in range(1, 13)), *(f"L{i}" for i in range(1, 6)), "S1", "S2")
_T12 = _VERTEBRAE.index("T12")
_FULL = re.compile(r"(TH|[TDLS])(\d{1,2})[\s/_–-]*(TH|[TDLS])(\d{1,2})")  # T12/L1, Th12-L1, L5S1
_SHORT = re.compile(r"(TH|[TDLS])(\d{1,2})\s*[/_–-]\s*()(\d{1,2})")  # L4/5
LONGEST = 40  # characters of a file's text in a message


def disc_rank(text: str) -> int | None:
    """The rank of a disc by its name: 0 (T12/L1) to 5 (L5/S1), the index in LEVELS; None if it is no disc's name.

    Discs above T12/L1 have negative ranks, S1/S2 has 6. Names may be written as `T12/L1`, `T12-L1`, `t12_l1`, `T12L1`,
    `Th12/L1`, `D12-L1` or `L4/5`.
    """
    match = _FULL.fullmatch(text.strip().upper()) or _SHORT.fullmatch(text.strip().upper())
    if match is None:
        return None
    first, above, second, below = match.groups()
    upper, lower = _vertebra(first, above), _vertebra(second or first, below)
    if upper not in _VERTEBRAE or lower not in _VERTEBRAE:
        return None
    index = _VERTEBRAE.index(upper)
    return index - _T12 if _VERTEBRAE.index(lower) == index + 1 else None


def _vertebra(letters: str, number: str) -> str:
    return ("T" if letters in ("TH", "D") else letters) + number.lstrip("0")


def name_of(rank: int) -> int:
    """The index in LEVELS of a disc's rank, -1 for a disc that is not graded."""
    return rank if 0 <= rank < len(LEVELS) else -1


def disc_name(rank: int) -> str:
    """The name of a disc by its rank: `L4/L5` for 4, `T11/T12` for -1."""
    return f"{_VERTEBRAE[_T12 + rank]}/{_VERTEBRAE[_T12 + rank + 1]}"


def shown(value: object) -> str:
    """Text of a file for a message: printable characters, `LONGEST` at most."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
