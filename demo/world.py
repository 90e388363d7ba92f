"""The world of the demonstration: invented operators, real places, four servers of one invented licensee."""

from dataclasses import dataclass

LICENSEE = "Meridian Compute"


@dataclass(frozen=True, slots=True)
class Spot:
    """A place, degrees WGS 84."""

    latitude: float
    longitude: float

    def __str__(self) -> str:
        return f"{self.latitude},{self.longitude}"


@dataclass(frozen=True, slots=True)
class LandmarkSpec:
    """A landmark of the demonstration. Its failure domain is its operator's."""

    name: str
    operator: str
    country: str
    spot: Spot


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One emulated server: where it really stands at first, and where its license says it may be.

    Attributes:
        key: A, B, C or D.
        city: For the story.
        spot: Where it stands at first.
        gpus: GPUs on its board of 8 slots.
        license_number: Its license.
        presence: `site`, `country` or `outside_prohibited`.
        country: The licensed country; empty for a site.
        radius_km: Radius of the licensed site around `spot`; 0 for a country.
        switches: Switches on its board.
    """

    key: str
    city: str
    spot: Spot
    gpus: int
    license_number: str
    presence: str
    country: str = ""
    radius_km: float = 0.0
    switches: int = 4


@dataclass(frozen=True, slots=True)
class World:
    """Landmarks and servers, and how often the servers must prove where they are."""

    landmarks: tuple[LandmarkSpec, ...]
    servers: tuple[ServerSpec, ...]
    cadence_s: int
    grace_s: int
    interval_s: int

    def server(self, key: str) -> ServerSpec:
        """Return a server by its key."""
        return next(spec for spec in self.servers if spec.key == key)


SHENZHEN = Spot(22.54, 114.06)
SINGAPORE_HALL = Spot(1.30, 103.70)
STOLEN_SLOT = 3
FREE_SLOT = 7
PATH_FACTOR = 1.5
"""How much longer than light in vacuum along the great circle an answer takes, as on good fibre routes."""

# Two landmarks of different operators stand near each site, so that f = 1 can be proven there, and three within
# 1,000 km of Shenzhen. Only one of those is so near that its whole disc may lie in prohibited destinations, and two
# domains (f + 1) would have to show it; so the move is flagged as OUTSIDE_LICENSED_REGION alone. Server D's site of
# 50 km is not provable, since only one landmark stands so near; that it is outside prohibited destinations is.
DEMO = World(
    landmarks=(
        LandmarkSpec("dallas", "Lone Star Timing", "US", Spot(32.78, -96.80)),
        LandmarkSpec("fort-worth", "Prairie Exchange", "US", Spot(32.75, -97.33)),
        LandmarkSpec("brasilia", "Planalto Metrology", "BR", Spot(-15.79, -47.88)),
        LandmarkSpec("goiania", "Cerrado Exchange", "BR", Spot(-16.69, -49.26)),
        LandmarkSpec("frankfurt", "Rhine Clockworks", "DE", Spot(50.11, 8.68)),
        LandmarkSpec("mannheim", "Palatine Exchange", "DE", Spot(49.49, 8.47)),
        LandmarkSpec("hong-kong", "Harbour Metrology", "HK", Spot(22.32, 114.17)),
        LandmarkSpec("taipei", "Strait Timing", "TW", Spot(25.04, 121.56)),
        LandmarkSpec("hanoi", "Red River Exchange", "VN", Spot(21.03, 105.85)),
        LandmarkSpec("singapore", "Equator Timing", "SG", Spot(1.35, 103.82)),
        LandmarkSpec("kuala-lumpur", "Klang Valley Exchange", "MY", Spot(3.14, 101.69)),
        LandmarkSpec("sydney", "Southern Cross Metrology", "AU", Spot(-33.87, 151.21)),
    ),
    servers=(
        ServerSpec("A", "Dallas", Spot(32.80, -96.90), 8, "DEMO-0001", "site", radius_km=1000),
        ServerSpec("B", "Brasilia", Spot(-15.80, -47.90), 8, "DEMO-0002", "country", country="BR"),
        ServerSpec("C", "Frankfurt", Spot(50.12, 8.70), 7, "DEMO-0003", "site", radius_km=1000),
        ServerSpec("D", "Singapore", SINGAPORE_HALL, 1, "DEMO-0004", "outside_prohibited", radius_km=50, switches=0),
    ),
    cadence_s=6,
    grace_s=8,
    interval_s=3,
)
