"""Sites as files tell them: a name for people, and the id that follows from it."""

import re
from functools import lru_cache

from anyascii import anyascii

from verifier.place.regions import AnyOf, Complement, Countries, Group, Polygon, Region, SiteDisc

_LONGEST_ID = 63
_NO_ID = re.compile(r"[^a-z0-9]+")


@lru_cache(10_000)
def slug_of(title: str, otherwise: str) -> str:
    """Return an id that is made from a name: lower-case ASCII, at most 63 characters; `otherwise` if none is left."""
    plain = _NO_ID.sub("-", anyascii(title).lower()).strip("-")
    return plain[:_LONGEST_ID].rstrip("-") or otherwise


def title_of(region: Region) -> str:
    """Return a name for a site that is known by its region alone."""
    match region:
        case SiteDisc(name) | Polygon(name) | Group(name):
            return name
        case Countries(codes):
            return ", ".join(sorted(codes))
        case AnyOf(members):
            return ", ".join(dict.fromkeys(map(title_of, members)))
        case Complement(of):
            return f"outside {title_of(of)}"


def jurisdiction_of(region: Region) -> str:
    """Return the country of a region of one country, else none."""
    return next(iter(region.codes)) if isinstance(region, Countries) and len(region.codes) == 1 else ""
