"""`modic serve`: the newest report in a browser, and nothing to anybody without the secret."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from browser import chromium
from made_cohort import RUN, make_cohort
from modic.cli.main import main
from modic.report.page import write_report
from modic.report.serve import LOOPBACK, Server
from modic.tables.store import read_table


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One of a cohort with a report and a picture."""
    cv2 = pytest.importorskip("cv2")
    cohort = make_cohort(tmp_path / "cohort")
    write_report(cohort)
    study = read_table(cohort, "studies")["study_key"].to_pylist()[0]
    case = cohort / "runs" / RUN / "cases" / study
    case.mkdir(parents=True)
    (case / "t1.webp").write_bytes(cv2.imencode(".webp", np.full((8, 8), 200, np.uint8))[1].tobytes())
    (cohort / "private").mkdir(exist_ok=True)
    (cohort / "private" / "cohort.json").write_text("{}")
    with Server(cohort) as here:
        threading.Thread(target=here.serve_forever, daemon=True).start()
        yield here
        here.shutdown()


def answer(server: Server, path: str, method: str = "GET", host: str = "localhost:8080") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_address[1], timeout=20)
    connection.request(method, path, headers={"Host": host})
    got = connection.getresponse()
    return got.status, got.getheader("Content-Type") or "", got.read()


def test_pages_and_pictures_are_shown_and_nothing_else(server: Server) -> None:
    secret, root = f"/{server.secret}", server.root
    (case,) = root.glob(f"runs/{RUN}/cases/*/t1.webp")
    picture = case.relative_to(root).as_posix()
    assert server.server_address[0] == "127.0.0.1"
    assert answer(server, f"{secret}/")[0] == 302
    assert answer(server, f"{secret}/runs/{RUN}/report.html")[:2] == (200, "text/html; charset=utf-8")
    assert answer(server, f"{secret}/{picture}") == (200, "image/webp", case.read_bytes())
    assert answer(server, f"{secret}/{picture}", "HEAD") == (200, "image/webp", b"")
    (root / "runs" / RUN / "shards").mkdir()
    (root / "runs" / RUN / "manifest.json").write_text("{}")
    (case.parent / "link.webp").symlink_to(root / "private" / "cohort.json")
    folder = f"runs/{RUN}"
    hidden = [
        "private/cohort.json", "current/studies.parquet", "../../etc/passwd", "//etc/passwd", folder,
        f"{folder}/manifest.json", f"{folder}/../../private/cohort.json", picture.replace("t1", "link"),
        f"{folder}/%2e%2e/%2e%2e/private/cohort.json", f"{folder}/report.html%00", f"{folder}/report.html/",
    ]  # fmt: skip
    for name in hidden:
        status, _, body = answer(server, f"{secret}/{name}")
        assert status == 404 and b"{}" not in body, name


def test_without_the_secret_or_by_another_name_there_is_nothing(server: Server) -> None:
    for path in (
        "/",
        "/report.html",
        f"/runs/{RUN}/report.html",
        "/x/report.html",
        f"/{server.secret[:-1]}/report.html",
    ):
        assert answer(server, path)[0] == 404, path
    for host in ("evil.example.org", "127.0.0.1.evil.org:80", ""):
        assert answer(server, f"/{server.secret}/report.html", host=host)[0] == 404, host
    for host in ("localhost", "127.0.0.1:9", "[::1]:8080"):
        assert answer(server, f"/{server.secret}/report.html", host=host)[0] == 200, host
    before = sorted(path.stat().st_mtime_ns for path in server.root.rglob("*"))
    for method in ("POST", "PUT", "DELETE"):
        assert answer(server, f"/{server.secret}/report.html", method)[0] == 501
    assert sorted(path.stat().st_mtime_ns for path in server.root.rglob("*")) == before


def test_a_browser_shows_the_report_that_the_address_leads_to(server: Server) -> None:
    with chromium() as browser:
        page = browser.new_page()
        trouble: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("response", lambda got: trouble.append(f"{got.status} {got.url}") if got.status >= 400 else None)
        page.goto(server.url)
        page.wait_for_url(f"**/runs/{RUN}/report.html")
        page.wait_for_selector(".cases .view")
        assert RUN in page.content()
        assert page.evaluate("document.cookie") == ""
        (case,) = server.root.glob(f"runs/{RUN}/cases/*")
        size = page.evaluate(
            """async path => { const image = new Image(); image.src = path; await image.decode();
            return image.naturalWidth; }""",
            f"../{RUN}/cases/{case.name}/t1.webp",
        )
        assert size == 8, "the page may load pictures as it does from a file"
    assert trouble == []


def test_what_cannot_be_served_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], server: Server) -> None:
    assert main(["serve", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["serve", str(server.root), "--port", str(server.server_address[1])]) == 2
    assert "cannot be used: Address already in use" in capsys.readouterr().err
    assert main(["serve", str(server.root), "--port", "70000"]) == 2
    (server.root / "report.html").unlink()
    assert main(["serve", str(server.root)]) == 2
    assert "has no report; `modic report" in capsys.readouterr().err


def test_a_browser_that_goes_away_is_nothing_to_print_and_a_bug_is(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (BrokenPipeError(), ConnectionResetError(), FileNotFoundError("pruned"), ValueError("bug")):
        try:
            raise error
        except type(error):
            server.handle_error(None, (LOOPBACK, 1))
        assert ("bug" in capsys.readouterr().err) is isinstance(error, ValueError)
