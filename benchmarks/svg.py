"""The two pieces of SVG that every picture is made of."""

from collections.abc import Iterable
from xml.sax.saxutils import escape


def page(width: int, height: int, parts: Iterable[str]) -> str:
    """Return a whole picture."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    return "\n".join([head, *parts, "</svg>", ""])


def text(x: float, y: float, words: str, *, color: str = "#333", anchor: str = "start", size: int = 12) -> str:
    """Return words that begin, end or are centered at a place."""
    shape = f'font-size="{size}" text-anchor="{anchor}" fill="{color}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {shape}>{escape(words)}</text>'
