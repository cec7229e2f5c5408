"""A small DICOMweb server in this process: QIDO-RS and WADO-RS of pydicom data sets, with faults on demand."""

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydicom.dataset import Dataset

USER, PASSWORD = "night-reader", "s3cret-word"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
BOUNDARY = "part-of-a-message"


@dataclass(eq=False)
class Server:
    """What the server holds, what it was asked, and how it misbehaves."""

    images: list[Dataset]
    auth: str = ""  # the Authorization header that it asks for
    asked: Counter[str] = field(default_factory=Counter)  # studies, series, metadata, instance → requests
    busy: int = 0  # so many requests are answered 503 first
    down: bool = False
    garbage: bool = False
    knows_no_pages: bool = False
    counts_nothing: bool = False
    slow_s: float = 0.0
    url: str = ""

    def answer(self, path: str, query: dict[str, str]) -> tuple[str, bytes] | None:
        """Content type and content for a path below /dicom-web/; None if there is no such thing."""
        match path.strip("/").split("/"):
            case ["dicom-web", "studies"]:
                return self._json("studies", self._studies(query), query)
            case ["dicom-web", "studies", study, "series"]:
                return self._json("series", self._series(study, query), query)
            case ["dicom-web", "studies", study, "series", series, "metadata"]:
                return self._json("metadata", [_metadata(image) for image in self._of(study, series)], {})
            case ["dicom-web", "studies", study, "series", series, "instances", sop]:
                self.asked["instance"] += 1
                for image in self._of(study, series):
                    if image.SOPInstanceUID == sop:
                        return f'multipart/related; type="application/dicom"; boundary={BOUNDARY}', _multipart(image)
        return None

    def _of(self, study: str, series: str = "") -> list[Dataset]:
        return [i for i in self.images if study == i.StudyInstanceUID and series in ("", i.SeriesInstanceUID)]

    def _studies(self, query: dict[str, str]) -> list[dict[str, Any]]:
        first, _, last = query.get("StudyDate", "-").partition("-")
        uids = sorted({i.StudyInstanceUID for i in self.images if first <= i.StudyDate <= (last or "9")})
        return [
            {
                "0020000D": {"vr": "UI", "Value": [uid]},
                "00201206": {"vr": "IS", "Value": [len({i.SeriesInstanceUID for i in self._of(uid)})]},
                **({} if self.counts_nothing else {"00201208": {"vr": "IS", "Value": [len(self._of(uid))]}}),
            }
            for uid in uids
        ]

    def _series(self, study: str, query: dict[str, str]) -> list[dict[str, Any]]:
        keys = ("Modality", "BodyPartExamined")
        fits = [i for i in self._of(study) if all(str(i.get(k, "")) == query[k] for k in keys if k in query)]
        return [{"0020000E": {"vr": "UI", "Value": [uid]}} for uid in sorted({i.SeriesInstanceUID for i in fits})]

    def _json(self, kind: str, items: list[dict[str, Any]], query: dict[str, str]) -> tuple[str, bytes]:
        self.asked[kind] += 1
        page = items if self.knows_no_pages else items[int(query.get("offset", 0)) :][:2]
        page = items if kind == "metadata" else page
        return "application/dicom+json", b"<html>oops" if self.garbage else json.dumps(page).encode()


def _metadata(image: Dataset) -> dict[str, Any]:
    whole = image.to_json_dict(bulk_data_threshold=1, bulk_data_element_handler=lambda _: "http://127.0.0.1/bulk")
    return dict(whole)


def _multipart(image: Dataset) -> bytes:
    content = io.BytesIO()
    image.save_as(content, enforce_file_format=True)
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return head + content.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def serve(images: Iterable[Dataset], **options: Any) -> Iterator[Server]:
    """A server on a free port of this machine, as long as the context lasts."""
    state = Server(list(images), **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 2**16  # an answer in one piece

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if state.slow_s:
                time.sleep(state.slow_s)
            if state.down or state.busy > 0:
                state.busy -= 1
                return self._send(503, "text/plain", b"busy")
            if state.auth and self.headers.get("Authorization") != state.auth:
                return self._send(401, "text/plain", b"who are you?")
            found = state.answer(parts.path, dict(parse_qsl(parts.query)))
            return self._send(200, *found) if found else self._send(404, "text/plain", b"")

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"dicomweb+http://127.0.0.1:{server.server_port}/dicom-web"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
