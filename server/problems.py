"""What pydantic finds wrong, in words for a person. Which value, and where it stands, is left to the caller."""

from collections.abc import Mapping

_WORDS = {
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
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
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": "is not a table",
    "path_type": "is not text",
    "string_too_long": "has more than {max_length} characters",
    "string_too_short": "is empty",
    "string_type": "is not text",
    "too_short": "has {actual_length} entries; {min_length} at least",
    "tuple_type": "is not a list",
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


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 90, not 90.0
    return f"{value:,}" if isinstance(value, int) else str(value)
