"""What a source gave and what it did not, for one line before training starts."""

from collections import defaultdict
from collections.abc import Sequence

from modic.errors import UsageError

NAMED = 6  # things named after each count


class Tally:
    """Counts what was left out, by why; `what` are things of one kind: `line 4`, a file's name, or nothing."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._left_out: dict[str, list[str]] = defaultdict(list)

    def skip(self, why: str, *what: str) -> None:
        """Leave out one thing, or each of `what`."""
        self._left_out[why] += what or ("",)

    def line(self, used: str) -> str:
        """`archive: 12 discs …; left out: 3 labels blank or of type 3 (lines 4, 7, 9)`."""
        parts = [f"{len(what)} {why}{_listed(what)}" for why, what in self._left_out.items()]
        return f"{self.source}: {used}" + (f"; left out: {'; '.join(parts)}" if parts else "")

    def finish(self, used: Sequence[object], text: str) -> None:
        """Print the line of this source. Raises UsageError with it where nothing was left to use."""
        if not used:
            raise UsageError("nothing to train on in " + self.line(text))
        print(self.line(text), flush=True)


def _listed(what: list[str]) -> str:
    names = list(dict.fromkeys(one for one in what if one))
    if not names:
        return ""
    lines = all(one.startswith("line ") for one in names)
    short = [one.removeprefix("line ") if lines else one for one in names[:NAMED]]
    return f" ({'lines ' if lines else ''}{', '.join(short)}{', …' if len(names) > NAMED else ''})"
