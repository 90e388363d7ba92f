"""Signed notes, vkeys and cosignatures as C2SP writes them: signed-note, tlog-cosignature.

Strict: one note has one spelling. Signatures by keys that the reader does not know are kept and say nothing.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from verifier.errors import UsageError
from verifier.signatures import ed25519_verifies

MAX_NOTE_BYTES = 65_536
MAX_SIGNATURES = 100
"""The bounds that C2SP signed-note lets a reader set."""

MAX_TIME_S = 253_402_300_799
"""The last second of the year 9999: a cosignature of a later time, which no calendar can show, says nothing."""

_ED25519 = 1
_COSIGNATURE = 4
_KEY_ID_BYTES = 4
_PUBLIC_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_NAME = re.compile(r"[^\s+]{1,256}")
_PREFIX = "— "


class NoteError(UsageError):
    """A note, a key or a signature line is not what it should be; the message says why."""


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key with its name: of a log, or of a witness that cosigns.

    Attributes:
        name: As signature lines name it.
        public_key: Raw Ed25519, 32 bytes.
        cosigns: It signs cosignatures, which say when.
    """

    name: str
    public_key: bytes
    cosigns: bool = False

    def __post_init__(self) -> None:
        """Refuse what no note can name."""
        if not _NAME.fullmatch(self.name):
            raise NoteError(f"{self.name!r} is no key name: 1 to 256 characters without spaces and +")
        if len(self.public_key) != _PUBLIC_KEY_BYTES:
            raise NoteError(f"an Ed25519 key has {_PUBLIC_KEY_BYTES} bytes, not {len(self.public_key)}")

    @classmethod
    def of(cls, name: str, key: Ed25519PrivateKey, *, cosigns: bool = False) -> Self:
        """Return the public side of a private key."""
        return cls(name, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), cosigns)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a vkey, `name+hash+base64`; raises `NoteError`."""
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise NoteError(f"{text!r} is no vkey: name+hash+key")
        name, digest, encoded = parts
        data = _decoded(encoded, "vkey")
        if len(data) != 1 + _PUBLIC_KEY_BYTES or data[0] not in {_ED25519, _COSIGNATURE}:
            raise NoteError(f"the vkey of {name} is neither an Ed25519 key nor a cosigner's")
        key = cls(name, data[1:], data[0] == _COSIGNATURE)
        if digest != key.key_id.hex():
            raise NoteError(f"the vkey of {name} has another hash than its key")
        return key

    @property
    def key_id(self) -> bytes:
        """The four bytes by which signature lines tell keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + self._typed).digest()[:_KEY_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The key as text."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._typed).decode()}"

    @property
    def _typed(self) -> bytes:
        return bytes([_COSIGNATURE if self.cosigns else _ED25519]) + self.public_key


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: who says to have signed, and the bytes behind the key id."""

    name: str
    key_id: bytes
    data: bytes

    @property
    def line(self) -> str:
        """The line, with its end."""
        return f"{_PREFIX}{self.name} {base64.b64encode(self.key_id + self.data).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and the signatures that it came with. None of them is checked before `signed_by` or `cosigned_by`."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a note; raises `NoteError`."""
        if len(data) > MAX_NOTE_BYTES:
            raise NoteError(f"a note of {len(data)} bytes; {MAX_NOTE_BYTES} are allowed")
        try:
            whole = data.decode()
        except UnicodeDecodeError as error:
            raise NoteError("a note is UTF-8") from error
        if any(ord(c) < 0x20 and c != "\n" for c in whole):
            raise NoteError("a note has no control characters")
        text, gap, lines = whole.rpartition("\n\n")
        if not gap or not text or not lines.endswith("\n"):
            raise NoteError("a note is a text, an empty line and signature lines")
        signatures = tuple(map(_parse_line, lines[:-1].split("\n")))
        if len(signatures) > MAX_SIGNATURES:
            raise NoteError(f"more than {MAX_SIGNATURES} signatures")
        return cls(text + "\n", signatures)

    def __bytes__(self) -> bytes:
        """Return the note as it is written."""
        return (self.text + "\n" + "".join(signature.line for signature in self.signatures)).encode()

    def signed_by(self, key: NoteKey) -> bool:
        """Return whether a signature of this key holds."""
        return any(ed25519_verifies(key.public_key, s.data, self.text.encode()) for s in self._of(key))

    def cosigned_by(self, key: NoteKey) -> int | None:
        """Return when this witness cosigned, Unix seconds, the latest; None when it did not."""
        return max(
            (time for s in self._of(key) if (time := _cosigned(self.text, key, s.data)) is not None), default=None
        )

    def plus(self, signatures: Iterable[NoteSignature]) -> Self:
        """Return the note with these signatures; one takes the place of an earlier one of the same key."""
        by_key = {(s.name, s.key_id): s for s in (*self.signatures, *signatures)}
        return replace(self, signatures=tuple(by_key.values()))

    def _of(self, key: NoteKey) -> Iterable[NoteSignature]:
        return (s for s in self.signatures if s.name == key.name and s.key_id == key.key_id)


def sign(text: str, name: str, key: Ed25519PrivateKey) -> Note:
    """Sign a text, which ends in a newline."""
    public = NoteKey.of(name, key)
    return Note(text, (NoteSignature(name, public.key_id, key.sign(text.encode())),))


def cosign(text: str, name: str, key: Ed25519PrivateKey, time_s: int) -> NoteSignature:
    """Make a `cosignature/v1` at this time, Unix seconds."""
    public = NoteKey.of(name, key, cosigns=True)
    return NoteSignature(
        name, public.key_id, time_s.to_bytes(_TIME_BYTES, "big") + key.sign(_cosigned_text(text, time_s))
    )


def parse_lines(data: bytes) -> tuple[NoteSignature, ...]:
    """Read signature lines that came without their text; raises `NoteError`."""
    try:
        lines = data.decode()
    except UnicodeDecodeError as error:
        raise NoteError("signature lines are UTF-8") from error
    if not lines.endswith("\n"):
        raise NoteError("signature lines end in a newline")
    return tuple(map(_parse_line, lines[:-1].split("\n")))


def _cosigned(text: str, key: NoteKey, data: bytes) -> int | None:
    if not key.cosigns or len(data) != _TIME_BYTES + _SIGNATURE_BYTES:
        return None
    time_s = int.from_bytes(data[:_TIME_BYTES], "big")
    if time_s > MAX_TIME_S:
        return None
    return time_s if ed25519_verifies(key.public_key, data[_TIME_BYTES:], _cosigned_text(text, time_s)) else None


def _cosigned_text(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _parse_line(line: str) -> NoteSignature:
    name, gap, encoded = line.removeprefix(_PREFIX).partition(" ")
    if not line.startswith(_PREFIX) or not gap or not _NAME.fullmatch(name):
        raise NoteError("a signature line is a dash, a name and base64")
    data = _decoded(encoded, "signature line")
    if len(data) <= _KEY_ID_BYTES:
        raise NoteError("a signature line without a signature")
    return NoteSignature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def _decoded(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"a {what} with bad base64") from error
    if base64.b64encode(data).decode() != text:
        raise NoteError(f"a {what} with base64 of another spelling")
    return data
