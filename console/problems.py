"""What pydantic finds wrong, in words for a person. Which value, and where it stands, is left to the caller."""

import re
from collections.abc import Mapping

from pydantic import AfterValidator

_NO_TIME = "is no RFC 3339 time with its zone, as 2026-01-01T00:00:00Z"
_WORDS = {
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "datetime_from_date_parsing": _NO_TIME,
    "datetime_parsing": _NO_TIME,
    "datetime_type": _NO_TIME,
    "extra_forbidden": "unknown key",
    "finite_number": "is not a finite number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "int_from_float": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be {le} or less",
    "list_type": "is not a list",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": "is not an object",
    "string_too_long": "has more than {max_length} characters",
    "string_too_short": "is empty",
    "string_type": "is not text",
    "timezone_aware": _NO_TIME,
    "too_long": "has {actual_length} entries; {max_length} at most",
    "too_short": "has {actual_length} entries; {min_length} at least",
}


def said(kind: str, message: str, context: Mapping[str, object]) -> str:
    """Return one problem's text: `unknown key`, `is not a number`, or what a check of ours said.

    Args:
        kind: As pydantic names it.
        message: Pydantic's own.
        context: The bounds and the like that it names.
    """
    words = _WORDS.get(kind)
    if words is None:
        return message.removeprefix("Value error, ")
    return words.format(**{name: _plain(value) for name, value in context.items()})


def like(pattern: str, otherwise: str) -> AfterValidator:
    """Return a check that a text is as a pattern says, which says it in these words when it is not."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(otherwise)
        return text

    return AfterValidator(check)


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 90, not 90.0
    return f"{value:,}" if isinstance(value, int) else str(value)
