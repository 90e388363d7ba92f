"""The landmark's Ed25519 key: its file and its id.

A key file holds the 32 seed bytes, or PKCS #8 in PEM as `openssl genpkey -algorithm ed25519` writes it. It must be
readable by its owner alone. Passwords are not supported: a daemon that starts by itself would have to keep one beside
it.
"""

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from landmark.errors import KeyFileError

SEED_BYTES = 32
_PEM_BEGIN = b"-----BEGIN PRIVATE KEY-----"
_PEM_END = b"-----END PRIVATE KEY-----"
# RFC 8410 §7: version 0, id-Ed25519, an OCTET STRING that holds the OCTET STRING of the seed; no attributes.
_PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
_MAX_FILE_BYTES = 1024


def key_id_of(public_key: bytes) -> bytes:
    """Return the key id, SHA-256 over the 32 raw bytes of the public key. docs/protocol.md C3."""
    return hashlib.sha256(public_key).digest()


@dataclass(frozen=True, slots=True)
class LandmarkKey:
    """A landmark's signing key with its public half and key id, 32 bytes each."""

    signing_key: SigningKey
    public_key: bytes
    key_id: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> "LandmarkKey":
        """Build the key from its 32 seed bytes."""
        signing_key = SigningKey(seed)
        public_key = bytes(signing_key.verify_key)
        return cls(signing_key, public_key, key_id_of(public_key))

    def sign(self, message: bytes) -> bytes:
        """Return the 64 signature bytes over `message`."""
        return self.signing_key.sign(message).signature


def load_key(path: Path) -> LandmarkKey:
    """Read a key file.

    Raises:
        KeyFileError: it is not a regular file, others may read it, or it is neither form.
    """
    try:
        # Not blocking, lest a named pipe hold us up.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    try:
        # The mode of the open file, so that nobody can swap it between the check and the read.
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileError(f"{path}: not a regular file")
        if mode & 0o077:
            raise KeyFileError(f"{path}: mode {stat.S_IMODE(mode):04o} lets others at the key; run: chmod 600 {path}")
        content = os.read(descriptor, _MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    return LandmarkKey.from_seed(_seed_from(content, path))


def create_key(path: Path) -> LandmarkKey:
    """Draw a key and write it as PEM to a new file of mode 0600.

    Raises:
        KeyFileError: the file exists or cannot be made.
    """
    seed = os.urandom(SEED_BYTES)
    body = base64.b64encode(_PKCS8_PREFIX + seed)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(_PEM_BEGIN + b"\n" + body + b"\n" + _PEM_END + b"\n")
        file.flush()
        os.fsync(descriptor)
    return LandmarkKey.from_seed(seed)


def parse_public_key(text: str) -> bytes:
    """Return the 32 bytes of a raw Ed25519 public key given as 64 hex digits; ValueError when it is anything else."""
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise ValueError("a public key is 64 hex digits") from error
    if len(key) != SEED_BYTES or text != key.hex():
        raise ValueError("a public key is 64 lower-case hex digits")
    return key


def _seed_from(content: bytes, path: Path) -> bytes:
    if len(content) == SEED_BYTES:
        return content
    text = content.strip()
    if not (text.startswith(_PEM_BEGIN) and text.endswith(_PEM_END)):
        raise KeyFileError(f"{path}: neither 32 seed bytes nor one unencrypted PKCS #8 private key in PEM")
    try:
        der = base64.b64decode(b"".join(text[len(_PEM_BEGIN) : -len(_PEM_END)].split()), validate=True)
    except binascii.Error as error:
        raise KeyFileError(f"{path}: not valid PEM") from error
    if len(der) != len(_PKCS8_PREFIX) + SEED_BYTES or not der.startswith(_PKCS8_PREFIX):
        raise KeyFileError(f"{path}: not an Ed25519 private key")
    return der[len(_PKCS8_PREFIX) :]
