"""`modic cite`: BibTeX of CITATION.cff."""

import re
from pathlib import Path

import pytest
import yaml

from modic.cli.main import main
from modic.report import citation


def test_every_work_of_the_citation_file_is_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite"]) == 0
    said = capsys.readouterr().out
    known = yaml.safe_load((Path(__file__).parents[3] / "CITATION.cff").read_text(encoding="utf-8"))
    works = [known, known["preferred-citation"], *known["references"]]
    entries = re.findall(r"@(\w+)\{(\w+),\n((?:  \w+ = \{.*\},?\n)+)\}", said)
    assert len(entries) == len(works) and len({name for _, name, _ in entries}) == len(works)
    for work, (_, _, fields) in zip(works, entries, strict=True):
        assert f"title = {{{work['title']}}}" in fields and "author = {" in fields
        assert "year" not in work or f"year = {{{work['year']}}}" in fields
    assert "author = {Cina, Andrea and others}" in said and "author = {{The modic maintainers}}" in said


def test_letters_that_tex_reads_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    work = {"type": "article", "title": "A & B_1", "authors": [{"family-names": "Ö"}], "year": 2024, "doi": "10.1/x"}
    monkeypatch.setattr(citation, "citation_file", lambda: work)
    fields = ["author = {Ö and others}", "title = {A \\& B\\_1}", "year = {2024}", "doi = {10.1/x}"]
    assert citation.bibtex() == "@article{ö2024,\n  " + ",\n  ".join(fields) + "\n}"
