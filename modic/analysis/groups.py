"""What all answers do with a frame of levels: groups by columns, and a flag for each grade."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import pandas as pd

from modic.errors import UsageError
from modic.grades import CLASSES


def groups(frame: pd.DataFrame, by: str | Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Values of the columns `by` → their rows; one group of all rows without `by`."""
    names = [by] if isinstance(by, str) else list(by)
    if wrong := [str(name) for name in names if name not in frame.columns]:
        like = dict.fromkeys(close for name in wrong for close in get_close_matches(name, map(str, frame.columns)))
        hint = f" ({' or '.join(like)}?)" if like else ""
        raise UsageError(f"there is no column {', '.join(wrong)}{hint}; there are {', '.join(map(str, frame.columns))}")
    if not names:
        return [({}, frame)] if len(frame) else []
    parts = frame.groupby(names, dropna=False, observed=True, sort=True)
    return [(dict(zip(names, key, strict=True)), part) for key, part in parts]


def typed(answer: pd.DataFrame, frame: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """`answer` whose columns `by` have the types that they have in `frame`."""
    names = [by] if isinstance(by, str) else list(by)
    return answer.astype({name: frame[name].dtype for name in names if name in answer})


def with_flags(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with mc0, mc1, mc2 and any_mc: 0 or 1 as `mc` says, null where that is null."""
    flags = {f"mc{k}": (frame["mc"] == k).astype("Int8") for k in range(CLASSES)}
    return frame.assign(**flags, any_mc=(frame["mc"] > 0).astype("Int8"))
