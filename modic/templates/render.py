"""Jinja templates, with the filters that the pages need."""

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape


def template(name: str) -> Any:
    """A Jinja template of modic/templates by the name of its file."""
    environment = Environment(
        loader=PackageLoader("modic", "."), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["n"] = _number
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f}"
    environment.filters["share"] = _share
    environment.filters["code"] = _code
    environment.filters["time"] = lambda value: f"{value:%Y-%m-%d %H:%M} UTC"
    return environment.get_template(f"templates/{name}")


def _code(text: str) -> Markup:
    """A text whose words between backticks are commands."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _number(value: float | str | None) -> str:
    """Counts with thousands separators, measures with three digits, text as it is."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def _share(row: dict[str, Any] | None) -> str:
    """Percent and its interval, of a row with share, low and high (0-1)."""
    if row is None or row["share"] != row["share"]:  # nan: nothing to take a share of
        return "–"
    return f"{100 * row['share']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"
