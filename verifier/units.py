"""Types for values that look alike and must not be mixed up. Units that no type carries stand in the name."""

from typing import NewType

Pdi = NewType("Pdi", bytes)
"""Physical device identity, 8 bytes, in the byte order of the certificate serial."""

DeviceKeyId = NewType("DeviceKeyId", bytes)
"""SHA-256 of the SubjectPublicKeyInfo of the device's ROM key, 32 bytes (docs/protocol.md I4)."""

ChainId = NewType("ChainId", bytes)
"""SHA-256 of a chain's concatenated DER, 32 bytes (docs/protocol.md I8)."""

Challenge = NewType("Challenge", bytes)
"""A server's challenge, 32 bytes (docs/protocol.md §2)."""

LandmarkKeyId = NewType("LandmarkKeyId", bytes)
"""SHA-256 of a landmark's raw Ed25519 public key, 32 bytes (docs/protocol.md R1)."""

LandmarkId = NewType("LandmarkId", str)
"""Name of a landmark in the registry."""

Domain = NewType("Domain", str)
"""Failure domain: landmarks that share one can be wrong together."""

CountryCode = NewType("CountryCode", str)
"""ISO 3166-1 alpha-2, upper case; ISO 3166-2 for the parts that have a shape of their own."""

Kilometers = NewType("Kilometers", float)
Nanoseconds = NewType("Nanoseconds", int)
