"""The passphrase secrets provider: a key from PULUMI_CONFIG_PASSPHRASE, AES-GCM as the real CLI uses it."""

import base64
import hashlib
import os
from pathlib import Path

from pulumi_cli.problems import CommandFailed

ITERATIONS = 10_000
"""The real CLI makes a million, which would cost each command a third of a second. So the two cannot read each other's
secrets, which no test needs."""


class Passphrase:
    """Encrypts and decrypts the secrets of one stack; `salt` is what its settings and its checkpoint keep."""

    def __init__(self, salt: str, key: bytes) -> None:
        self.salt = salt
        self._key = key

    def encrypt(self, text: str) -> str:
        nonce = os.urandom(12)
        return f"v1:{_encoded(nonce)}:{_encoded(_cipher(self._key).encrypt(nonce, text.encode(), None))}"

    def decrypt(self, ciphertext: str) -> str:
        from cryptography.exceptions import InvalidTag

        _, nonce, sealed = ciphertext.split(":")
        try:
            return _cipher(self._key).decrypt(_decoded(nonce), _decoded(sealed), None).decode()
        except InvalidTag as exc:
            raise CommandFailed("incorrect passphrase") from exc


def create() -> Passphrase:
    """A secrets provider for a new stack."""
    salt = os.urandom(8)
    provider = Passphrase("", _key(salt))
    provider.salt = f"v1:{_encoded(salt)}:{provider.encrypt('pulumi')}"
    return provider


def unlock(state: str) -> Passphrase:
    """The secrets provider of a stack whose salt is `state`; a wrong passphrase is refused."""
    _, salt, proof = state.split(":", 2)
    provider = Passphrase(state, _key(_decoded(salt)))
    if provider.decrypt(proof) != "pulumi":
        raise CommandFailed("incorrect passphrase")
    return provider


def _key(salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", _phrase().encode(), salt, ITERATIONS, 32)


def _phrase() -> str:
    if "PULUMI_CONFIG_PASSPHRASE" in os.environ:
        return os.environ["PULUMI_CONFIG_PASSPHRASE"]
    if file := os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        return Path(file).read_text().rstrip("\r\n")
    raise CommandFailed(
        "passphrase must be set with PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE environment variables"
    )


def _cipher(key: bytes):  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text)
