"""Script, style and data of a page of cases, for a page that runs no other script."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def as_json(data: dict[str, Any]) -> str:
    """The text of a page's data, for `viewer`. Raises ValueError for a number that is none."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def viewer(data: str, page: Path = HERE / "viewer") -> dict[str, str]:
    """The values that viewer.html needs, and `csp`: a content security policy that allows the page's script alone.

    Args:
        data: of the page, as JSON.
        page: path of its script and style without `.js` and `.css`; tools.js comes before the script.
    """
    scripts = (HERE / "tools.js", page.with_suffix(".js"))
    script = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    style = page.with_suffix(".css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src 'self' file:"
    return {"cases": data.replace("<", "\\u003c"), "viewer": script, "viewer_style": style, "csp": policy}
