"""What to cite, as BibTeX, from CITATION.cff."""

from pathlib import Path
from typing import Any

import yaml

from modic.errors import UsageError

KINDS = {"article": "article", "software": "software", "dataset": "misc"}
FIELDS = {"title": "title", "journal": "journal", "year": "year", "volume": "volume", "start": "pages", "doi": "doi",
          "version": "version", "url": "url", "repository-code": "url"}  # fmt: skip
"""Field of the Citation File Format → field of BibTeX."""


def citation_file() -> dict[str, Any]:
    """CITATION.cff: packed inside modic, or in the root of a clone that was made without links."""
    here = Path(__file__).resolve().parents[1] / "CITATION.cff"
    for path in (here, here.parents[1] / "CITATION.cff"):
        if path.is_file():
            read = yaml.safe_load(path.read_text(encoding="utf-8"))
            if isinstance(read, dict):  # not the text of a link
                return read
    raise UsageError("CITATION.cff is missing in this installation; it lies in the root of the repository")


def bibtex() -> str:
    """One entry for the software, its preferred citation, and each reference."""
    known = citation_file()
    parts = [known, known.get("preferred-citation"), *known.get("references", [])]
    return "\n\n".join(_entry(part) for part in parts if part)


def _entry(part: dict[str, Any]) -> str:
    kind = KINDS.get(part["type"], "misc")
    fields = {"author": " and ".join(_author(author) for author in part.get("authors", []))}
    for name, ours in FIELDS.items():
        if part.get(name) is not None:
            fields[ours] = str(part[name])
    if not fields["author"].count(" and ") and kind == "article":
        fields["author"] += " and others"
    lines = [f"  {name} = {{{_escaped(value)}}}" for name, value in fields.items() if value]
    return f"@{kind}{{{_key(part)},\n" + ",\n".join(lines) + "\n}"


def _author(author: dict[str, Any]) -> str:
    """`Family, Given`; names of groups in braces, so that BibTeX does not take them apart."""
    if "family-names" in author:
        return ", ".join(filter(None, (author["family-names"], author.get("given-names"))))
    return f"{{{author['name']}}}"


def _key(part: dict[str, Any]) -> str:
    author = part.get("authors", [{}])[0]
    name = author.get("family-names", "modic").split()[-1].lower()
    return f"{name}{str(part.get('year', part.get('version', ''))).replace('.', '')}"


def _escaped(text: str) -> str:
    return text.replace("&", "\\&").replace("%", "\\%").replace("_", "\\_")
