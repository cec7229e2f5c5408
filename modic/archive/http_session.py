"""The HTTP session with a server of images: credentials, limits of time, tries, and nothing in a log."""

import ipaddress
import logging
import os
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from modic.errors import UsageError

CONNECT_S, ANSWER_S = 10, 120  # answers: between two pieces of one
TRIES, WAIT_S = 4, 0.5  # more tries after the first; the wait doubles, unless the server says how long
BUSY = (408, 429, 500, 502, 503, 504)
USER, PASSWORD, TOKEN = "MODIC_DICOMWEB_USER", "MODIC_DICOMWEB_PASSWORD", "MODIC_DICOMWEB_TOKEN"
CREDENTIALS = f"set {USER} and {PASSWORD}, or {TOKEN}, in the environment, or write a line into ~/.netrc"


def check_address(url: str) -> None:
    """Raise UsageError for an address that holds credentials, or one without encryption to another machine."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"an address is stored and shown, so it must hold no user and password: {CREDENTIALS}")
    if not parts.hostname:
        raise UsageError(f"the address {url} names no host")
    if parts.scheme != "https" and not is_loopback(parts.hostname):
        raise UsageError(f"images and credentials would go to {parts.hostname} unencrypted: use https")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Session(requests.Session):
    """Requests with a limit of time, tried again while the server is busy. Raises requests.RequestException."""

    def __init__(self, host: str) -> None:
        super().__init__()
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it logs addresses, which hold UIDs
        self._own_machine = is_loopback(host)
        retry = Retry(
            TRIES, backoff_factor=WAIT_S, status_forcelist=BUSY, allowed_methods=["GET"], raise_on_status=False
        )
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(max_retries=retry))
        if token := os.environ.get(TOKEN):
            self.auth = _bearer(token)
        elif user := os.environ.get(USER):
            self.auth = (user, os.environ.get(PASSWORD, ""))

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """As requests.Session.request, with a limit of time."""
        options["timeout"] = (CONNECT_S, ANSWER_S)
        return super().request(*arguments, **options)

    def merge_environment_settings(self, *arguments: Any, **options: Any) -> Any:
        """As requests.Session, but no proxy is asked for this machine."""
        settings = super().merge_environment_settings(*arguments, **options)
        return {**settings, "proxies": {}} if self._own_machine else settings


def _bearer(token: str) -> Any:
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def trouble_of(error: OSError) -> str:
    """What went wrong, without the address, which may hold UIDs."""
    response = getattr(error, "response", None)
    if response is None:
        return f"does not answer as it should ({type(error).__name__})"
    return f"answers {response.status_code}" + (f": {CREDENTIALS}" if response.status_code in (401, 403) else "")
