"""Names of peers: SPIFFE IDs with a role in the path.

`spiffe://<trust domain>/<role>/<name>` for people and landmarks, `/<role>/<country>/<name>` for a person who sees one
jurisdiction alone, `/agent/<licensee>/<name>`. The SPIFFE ID standard §2.2 allows letters, digits, `.`, `-` and `_` in
a path segment and forbids percent-encoding, and a licensee is free text; so every other byte, and `_` itself, is
written as `_` and two hex digits. Each name has one spelling. Reading certificates is left to server/rpc/access.py,
writing them to server/pki.py.
"""

import enum
import re
from dataclasses import dataclass

from server.escapes import escape, unescape

_COUNTRY = re.compile(r"[A-Z]{2}")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z")
_MAX_ID_BYTES = 2048
"""SPIFFE ID §2.3."""


class SpiffeError(ValueError):
    """Not the name of a peer of ours."""


@enum.unique
class Role(enum.StrEnum):
    """What a peer may be (docs/protocol.md RC10); server/rpc/access.py says what each may call."""

    VIEWER = "viewer"
    OFFICER = "officer"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"
    AGENT = "agent"
    LANDMARK = "landmark"


LIMITABLE = frozenset({Role.VIEWER, Role.OFFICER, Role.APPROVER, Role.AUDITOR})
"""Roles that may be limited to a jurisdiction (docs/protocol.md RC11)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls.

    Attributes:
        role: From the first segment of the path.
        name: The peer's own name; a landmark's id.
        licensee: Licensee that an agent reports for; empty for the other roles.
        jurisdiction: Country whose sites alone a person sees, ISO 3166-1 alpha-2; empty: the home authority's.
    """

    role: Role
    name: str
    licensee: str = ""
    jurisdiction: str = ""

    def __post_init__(self) -> None:
        """Refuse a peer without a name, an agent without a licensee, and a jurisdiction where none can be."""
        if not self.name or bool(self.licensee) != (self.role is Role.AGENT):
            raise SpiffeError(f"{self.role} needs a name, and an agent alone needs a licensee")
        if self.jurisdiction and self.role not in LIMITABLE:
            raise SpiffeError(f"{self.role} cannot be limited to a jurisdiction")
        if self.jurisdiction and not _COUNTRY.fullmatch(self.jurisdiction):
            raise SpiffeError(f"{self.jurisdiction!r} is no jurisdiction: ISO 3166-1 alpha-2, upper case")

    @property
    def path(self) -> str:
        """The SPIFFE path without its leading slash."""
        before = self.licensee or self.jurisdiction
        return "/".join((self.role.value, *map(escape, (before, self.name) if before else (self.name,))))


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
    try:
        names = [unescape(segment) for segment in segments]
    except ValueError as error:
        raise SpiffeError(str(error)) from error
    match role, names:
        case Role.AGENT, [licensee, name]:
            peer = Peer(role, name, licensee)
        case _, [jurisdiction, name] if jurisdiction and role in LIMITABLE:
            peer = Peer(role, name, jurisdiction=jurisdiction)
        case _, [name] if role is not Role.AGENT:
            peer = Peer(role, name)
        case _:
            raise SpiffeError(f"a path of role {role} has another number of segments")
    if peer.path != path:
        raise SpiffeError("the path is not spelled as it must be")  # one spelling a name
    return peer
