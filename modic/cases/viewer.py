"""Script, style and data of a page of cases, for a page that runs no other script."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def viewer(cases: dict[str, Any], page: Path = HERE / "viewer") -> dict[str, str]:
    """The values that viewer.html needs, and `csp`: a content security policy that allows the page's script alone.

    Args:
        cases: data of the page.
        page: path of its script and style without `.js` and `.css`; tools.js comes before the script.
    """
    scripts = (HERE / "tools.js", page.with_suffix(".js"))
    script = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    style = page.with_suffix(".css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src 'self' file:"
    text = json.dumps(cases, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return {"cases": text, "viewer": script, "viewer_style": style, "csp": policy}
