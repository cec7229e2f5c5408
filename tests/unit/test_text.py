"""Text of others, shown: no escape reaches a terminal, no markup a page."""

import pytest

from modic.text import counted, one_line, plain_markdown, printable


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x07", "\x9b31m", "\r", "\u202e", "\u2028", "\udcff", "\x00"])
def test_what_could_steer_a_terminal_is_replaced(odd: str) -> None:
    shown = printable(f"a{odd}b\nç κ ≥\t1")
    assert shown.startswith("a\N{REPLACEMENT CHARACTER}") and shown.endswith("b\nç κ ≥\t1")
    assert shown.replace("\n", "").replace("\t", "").isprintable()


def test_one_line_is_one() -> None:
    assert one_line(" a\n\r\n b\x1b ") == "a b\N{REPLACEMENT CHARACTER}"


def test_markup_is_shown_as_it_is() -> None:
    assert plain_markdown("<img src=x onerror=1>") == "&lt;img src=x onerror=1&gt;"
    assert plain_markdown("a|b\n# c") == r"a\|b \# c"
    assert plain_markdown("[x](javascript:1)") == r"\[x\](javascript:1)"
    assert plain_markdown("&lt;") == "&amp;lt;"
    assert plain_markdown("0.91 (0.80–0.95), MC1") == "0.91 (0.80–0.95), MC1"


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [
        (0, "file", "0 files"),
        (1, "study", "1 study"),
        (2, "study", "2 studies"),
        (3, "series", "3 series"),
        (2, "day", "2 days"),
    ],
)
def test_a_noun_fits_its_number(n: int, noun: str, text: str) -> None:
    assert counted(n, noun) == text
