"""What pydantic finds wrong, in words for a person. Which value, and where it stands, is left to the caller."""

_WORDS = {"extra_forbidden": "unknown key", "missing": "is missing"}


def said(kind: str, message: str) -> str:
    """Return one problem's text: `unknown key`, `is missing`, or what a check of ours said."""
    return _WORDS.get(kind) or message.removeprefix("Value error, ")
