"""Derived keys, values at rest, and the local key that several processes make at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.runtime.secrets import Cipher, DecryptionError, derive, local_secret_key

KEY = SecretStr("k" * 32)


def test_purposes_have_their_own_keys() -> None:
    assert len(derive(KEY, "endpoints")) == 32
    assert derive(KEY, "endpoints") == derive(KEY, "endpoints")
    assert derive(KEY, "endpoints") != derive(KEY, "tokens")
    assert derive(KEY, "endpoints") != derive(SecretStr("K" * 32), "endpoints")


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="HELIOGRAPH_SECRET_KEY"):
        derive(SecretStr(""), "endpoints")


def test_a_value_decrypts_only_unaltered_with_its_key_and_context() -> None:
    cipher = Cipher(derive(KEY, "endpoints"))
    sealed = cipher.encrypt(b"ada@example.com", b"user-1")
    assert b"ada" not in sealed
    assert cipher.encrypt(b"ada@example.com", b"user-1") != sealed
    assert cipher.decrypt(sealed, b"user-1") == b"ada@example.com"
    other = Cipher(derive(KEY, "tokens"))
    for attempt in (
        lambda: cipher.decrypt(sealed, b"user-2"),
        lambda: cipher.decrypt(sealed[:-1] + bytes([sealed[-1] ^ 1]), b"user-1"),
        lambda: cipher.decrypt(b"", b"user-1"),
        lambda: other.decrypt(sealed, b"user-1"),
    ):
        with pytest.raises(DecryptionError):
            attempt()


def test_services_that_start_at_once_read_one_local_key(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with ThreadPoolExecutor(16) as pool:
        keys = {key.get_secret_value() for key in pool.map(local_secret_key, [folder] * 16)}
    (key,) = keys
    assert len(key) == 64
    assert [path.name for path in folder.iterdir()] == ["secret.key"]
    assert (folder / "secret.key").stat().st_mode & 0o777 == 0o600
