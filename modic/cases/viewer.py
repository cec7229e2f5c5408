"""The case viewer: its script, style and data, for a page that runs no other script."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any


def viewer(cases: dict[str, Any]) -> dict[str, str]:
    """The values that viewer.html needs, and `csp`: a content security policy that allows the viewer's script alone."""
    here = Path(__file__).parent
    script, style = ((here / name).read_text(encoding="utf-8") for name in ("viewer.js", "viewer.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src 'self' file:"
    text = json.dumps(cases, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return {"cases": text, "viewer": script, "viewer_style": style, "csp": policy}
