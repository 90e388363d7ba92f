"""What pydantic finds wrong, in words for a person. Which value, and where it stands, is left to the caller."""

from pydantic_core import ErrorDetails

_WORDS = {"extra_forbidden": "unknown key", "missing": "is missing"}


def said(problem: ErrorDetails) -> str:
    """Return one problem's text: `unknown key`, `is missing`, or what a check of ours said."""
    return _WORDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
