"""Why somebody does something: the text that stands in revisions, changes and cases."""

from server.rpc.errors import InvalidArgumentError

MAX_REASON = 500


def read_reason(text: str, field: str, *, least: int = 1, most: int = MAX_REASON) -> str:
    """Return the reason without blanks at its ends.

    Args:
        text: As it came.
        field: Its path in the request, for errors.
        least: Characters it must have.
        most: And may have.

    Raises:
        InvalidArgumentError: It is too short or too long, or holds control characters other than line breaks.
    """
    reason = text.strip()
    if not least <= len(reason) <= most or not all(c.isprintable() or c == "\n" for c in reason):
        raise InvalidArgumentError(field, f"{least} to {most} printable characters")
    return reason
