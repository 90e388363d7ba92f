"""Pages of lists (AIP-158): sizes, and tokens that say where the next page begins.

A token is bound to what was listed, so that it cannot be used with another filter. It holds no secret and grants
nothing: whoever makes one up only chooses where a page begins.
"""

import base64
import binascii
import hashlib

from server.rpc.errors import InvalidArgumentError

DEFAULT_SIZE = 100
MAX_SIZE = 1_000
_BINDING_BYTES = 8


def page_size(asked: int) -> int:
    """Return the size to use; raises `InvalidArgumentError` for a negative one."""
    if asked < 0:
        raise InvalidArgumentError("page_size", "must not be negative")
    return min(asked or DEFAULT_SIZE, MAX_SIZE)


def write_token(listed: str, last: bytes) -> str:
    """Return the token of the page behind `last`. `listed` says what is listed: collection and filter."""
    return base64.urlsafe_b64encode(_binding(listed) + last).rstrip(b"=").decode()


def read_token(listed: str, token: str) -> bytes | None:
    """Return where the page begins, None at the start; raises `InvalidArgumentError`."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgumentError("page_token", "not a token of this service") from error
    if raw[:_BINDING_BYTES] != _binding(listed) or len(raw) == _BINDING_BYTES:
        raise InvalidArgumentError("page_token", "a token of another list or filter")
    return raw[_BINDING_BYTES:]


def _binding(listed: str) -> bytes:
    return hashlib.sha256(listed.encode()).digest()[:_BINDING_BYTES]
