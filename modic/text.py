"""Text from tables and files, made safe where it is shown: it must not steer a terminal or become markup."""

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


def printable(text: str, keep: str = "\n\t") -> str:
    """`text` with a mark in place of every character that is not printable; those of `keep` stay."""
    return "".join(letter if letter.isprintable() or letter in keep else REPLACEMENT for letter in text)


def is_utf8(path: str) -> bool:
    """Whether a path holds nothing but UTF-8; Python marks other bytes by characters that no table can hold."""
    return not any("\udc80" <= letter <= "\udcff" for letter in path)


def counted(n: int, noun: str) -> str:
    """`1 study`, `3 studies`, `0 series`."""
    return f"{n} {plural(n, noun)}"


def plural(n: int, noun: str) -> str:
    """`noun` as it stands behind the number `n`: study, studies; file, files; series."""
    if n == 1 or noun.endswith("s"):
        return noun
    return re.sub("[^aeiou]y$", lambda end: f"{end[0][0]}ie", noun) + "s"


def delimiter_of(text: str) -> str:
    """What separates the values of a table of text: `,`, `;` or tab, whichever its first line holds most often."""
    return max(",;\t", key=text.partition("\n")[0].count)


def one_line(text: str) -> str:
    """`text` on one line, printable."""
    return printable(" ".join(text.split()))


def plain_markdown(text: str) -> str:
    """`text` so that Markdown, and HTML within it, show it as it is."""
    return MARKUP.sub(r"\\\1", one_line(text)).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")
