"""Files that a whole verifier is made of, small and of the form of the real ones."""

import json
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from firmware_stubs.ca import DeviceCA
from tests.verifier.helpers_evidence import borders, references_document
from verifier.place.groups import parse_groups
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas
from verifier.setting import BORDERS, COUNTRY_GROUPS, REFERENCE_VALUES, ROOT, Material

GROUPS = b"group,iso2,as_of,source,sureness\n" + b"".join(
    f"{group},{code},2026-01-01,nowhere,high\n".encode()
    for group, code in (("D:5", "XB"), ("E:1", "XB"), ("E:2", "XB"), ("A:5", "XA"))
)
REFERENCES = json.dumps(references_document()).encode()


def world() -> bytes:
    """The two countries of `borders`, and far away those that are always prohibited."""
    collection = json.loads(borders())
    for number, properties in enumerate(({"iso1A2": "HK"}, {"iso1A2": "MO"}, {"wikidata": "Q7835"})):
        west, south = 40.0 + 4 * number, -60.0
        ring = [[west, south], [west + 1, south], [west + 1, south + 1], [west, south]]
        geometry = {"type": "MultiPolygon", "coordinates": [[ring]]}
        collection["features"].append({"type": "Feature", "properties": properties, "geometry": geometry})
    return json.dumps(collection).encode()


WORLD = world()


def real_policy(**numbers: Any) -> PlacePolicy:
    """A policy that is made of these files, with these of its numbers."""
    groups = parse_groups(GROUPS, "lists of the test")
    return PlacePolicy(
        atlas=Atlas.parse(WORLD, "squares", groups.members),
        prohibited=groups.prohibited(),
        prohibited_version=groups.version,
        **numbers,
    )


def real_files(ca: DeviceCA) -> tuple[Material, ...]:
    """The files, with the root of this vendor."""
    return (
        Material(BORDERS, "squares", WORLD),
        Material(COUNTRY_GROUPS, "lists of the test", GROUPS),
        Material(REFERENCE_VALUES, "stub.json", REFERENCES),
        Material(ROOT, "root.pem", ca.root.certificate.public_bytes(Encoding.PEM)),
    )
