"""Identifiers → keyed hashes. Without the cohort's key nobody can turn a hash back, nor test a guessed patient id."""

import errno
import hmac
import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from modic.errors import UsageError
from modic.files import sync, sync_directory

KEY_FILE = "pseudonym.key"
KEY_BYTES = 32
DIGITS = 16
NO_HARD_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.EMLINK})
"""What file systems answer that have no hard links."""


@dataclass(frozen=True, slots=True, repr=False)
class Pseudonyms:
    """HMAC-SHA256 under the cohort's own key: 16 hex digits behind a prefix that names the kind of identifier.

    Each part of an identifier is hashed with its length, so that no two lists of parts have the same hash.
    """

    _key: bytes

    @classmethod
    def open(cls, private: Path) -> "Pseudonyms":
        """The pseudonyms of the key in `private/pseudonym.key`; makes the key (and the folder, mode 0700) if missing.

        Several processes may call this at once: all get the same key. The file has mode 0600 from its first moment and
        is never seen half written. Raises UsageError if the key cannot be read or made, or does not have 32 bytes.
        """
        try:
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = private / KEY_FILE
            if not path.exists():
                _make_key(path)
            key = path.read_bytes()
        except OSError as error:
            raise UsageError(f"the pseudonym key in {private} cannot be read or made: {error.strerror}") from error
        if len(key) != KEY_BYTES:
            raise UsageError(f"{path} is not a pseudonym key of {KEY_BYTES} bytes; restore it from a backup")
        return cls(key)

    @property
    def check(self) -> str:
        """16 hex digits that tell the key from others, and nothing about it."""
        return self._hash("check")[:DIGITS]

    def patient(self, patient_id: str) -> str:
        """`p_` and 16 hex digits."""
        return "p_" + self._hash("patient", patient_id)[:DIGITS]

    def study(self, study_uid: str) -> str:
        """`s_` and 16 hex digits."""
        return "s_" + self._hash("study", study_uid)[:DIGITS]

    def series(self, series_uid: str, stack: int = 0) -> str:
        """`r_` and 16 hex digits; each stack of a series has its own."""
        return "r_" + self._hash("series", series_uid, stack)[:DIGITS]

    def scanner(self, text: str) -> str:
        """`unlisted_` and 8 hex digits, for text that is no scanner's name (modic.deidentify.scanner_names)."""
        return "unlisted_" + self._hash("scanner", text)[:8]

    def fingerprint(self, *parts: object) -> str:
        """64 hex digits that change if any part changes. Parts are text, numbers, or tuples or lists of these."""
        return self._hash("fingerprint", *parts)

    def _hash(self, *parts: object) -> str:
        return hmac.new(self._key, _encode(parts), sha256).hexdigest()


def _encode(part: object) -> bytes:
    if isinstance(part, (tuple, list)):
        body, kind = b"".join(map(_encode, part)), b"l"
    else:
        body, kind = str(part).encode("utf-8", "surrogateescape"), b"t"
    return kind + len(body).to_bytes(8, "big") + body


def _make_key(path: Path) -> None:
    """Write a new key beside `path` and link it to `path`. The first process to link wins; the others' keys vanish.

    Where there are no hard links it is renamed, and the lock of the cohort alone keeps two from making one at once.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            sync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            temporary.replace(path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
