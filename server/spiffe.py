"""Names of peers: SPIFFE IDs with a role in the path.

`spiffe://<trust domain>/officer/<name>`, `/landmark/<id>` and `/agent/<licensee>/<name>`. The SPIFFE ID standard §2.2
allows letters, digits, `.`, `-` and `_` in a path segment and forbids percent-encoding, and a licensee is free text; so
every other byte, and `_` itself, is written as `_` and two hex digits. Each name has one spelling. Reading certificates
is left to server/rpc/access.py, writing them to server/pki.py.
"""

import enum
import re
from dataclasses import dataclass

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_ESCAPE = re.compile(rb"_([0-9a-f]{2})")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z")
_MAX_ID_BYTES = 2048
"""SPIFFE ID §2.3."""


class SpiffeError(ValueError):
    """Not the name of a peer of ours."""


@enum.unique
class Role(enum.StrEnum):
    """What a peer may be; server/rpc/access.py says what each may call."""

    AGENT = "agent"
    OFFICER = "officer"
    LANDMARK = "landmark"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls.

    Attributes:
        role: From the first segment of the path.
        name: The peer's own name; a landmark's id.
        licensee: Licensee that an agent reports for; empty for the other roles.
    """

    role: Role
    name: str
    licensee: str = ""

    def __post_init__(self) -> None:
        """Refuse a peer without a name, and an agent without a licensee."""
        if not self.name or bool(self.licensee) != (self.role is Role.AGENT):
            raise SpiffeError(f"{self.role} needs a name, and an agent alone needs a licensee")

    @property
    def path(self) -> str:
        """The SPIFFE path without its leading slash."""
        parts = (self.licensee, self.name) if self.role is Role.AGENT else (self.name,)
        return "/".join((self.role.value, *map(_escape, parts)))


def check_trust_domain(text: str) -> str:
    """Return `text` when it is a SPIFFE trust domain (SPIFFE ID §2.1), else raise `SpiffeError`."""
    if not _TRUST_DOMAIN.match(text):
        raise SpiffeError(f"{text!r} is no trust domain: 1 to 255 of a-z, 0-9, '.', '-' and '_'")
    return text


def format_id(trust_domain: str, peer: Peer) -> str:
    """Return the SPIFFE ID of `peer`."""
    uri = f"spiffe://{check_trust_domain(trust_domain)}/{peer.path}"
    if len(uri.encode()) > _MAX_ID_BYTES:
        raise SpiffeError(f"the SPIFFE ID is longer than {_MAX_ID_BYTES} bytes")
    return uri


def parse_id(uri: str, trust_domain: str) -> Peer:
    """Parse a SPIFFE ID of `trust_domain`; raises `SpiffeError` for every other text."""
    prefix = f"spiffe://{trust_domain}/"
    if not uri.startswith(prefix) or len(uri.encode()) > _MAX_ID_BYTES:
        raise SpiffeError(f"not a SPIFFE ID of {trust_domain}")
    return parse_path(uri.removeprefix(prefix))


def parse_path(path: str) -> Peer:
    """Parse a path as `Peer.path` gives it; raises `SpiffeError`."""
    role_text, *segments = path.split("/")
    try:
        role = Role(role_text)
    except ValueError:
        raise SpiffeError(f"no role {role_text!r}") from None
    names = [_unescape(segment) for segment in segments]
    match role, names:
        case Role.AGENT, [licensee, name]:
            peer = Peer(role, name, licensee)
        case ((Role.OFFICER | Role.LANDMARK), [name]):
            peer = Peer(role, name)
        case _:
            raise SpiffeError(f"a path of role {role} has another number of segments")
    if peer.path != path:
        raise SpiffeError("the path is not spelled as it must be")  # one spelling a name
    return peer


def _escape(text: str) -> str:
    escaped = "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in text.encode())
    return escaped.replace(".", "_2e") if escaped.strip(".") == "" else escaped  # SPIFFE ID §2.2 forbids `.` and `..`


def _unescape(segment: str) -> str:
    try:
        return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), segment.encode()).decode()
    except UnicodeDecodeError:
        raise SpiffeError("a path segment is not UTF-8") from None
