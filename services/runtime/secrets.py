"""Keys derived from the deployment's secret, and encryption of single values at rest."""

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

_NONCE_BYTES = 12


class DecryptionError(ValueError):
    """The value was not encrypted with this key and context, or was altered."""


def derive(secret_key: SecretStr, purpose: str) -> bytes:
    """32 bytes for one purpose, by HKDF-SHA256 (RFC 5869) from the deployment's secret key."""
    if not secret_key.get_secret_value():
        raise ValueError("the secret key is empty; set HELIOGRAPH_SECRET_KEY")
    expansion = HKDF(
        algorithm=SHA256(), length=32, salt=None, info=f"heliograph/{purpose}".encode()
    )
    return expansion.derive(secret_key.get_secret_value().encode())


class Cipher:
    """AES-256-GCM with a random 96-bit nonce in front of the cipher text.

    `context` is authenticated, not stored: a value copied to another row does not decrypt there.
    """

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def encrypt(self, plain: bytes, context: bytes) -> bytes:
        """Nonce, cipher text and tag of `plain`: 28 bytes longer than it."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, context)

    def decrypt(self, sealed: bytes, context: bytes) -> bytes:
        """The plain text. Raises DecryptionError on another key or context, or altered bytes."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError("the stored value does not decrypt with this key") from error


def local_secret_key(state_dir: Path) -> SecretStr:
    """The key kept in `state_dir/secret.key` (mode 0600), made on first use.

    Several services may start at once: the first complete file wins and all read that one.
    """
    path = state_dir / "secret.key"
    if not path.exists():
        state_dir.mkdir(parents=True, exist_ok=True)
        draft = state_dir / f"secret.key.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return SecretStr(path.read_text().strip())
