"""Count what a source of labelled data could not use, for one printed line before training starts."""

from collections import defaultdict
from collections.abc import Sequence

from modic.errors import UsageError

NAMED = 6  # items named after each count, at most


class Tally:
    """Counts the items of a source that are left out, by reason. An item is `line 4`, a file's name, or nothing."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._left_out: dict[str, list[str]] = defaultdict(list)

    def skip(self, reason: str, *items: str) -> None:
        """Count each of `items`, or one item without a name."""
        self._left_out[reason] += items or ("",)

    def line(self, used: str) -> str:
        """`archive: 12 discs …; left out: 3 labels blank or of type 3 (lines 4, 7, 9)`; `used`: the first part."""
        parts = [f"{len(items)} {reason}{_listed(items)}" for reason, items in self._left_out.items()]
        return f"{self.source}: {used}" + (f"; left out: {'; '.join(parts)}" if parts else "")

    def finish(self, used: Sequence[object], text: str) -> None:
        """Print the line of this source. Raises UsageError with the line if nothing could be used."""
        if not used:
            raise UsageError("nothing to train on in " + self.line(text))
        print(self.line(text), flush=True)


def _listed(items: list[str]) -> str:
    """The first items in brackets, ` (lines 4, 7)`; empty if they have no names."""
    names = list(dict.fromkeys(item for item in items if item))
    if not names:
        return ""
    lines = all(name.startswith("line ") for name in names)
    short = [name.removeprefix("line ") if lines else name for name in names[:NAMED]]
    return f" ({'lines ' if lines else ''}{', '.join(short)}{', …' if len(names) > NAMED else ''})"
