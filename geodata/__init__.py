"""Border and country-group data that ship with Trigpoint, as bytes.

Reading them is all this room does; what they mean stands in verifier/place. Sources, dates and licenses: NOTICE and
docs/dependencies.md. Both files may be replaced by the operator's own through the server's configuration.
"""

from importlib import resources

BORDERS_VERSION = "country-coder-5.6.1"
"""Names the border data in every verdict."""

COUNTRY_GROUPS_VERSION = "country-groups-2026-06-20"
"""Names the country-group data in every verdict."""


def read_borders() -> bytes:
    """Return the GeoJSON FeatureCollection of country shapes, WGS 84 degrees, edges planar in longitude."""
    return resources.files(__name__).joinpath("borders.json").read_bytes()


def read_country_groups() -> bytes:
    """Return the CSV of export-control country groups: group, iso2, as_of, source, sureness."""
    return resources.files(__name__).joinpath("country_groups.csv").read_bytes()
