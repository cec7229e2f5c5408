"""Pseudonyms reveal nothing, stay the same within a cohort, and differ between cohorts."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modic.deidentify.pseudonyms import Pseudonyms
from modic.errors import UsageError


def test_keys_are_stable_and_secret(tmp_path: Path) -> None:
    here, again = (Pseudonyms.open(tmp_path / "private") for _ in range(2))
    other = Pseudonyms.open(tmp_path / "other")
    assert here.patient("4711") == again.patient("4711") != other.patient("4711")
    assert here.patient("4711") != here.patient("4712")
    assert here.study("1.2")[2:] != here.patient("1.2")[2:]
    assert here.series("1.2", 0) != here.series("1.2", 1)
    assert [key[:2] for key in (here.patient("x"), here.study("x"), here.series("x", 0))] == ["p_", "s_", "r_"]
    assert len(here.patient("x")) == 18
    assert here.fingerprint("ab", "c") != here.fingerprint("a", "bc") != here.fingerprint(("a", "bc"))
    secret = (tmp_path / "private" / "pseudonym.key").read_bytes()
    assert secret.hex() not in repr(here) and repr(secret)[2:-1] not in repr(here)


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    Pseudonyms.open(tmp_path / "private")
    (key,) = (tmp_path / "private").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700


def test_racing_processes_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: Pseudonyms.open(tmp_path / "private").patient("x"), range(64)))
    assert len(keys) == 1
    assert len(list((tmp_path / "private").iterdir())) == 1


def test_a_damaged_key_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "pseudonym.key").write_bytes(b"short")
    with pytest.raises(UsageError, match="backup"):
        Pseudonyms.open(tmp_path)


def test_keys_cannot_be_recomputed_without_the_key(tmp_path: Path) -> None:
    """Who knows every patient id and this code still needs the 256 random bits of the file."""
    keys = Pseudonyms.open(tmp_path / "private")
    published = {keys.patient(f"{number:04}") for number in range(1000)}
    guesses = [
        b"",
        b"\0" * 32,
        b"modic" + b"\0" * 27,
        bytes(range(32)),
        (tmp_path / "private").as_posix().encode()[:32],
    ]
    for key in guesses:
        assert not published & {Pseudonyms(key).patient(f"{number:04}") for number in range(1000)}
    (tmp_path / "private" / "pseudonym.key").unlink()
    assert not published & {Pseudonyms.open(tmp_path / "private").patient(f"{number:04}") for number in range(1000)}


def test_a_key_is_32_bytes_of_the_systems_randomness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("modic.deidentify.pseudonyms.secrets.token_bytes", lambda n: asked.append(n) or bytes(range(n)))
    assert Pseudonyms.open(tmp_path)._key == bytes(range(32)) and 32 in asked
