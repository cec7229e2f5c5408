"""What many tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mutations import SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say with which seed files were damaged."""
    terminalreporter.write_line(f"tests/integration/test_fuzz.py: MODIC_FUZZ_SEED={SEED}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real MRI beside the checkout; tests that need it are skipped where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the shared real MRI is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """One Prefect server for all tests that run a flow; gives its URL. It takes some 15 s to start."""
    from prefect.settings import get_current_settings
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        url = get_current_settings().api.url
        assert url is not None
        yield url
