"""README and the guides: links lead somewhere, README stays short, and its two commands are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FOLDERS = ("deployments", "flows", "modic", "sql", "tests")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def guides() -> list[Path]:
    """The Markdown files of the repository, without templates, whose links are those of the file made from them."""
    names = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")]
    names += [path.relative_to(ROOT) for path in ROOT.glob("*.md")]
    return sorted(ROOT / name for name in names if "templates" not in name.parts)


def anchors(path: Path) -> set[str]:
    """The anchors of a Markdown file's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("guide", guides(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(guide: Path) -> None:
    for link in LINK.findall(guide.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = guide.parent / name if name else guide
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), link


def test_readme_is_short_and_holds_its_two_commands() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 160
    install = "python3.11 -m venv .venv && .venv/bin/pip install -q -c deployments/constraints.txt -e"
    assert f"{install} . && .venv/bin/modic demo" in lines
    assert f"{install} '.[dev]' && .venv/bin/python -m pytest -n 2 --dist loadfile" in lines


def test_every_path_that_the_developer_guide_names_exists() -> None:
    guide = ROOT / "modic" / "README.md"
    names = re.findall(r"`([\w./]+/[\w./]*|\w+\.py)`(?!\])", guide.read_text(encoding="utf-8"))
    assert names
    for name in names:
        assert any((folder / name).exists() for folder in (guide.parent, ROOT)), name
    assert max(map(len, guide.read_text(encoding="utf-8").splitlines())) <= 140
