"""Addresses of recipients: sealed at rest, found again by a keyed hash."""

from hashlib import blake2b

from pydantic import SecretStr

from services.runtime.secrets import Cipher, derive


class AddressBook:
    """Seals addresses with a key of the deployment."""

    def __init__(self, secret_key: SecretStr) -> None:
        self._cipher = Cipher(derive(secret_key, "policy/addresses"))
        self._key = derive(secret_key, "policy/address-keys")

    def seal(self, address: str, user_id: str, channel: int) -> bytes:
        """The encrypted address; it unseals only for the same user and channel."""
        return self._cipher.encrypt(address.encode(), _context(user_id, channel))

    def unseal(self, sealed: bytes, user_id: str, channel: int) -> str:
        """The address. Raises DecryptionError when it was sealed for another row or key."""
        return self._cipher.decrypt(sealed, _context(user_id, channel)).decode()

    def key_of(self, address: str) -> bytes:
        """16 bytes that stand for the address without telling it."""
        return blake2b(address.encode(), key=self._key, digest_size=16).digest()


def _context(user_id: str, channel: int) -> bytes:
    return f"{channel}:{user_id}".encode()
