"""What a message reaches on this machine: a web server and a mail server that keep what they get."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from typing import Any


@contextmanager
def webhook() -> Iterator[tuple[str, "Queue[dict[str, Any]]"]]:
    """URL, and the JSON that was posted to it."""
    got: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            got.put(json.loads(content) if self.headers["Content-Type"] == "application/json" else {"raw": content})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with _serving(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/hook", got


@contextmanager
def mail_server() -> Iterator[tuple[int, "Queue[tuple[str, str]]"]]:
    """Port, and (subject, text) of each mail."""
    got: Queue[tuple[str, str]] = Queue()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            for line in iter(self.rfile.readline, b""):
                word = line[:4].upper()
                if word == b"DATA":
                    self._say("354 go on")
                    lines = list(iter(self.rfile.readline, b".\r\n"))
                    mail = message_from_bytes(b"".join(lines), policy=policy.default)
                    part = mail.get_body(("plain", "html"))
                    assert part is not None
                    got.put((str(mail["Subject"]), part.get_content()))
                self._say("221 bye" if word == b"QUIT" else "250 ok")

        def _say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, got


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with webhook() as (url, posts):
        print(url, flush=True)
        while True:
            print(json.dumps(posts.get()), flush=True)
