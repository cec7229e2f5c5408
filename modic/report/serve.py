"""Shows a cohort's report to one person, from this machine or through an SSH tunnel. It is only read.

Other users of this machine reach its loopback too, and the report shows patients' images. So every address begins with
a secret that is made for each start; without it the answer is 404. A page of another site that guesses the port is
refused by the name it asks for, and gets no secret to send.
"""

import hmac
import re
import secrets
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modic.cohort import RUN_ID, STUDY_KEY

LOOPBACK = "127.0.0.1"
HOSTS = {"127.0.0.1", "localhost", "[::1]"}
"""Names by which a browser on this machine, or at the other end of a tunnel, asks."""
RUN, STUDY = RUN_ID.pattern, STUDY_KEY.pattern
SHOWN = re.compile(rf"runs/{RUN}/(report\.html|methods\.md|cases/{STUDY}/[a-z0-9]+\.webp)|report\.html")
"""What is shown below the cohort: pages and pictures, no table and nothing private."""
KINDS = {
    ".html": "text/html; charset=utf-8", ".md": "text/plain; charset=utf-8", ".webp": "image/webp",
}  # fmt: skip
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Server(ThreadingHTTPServer):
    """Serves one cohort on loopback until it is closed."""

    daemon_threads = True

    def __init__(self, cohort: Path, port: int = 0) -> None:
        """`port`: 0 for a free one. Raises OSError if the port is taken."""
        self.root, self.secret = cohort.resolve(), secrets.token_urlsafe(24)
        super().__init__((LOOPBACK, port), Handler)

    @property
    def url(self) -> str:
        """The address that shows the newest report."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/{self.secret}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that goes away before it has everything, nor of a report that was just pruned."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; every other method is refused by the base class (501)."""

    server: Server
    server_version, sys_version = "modic", ""
    timeout = 60

    def do_GET(self) -> None:
        """The file, or a redirect to the newest report."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """The same without the file."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if self.path == "/favicon.ico":  # what a browser asks for by itself
            self._send(HTTPStatus.NO_CONTENT, {})
            return
        asked, _, rest = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        host = re.sub(r":\d+$", "", self.headers.get("Host", ""))
        if host not in HOSTS or not hmac.compare_digest(asked.encode(), self.server.secret.encode()):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if not rest:
            self._send(HTTPStatus.FOUND, {"Location": f"/{self.server.secret}/report.html"})
            return
        path = shown(self.server.root, rest)
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = path.read_bytes()
        self._send(HTTPStatus.OK, {"Content-Type": KINDS[path.suffix], "Content-Length": str(len(content))})
        if with_body:
            self.wfile.write(content)

    def _send(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: addresses hold the secret."""


def shown(root: Path, name: str) -> Path | None:
    """The file below `root` that is shown under `name`; None if there is none, or it is not for looking at.

    A link must not lead to anything else either.
    """
    path = (root / name).resolve() if SHOWN.fullmatch(name) else root
    if not path.is_relative_to(root) or not SHOWN.fullmatch(path.relative_to(root).as_posix()):
        return None
    return path if path.is_file() else None
